"""The server's error table and the client's are inverse; what failed unlike is told one by one."""

from pathlib import Path

import pytest
from service import word_service
from wire import reason, unary, wire

from offramp.client import errors as client_errors
from offramp.scheduler.errors import DeadlineUnreachableError, DrainingError, QueueFullError
from offramp.server.errors import ModelNotFoundError
from offramp.server.statuses import (
    LONGEST_MESSAGE,
    TABLE,
    UNEXPECTED,
    Row,
    status_of,
    trailing_metadata,
)


@pytest.mark.parametrize("row", [*TABLE.values(), UNEXPECTED], ids=lambda row: row.reason)
def test_every_reason_and_its_code_name_the_same_class(row: Row) -> None:
    assert client_errors.REASONS[row.reason] is client_errors.CODES[row.code]


def test_the_delay_travels() -> None:
    error = client_errors.error_from_status(status_of(QueueFullError(0.25)))
    assert isinstance(error, client_errors.OverloadedError)
    assert error.retry_after == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("error", "remaining", "pushback"),
    [
        (QueueFullError(0.25), None, "250"),
        (QueueFullError(0.25), 0.3, "250"),
        (QueueFullError(0.25), 0.2, "-1"),  # who waits for it learns only that it is too late
        (QueueFullError(0.0), 1.0, "1"),
        (DeadlineUnreachableError(2.0, 1.0), 1.0, "-1"),
        (DrainingError(), 1.0, None),
    ],
)
def test_a_retry_is_asked_for_where_it_can_come_in_time(
    error: Exception, remaining: float | None, pushback: str | None
) -> None:
    told = dict(trailing_metadata(error, status_of(error), remaining))
    assert told.get("grpc-retry-pushback-ms") == pushback


def test_of_very_many_models_some_are_told() -> None:
    names = tuple(f"model-{i}" for i in range(1000))
    message = status_of(ModelNotFoundError("other", names)).message
    assert len(message) <= LONGEST_MESSAGE
    assert message.startswith("no model 'other' is served here; there are model-0, model-1, ")
    assert message.endswith(", model-999")


def test_the_client_knows_no_other_reasons() -> None:
    assert client_errors.REASONS.keys() == {row.reason for row in (*TABLE.values(), UNEXPECTED)}


async def test_inputs_of_a_message_that_fail_unlike_have_each_its_own_error(tmp_path: Path) -> None:
    async with word_service(tmp_path) as service, wire(service.address) as raw:
        response = await raw.classifier.ClassifyText(unary("", "poison"))
        errors = [result.error for result in response.results]
        assert list(map(reason, errors)) == ["INVALID_REQUEST", "STEP_FAILED"]
