"""The server's error table and the client's are inverse."""

import pytest

from offramp.client import errors as client_errors
from offramp.scheduler.errors import QueueFullError
from offramp.server.errors import ModelNotFoundError
from offramp.server.statuses import LONGEST_MESSAGE, TABLE, UNEXPECTED, Row, status_of


@pytest.mark.parametrize("row", [*TABLE.values(), UNEXPECTED], ids=lambda row: row.reason)
def test_every_reason_and_its_code_name_the_same_class(row: Row) -> None:
    assert client_errors.REASONS[row.reason] is client_errors.CODES[row.code]


def test_the_delay_travels() -> None:
    error = client_errors.error_from_status(status_of(QueueFullError(0.25)))
    assert isinstance(error, client_errors.OverloadedError)
    assert error.retry_after == pytest.approx(0.25)


def test_of_very_many_models_some_are_told() -> None:
    names = tuple(f"model-{i}" for i in range(1000))
    message = status_of(ModelNotFoundError("other", names)).message
    assert len(message) <= LONGEST_MESSAGE
    assert message.startswith("no model 'other' is served here; there are model-0, model-1, ")
    assert message.endswith(", model-999")


def test_the_client_knows_no_other_reasons() -> None:
    assert client_errors.REASONS.keys() == {row.reason for row in (*TABLE.values(), UNEXPECTED)}
