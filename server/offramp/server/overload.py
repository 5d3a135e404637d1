"""Which thresholds a model may fall to under overload."""

from offramp.model.calibration import Calibration
from offramp.scheduler.relief import Relief


def relief_of(calibration: Calibration, accuracy_drop: float, delay: float) -> Relief:
    """Relief down to the lowest threshold that is promised to lose at most `accuracy_drop`.

    None at a drop of 0. Raises ValueError where the checkpoint's table allows no such threshold
    below the default.
    """
    if not accuracy_drop:
        return Relief()
    usual = calibration.default_threshold
    try:
        lowest = calibration.threshold_within(accuracy_drop)
    except LookupError as error:
        raise ValueError(f"{error}, or leave overload_accuracy_drop at 0") from error
    if lowest >= usual:
        raise ValueError(
            f"no threshold below the default {usual:g} is promised to lose at most"
            f" {accuracy_drop:g} of accuracy; allow more, or leave overload_accuracy_drop at 0"
        )
    steps = [row.threshold for row in calibration.table if lowest <= row.threshold < usual]
    return Relief(steps, delay)
