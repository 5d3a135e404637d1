"""What exits say of requests."""

from collections.abc import Sequence
from typing import NamedTuple, overload


class Reading(NamedTuple):
    """What the head of one exit says of a request; the score is compared with its threshold.

    A score that is no number says that the model gave none: the request fails.
    """

    label: int
    score: float
    probabilities: tuple[float, ...]

    @property
    def confidence(self) -> float:
        """Probability of the label."""
        return self.probabilities[self.label]


class StepReadings(Sequence[Reading]):
    """The readings of a step by their columns: each is made when it is asked for, as few are."""

    __slots__ = ("_labels", "_probabilities", "scores")

    def __init__(
        self,
        labels: Sequence[int],
        scores: Sequence[float],
        probabilities: Sequence[tuple[float, ...]],
    ) -> None:
        self._labels = labels
        self._probabilities = probabilities
        self.scores = scores

    def __len__(self) -> int:
        return len(self.scores)

    @overload
    def __getitem__(self, at: int) -> Reading: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Reading]: ...
    def __getitem__(self, at: int | slice) -> Reading | Sequence[Reading]:
        if isinstance(at, slice):
            return StepReadings(self._labels[at], self.scores[at], self._probabilities[at])
        return Reading(self._labels[at], self.scores[at], self._probabilities[at])


def scores_of(readings: Sequence[Reading]) -> Sequence[float]:
    """The score of each."""
    if isinstance(readings, StepReadings):
        return readings.scores
    return [reading.score for reading in readings]
