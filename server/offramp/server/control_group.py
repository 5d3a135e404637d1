"""What the control groups of this process allow it: memory, cores (version 2 of them).

It is in one, which is in another, and so on; a container has one of its own.
"""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/")
PAGE = os.sysconf("SC_PAGE_SIZE")


def allowed_memory(root: Path = ROOT) -> int:
    """Bytes that this process may have: the machine's, or those of a control group with fewer."""
    allowed = os.sysconf("SC_PHYS_PAGES") * PAGE
    for told in _told("memory.max", root):
        with suppress(ValueError):  # `max` is no limit
            allowed = min(allowed, int(told))
    return allowed


def allowed_cores(root: Path = ROOT) -> int:
    """Cores that this process may keep busy: those it may run on, or as many as its quota pays."""
    allowed = len(os.sched_getaffinity(0))
    for told in _told("cpu.max", root):
        with suppress(ValueError):  # `max` is no limit
            quota, period = map(int, told.split())
            allowed = min(allowed, math.ceil(quota / period))
    return max(1, allowed)


def _told(file: str, root: Path) -> Iterator[str]:
    """What the groups say of a limit, from its own outwards."""
    top = root / "sys/fs/cgroup"
    with suppress(OSError):
        told = (root / "proc/self/cgroup").read_text(encoding="utf-8")
        own = top / told.rpartition("::")[2].strip().lstrip("/")
        for group in (own, *own.parents):
            with suppress(OSError):  # the topmost has no such file
                yield (group / file).read_text(encoding="ascii")
            if group == top:
                break
