"""What the client makes of messages that an offramp server does not send."""

import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from offramp.client import CallFailedError, ServerFailedError
from offramp.client.core import answer_of
from offramp.client.errors import error_from_status
from offramp.v1 import classification_pb2 as pb
from offramp.v1 import classifier_service_pb2 as service_pb


@pytest.mark.parametrize("count", [0, 2])
def test_one_input_has_one_result(count: int) -> None:
    result = pb.ClassifyResult(classification=pb.Classification(label="yes"))
    response = service_pb.ClassifyTextResponse(results=[result] * count)
    with pytest.raises(CallFailedError, match=f"gave {count} results for one input"):
        answer_of(response)


def test_a_result_says_what_became_of_its_input() -> None:
    response = service_pb.ClassifyTextResponse(results=[pb.ClassifyResult()])
    with pytest.raises(CallFailedError, match="a result without an outcome"):
        answer_of(response)


def test_a_reason_of_another_domain_is_none_of_ours() -> None:
    status = Status(code=13, message="busy")
    status.details.add().Pack(ErrorInfo(reason="QUEUE_FULL", domain="proxy.example"))
    assert type(error_from_status(status)) is ServerFailedError
