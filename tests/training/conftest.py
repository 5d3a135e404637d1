"""One thread a process: tensors here are small, and threads that wait for a busy core cost more."""

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """A server that ran in this process before may have left more."""
    torch.set_num_threads(1)
