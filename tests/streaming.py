"""A server for tests of streams, whose unary calls nobody makes."""

from typing import Never

from offramp.v1.classifier_service_pb2_grpc import ClassifierServiceServicer


class StreamsAlone(ClassifierServiceServicer):
    """What it says to a stream is a test's own."""

    def ClassifyText(self, request: object, context: object) -> Never:  # noqa: N802
        """Never called."""
        raise NotImplementedError
