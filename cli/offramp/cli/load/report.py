"""From samples to figures."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from offramp.cli.load.run import Sample


@dataclass(frozen=True, slots=True)
class Summary:
    """Latencies in milliseconds from due to done; what failed counts as never answered.

    So a percentile is infinite where more failed than it leaves out. `mean` and `longest` are of
    what was answered.
    """

    messages: int
    answered: int
    errors: dict[str, int]
    seconds: float
    answered_per_second: float
    mean: float
    p50: float
    p90: float
    p99: float
    longest: float
    late_p99: float
    exits: dict[int, int]
    mean_layers: float | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which knows no NaN: None where nothing was answered, or not enough."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in asdict(self).items()
        }


def percentile(ascending: Sequence[float], share: float) -> float:
    """Nearest-rank percentile of sorted values; NaN of none."""
    if not ascending:
        return math.nan
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def summarize(samples: Sequence[Sample]) -> Summary:
    """Figures of one run; `late_p99` is how far the generator itself lagged behind."""
    good = [sample for sample in samples if not sample.error]
    latencies = sorted(sample.latency * 1e3 for sample in good)
    all_of_them = latencies + [math.inf] * (len(samples) - len(good))
    seconds = max((sample.done for sample in samples), default=0.0)
    exits = Counter(s.reply.exit for s in good if s.reply and s.reply.exit is not None)
    layers = [s.reply.layer for s in good if s.reply and s.reply.layer is not None]
    late = sorted((sample.sent - sample.due) * 1e3 for sample in samples)
    return Summary(
        messages=len(samples),
        answered=len(good),
        errors=dict(Counter(sample.error for sample in samples if sample.error)),
        seconds=seconds,
        answered_per_second=len(good) / seconds if seconds else 0.0,
        mean=statistics.fmean(latencies) if latencies else math.nan,
        p50=percentile(all_of_them, 0.5),
        p90=percentile(all_of_them, 0.9),
        p99=percentile(all_of_them, 0.99),
        longest=latencies[-1] if latencies else math.nan,
        late_p99=percentile(late, 0.99),
        exits=dict(sorted(exits.items())),
        mean_layers=statistics.fmean(layers) if layers else None,
    )
