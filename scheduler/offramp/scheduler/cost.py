"""What a step costs: t(stage, rows, tokens), learned from the steps themselves.

Nothing is assumed of its shape but that steps of about the same tokens cost about the same. Each
stage keeps a *knot* per half octave of tokens, the mean of the steps seen there, and is read off
the polyline through its knots; rows matter besides tokens by one slope per stage, what remains
after the knots. So a time per token that rises again beyond the caches shows, and `best_tokens`
finds the step size of least time per token.

Two things keep it steady. A step counts as at most `CLIP` times longer or shorter than predicted,
so one outlier moves a knot by little; but the first beyond all knots may be much shorter, for a
guess in proportion knows nothing of what a step costs whatever its size. And the knots of a stage
share a *pace*, the recent mean of actual over predicted: when another process takes a core, a few
steps of any size correct the prediction of all sizes, those long unseen included. A pace that lasts
becomes that of the knots that are seen; the others are as before again. It fades, for nothing else
tells it from them, and of noise alone the one would fall for ever as the others rise.
"""

from bisect import bisect_left
from math import exp, log2

CLIP = 2.0
"""An observation counts as at most this many times its prediction, and at least the inverse."""

MEMORY = 0.05
"""Weight of a new step in its knot, once the knot has seen 1 / MEMORY."""

MOST_MEMORY = 0.25

PACE = 2.0
"""A new step weighs so many times more in the pace: it follows a change within some ten steps."""

FADE = 0.4
"""The pace loses so many times the weight of a step: half within some 35 steps."""

SURE = 5
"""Steps that a knot has seen before its time per token counts for the best step size."""

WORTH = 1.03
"""The best step size is the largest within this factor of the least time per token."""


class Knot:
    """Mean rows, tokens and seconds of the steps of about one size."""

    __slots__ = ("count", "rows", "seconds", "tokens")

    def __init__(self, rows: int, tokens: int, seconds: float) -> None:
        self.count = 1
        self.rows = float(rows)
        self.tokens = float(tokens)
        self.seconds = seconds

    def observe(self, rows: int, tokens: int, seconds: float, memory: float) -> None:
        """Learn from one step."""
        self.count += 1
        weight = max(1 / self.count, memory)
        self.rows += weight * (rows - self.rows)
        self.tokens += weight * (tokens - self.tokens)
        self.seconds += weight * (seconds - self.seconds)


