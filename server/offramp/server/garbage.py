"""When Python looks for garbage: seldom, for nearly all of it goes without being looked for."""

import gc

THRESHOLDS = (2_000, 100, 20)
"""New objects until the youngest are looked through, and how often before the next generation.

Python's own thresholds take an eighth of the loop. gRPC leaves a cycle of five objects behind each
call, so that the youngest are mostly garbage: 10,000 of them would hold the loop for 3 ms.
"""


def settle() -> None:
    """What was imported and loaded stays: a full collection would hold the loop 0.1 s over it.

    Done again after a swap, it looks at what is new alone. What is replaced goes without it.
    """
    gc.set_threshold(*THRESHOLDS)
    gc.collect()
    gc.freeze()


def release() -> None:
    """All may go: at the end, in the order in which Python lets things go."""
    gc.unfreeze()
