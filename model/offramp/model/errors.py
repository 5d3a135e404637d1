"""What can be wrong with a model directory or a pretrained encoder."""

from pathlib import Path


class ModelError(Exception):
    """Anything the model package refuses, told in a sentence that says what to do."""


class CheckpointError(ModelError):
    """A checkpoint directory that is missing, damaged or foreign; names the file and the cause."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(f"{path}: {cause}")
        self.path = path
        self.cause = cause


class UnsupportedEncoderError(ModelError):
    """A pretrained encoder of a family or with an option that offramp does not run."""
