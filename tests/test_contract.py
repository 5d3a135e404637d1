"""The contract keeps the conventions of Buf's STANDARD rules, read from its descriptors."""

import re
from collections.abc import Iterator

from google.protobuf import descriptor_pb2
from service import ROOT

from offramp.v1 import classification_pb2, classifier_service_pb2, model_service_pb2

MODULES = (classification_pb2, classifier_service_pb2, model_service_pb2)
SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
CAMEL = re.compile(r"([A-Z][a-z0-9]+)+")


def files() -> Iterator[descriptor_pb2.FileDescriptorProto]:
    for module in MODULES:
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        yield file


def test_every_proto_is_looked_at() -> None:
    there = {path.name for path in (ROOT / "protos" / "offramp" / "v1").glob("*.proto")}
    assert {file.name.rpartition("/")[2] for file in files()} == there


def test_packages_and_names() -> None:
    for file in files():
        assert file.package == "offramp.v1"
        assert file.name.startswith("offramp/v1/")
        assert file.syntax == "proto3"
        for message in file.message_type:
            assert CAMEL.fullmatch(message.name), message.name
            for field in message.field:
                assert SNAKE.fullmatch(field.name), field.name


def test_enum_values_are_prefixed_and_zero_is_unspecified() -> None:
    for file in files():
        for enum in file.enum_type:
            prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"
            assert all(value.name.startswith(prefix) for value in enum.value)
            assert (enum.value[0].name, enum.value[0].number) == (f"{prefix}UNSPECIFIED", 0)


def test_every_call_has_a_request_and_a_response_of_its_own() -> None:
    used: list[str] = []
    for file in files():
        for service in file.service:
            assert service.name.endswith("Service")
            for method in service.method:
                used += [method.input_type, method.output_type]
                assert method.input_type == f".offramp.v1.{method.name}Request"
                assert method.output_type == f".offramp.v1.{method.name}Response"
    assert len(used) == len(set(used)) == 8
