"""What a step costs, learned from the steps themselves."""

FORGETTING = 0.98
"""Weight that an observation keeps with each later one of its stage: a memory of about 50 steps."""


class StageCost:
    """Weighted least squares of seconds = fixed + per token * tokens, both at least 0."""

    def __init__(self) -> None:
        self._weight = self._x = self._y = self._xx = self._xy = 0.0

    def observe(self, tokens: int, seconds: float) -> None:
        """Learn from one step."""
        keep = FORGETTING
        self._weight = keep * self._weight + 1
        self._x = keep * self._x + tokens
        self._y = keep * self._y + seconds
        self._xx = keep * self._xx + tokens * tokens
        self._xy = keep * self._xy + tokens * seconds

    def predict(self, tokens: int) -> float:
        """Seconds that a step of `tokens` takes; 0 before anything was observed."""
        if not self._weight:
            return 0.0
        variance = self._weight * self._xx - self._x * self._x
        if variance <= 1e-6 * self._weight * self._xx:
            return self._y / self._weight * max(1.0, tokens * self._weight / self._x)
        per_token = (self._weight * self._xy - self._x * self._y) / variance
        per_token = min(max(per_token, 0.0), self._y / self._x)
        fixed = (self._y - per_token * self._x) / self._weight
        return fixed + per_token * tokens


class CostModel:
    """One line per stage, in tokens."""

    def __init__(self, stages: int) -> None:
        self._stages = [StageCost() for _ in range(stages)]

    def observe(self, stage: int, tokens: int, seconds: float) -> None:
        """Learn from one step."""
        self._stages[stage].observe(tokens, seconds)

    def predict(self, stage: int, tokens: int) -> float:
        """Seconds that a step of `tokens` of `stage` takes."""
        return self._stages[stage].predict(tokens)