class StageCost:
    """The cost of one stage."""

    def __init__(self, memory: float) -> None:
        self._memory = memory
        self._sizes: list[int] = []  # half octaves of the knots, ascending
        self._line: list[Knot] = []
        self._at: list[float] = []  # their tokens
        self._per_row = self._spread = self._product = 0.0
        self._log_pace = 0.0
        self._pace = 1.0

    def observe(self, rows: int, tokens: int, seconds: float) -> float:
        """Learn from one step; returns the seconds that were predicted of it, as `predict`."""
        expected, usual = self._through(tokens)
        predicted = self._paced(expected, usual, rows)
        size = round(2 * log2(tokens))
        at = bisect_left(self._sizes, size)
        beyond = at == len(self._sizes)
        if predicted:
            least = self._pace * self._line[-1].seconds if beyond else predicted
            seconds = min(max(seconds, min(least, predicted) / CLIP), predicted * CLIP)
        if beyond or self._sizes[at] != size:
            # A guess at what was never seen teaches nothing of the pace.
            self._sizes.insert(at, size)
            self._line.insert(at, Knot(rows, tokens, seconds / self._pace))
            self._at.insert(at, tokens)
            return predicted
        knot = self._line[at]
        surprise = seconds / predicted - 1
        self._log_pace += self._memory * (PACE * surprise - FADE * self._log_pace)
        self._pace = exp(self._log_pace)
        seconds /= self._pace
        apart = rows - knot.rows
        self._spread += self._memory * (apart * apart - self._spread)
        self._product += self._memory * (apart * (seconds - expected) - self._product)
        # Half a row of variance is too little to tell rows from noise.
        self._per_row = max(self._product, 0.0) / max(self._spread, 0.5)
        knot.observe(rows, tokens, seconds, self._memory)
        self._at[at] = knot.tokens
        return predicted

    def predict(self, rows: float | None, tokens: float) -> float:
        """Seconds of a step; 0 before anything was observed."""
        return self._paced(*self._through(tokens), rows)

    def best_tokens(self, most: int) -> int:
        """The largest step size of about the least time per token, or `most`."""
        line = [knot for knot in self._line if knot.count >= SURE]
        if not line or line[-1].seconds / line[-1].tokens <= WORTH * min(
            knot.seconds / knot.tokens for knot in line
        ):
            return most
        least = min(knot.seconds / knot.tokens for knot in line)
        good = [knot for knot in line if knot.seconds / knot.tokens <= WORTH * least]
        return min(most, round(good[-1].tokens))

    def _paced(self, seconds: float, usual: float, rows: float | None) -> float:
        """What a step takes now that has seconds and rows of the polyline."""
        if rows is not None and self._per_row:
            seconds = max(seconds + self._per_row * (rows - usual), 0.5 * seconds)
        return self._pace * seconds

    def _through(self, tokens: float) -> tuple[float, float]:
        """Seconds and rows on the polyline, 0 if there is none; beyond it flat to in proportion."""
        line = self._line
        if not line:
            return 0.0, 0.0
        if len(line) == 1:
            share = max(1.0, tokens / line[0].tokens)
            return line[0].seconds * share, line[0].rows * share
        at = min(max(bisect_left(self._at, tokens), 1), len(line) - 1)
        low, high = line[at - 1], line[at]
        share = (tokens - low.tokens) / (high.tokens - low.tokens)
        rows = low.rows + share * (high.rows - low.rows)
        if 0 <= share <= 1:
            return low.seconds + share * (high.seconds - low.seconds), rows
        slope = (high.seconds - low.seconds) / (high.tokens - low.tokens)
        end = high if share > 1 else low
        slope = min(max(slope, 0.0), end.seconds / end.tokens)
        return end.seconds + slope * (tokens - end.tokens), rows


class CostModel:
    """The cost of every stage; `error` is the recent mean of |actual - predicted| / actual.

    A new step has the weight `memory` in what is learned; with 0 all steps weigh alike. Raises
    ValueError of one above MOST_MEMORY, with which pace and knots would follow noise apart.
    """

    def __init__(self, stages: int, memory: float = MEMORY) -> None:
        if not 0 <= memory <= MOST_MEMORY:
            raise ValueError(f"memory must be 0 to {MOST_MEMORY}, not {memory}")
        self._stages = [StageCost(memory) for _ in range(stages)]
        self._reading = [0.0] * stages
        self.error = 0.0

    def observe(self, stage: int, rows: int, tokens: int, seconds: float) -> None:
        """Learn from one step."""
        if seconds <= 0:
            return
        predicted = self._stages[stage].observe(rows, tokens, seconds)
        if predicted:
            self.error += MEMORY * (min(abs(predicted / seconds - 1), 1.0) - self.error)

    def predict(self, stage: int, rows: float | None, tokens: float) -> float:
        """Seconds that a step takes, of the usual rows for its tokens where these are None.

        0 before the stage was ever observed.
        """
        return self._stages[stage].predict(rows, tokens)

    def observe_reading(self, stage: int, seconds: float) -> None:
        """Learn what reading the exit of a stage costs, measured with it and without."""
        self._reading[stage] = max(seconds, 0.0)

    def reading_seconds(self, stage: int) -> float:
        """What reading the exit of a stage costs; 0 before it was measured."""
        return self._reading[stage]

    def best_tokens(self, stage: int, most: int) -> int:
        """The step size in tokens, up to `most`, that costs least a token."""
        return self._stages[stage].best_tokens(most)
