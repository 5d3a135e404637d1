"""How long an event loop was held, and how long the machine itself stands still."""

import asyncio
import time
from collections.abc import Sequence

HEARTBEAT = 0.001
LONG_STEP = 0.005
"""No step of the event loop is to take longer, in seconds."""


class LoopWatch:
    """Notes how long the event loop was held: the delay of a timer beyond its time.

    And how much of the CPU its thread used meanwhile: what is left of a hold was not the loop's
    work, the system let somebody else run. A virtual machine that stands still counts as work, and
    the CPU's clock catches up in leaps, which is why work is never more than the time that went by.
    What is done while it is not `counting` is somebody else's.
    """

    def __init__(self) -> None:
        self.counting = False
        self.holds: list[float] = []
        self.worked: list[float] = []
        self.seconds = 0.0

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            started, before = time.perf_counter(), time.thread_time()
            await asyncio.sleep(HEARTBEAT)
            worked, passed = time.thread_time() - before, time.perf_counter() - started
            if not self.counting:
                continue
            self.holds.append(passed - HEARTBEAT)
            self.worked.append(min(worked, passed))
            self.seconds += passed


def steps(seconds: Sequence[float]) -> dict[str, float]:
    """Longest, 99.9th percentile, and how many are too long."""
    ordered = sorted(seconds)
    return {
        "longest_ms": ordered[-1] * 1e3,
        "p999_ms": ordered[int(len(ordered) * 0.999)] * 1e3,
        "over_5_ms": sum(one > LONG_STEP for one in ordered),
    }


def machine_pauses(seconds: float) -> list[float]:
    """What a thread that only reads clocks takes for its own work, above half a millisecond."""
    found: list[float] = []
    passed, worked = time.perf_counter(), time.thread_time()
    ends = passed + seconds
    while passed < ends:
        now, used = time.perf_counter(), time.thread_time()
        if (pause := min(now - passed, used - worked)) > HEARTBEAT / 2:
            found.append(pause)
        passed, worked = now, used
    return found
