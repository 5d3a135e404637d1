"""When Python looks for garbage: seldom, for nearly all of it goes without being looked for."""

import gc

THRESHOLDS = (10_000, 20, 20)
"""Objects between two collections of the youngest; Python's own 700 take an eighth of the loop."""


def settle() -> None:
    """What was imported and loaded stays: a full collection would hold the loop 0.1 s over it."""
    gc.set_threshold(*THRESHOLDS)
    gc.collect()
    gc.freeze()


def release() -> None:
    """At the end all may go, in the order in which Python lets things go."""
    gc.unfreeze()
