"""What a container's control groups leave of the machine."""

import os
from pathlib import Path

import pytest

from offramp.server.control_group import allowed_cores, allowed_memory


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The directory of this process's group, below `tmp_path` as the root."""
    group = tmp_path / "sys/fs/cgroup/system.slice/offramp.service"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/system.slice/offramp.service\n")
    return group


def test_memory_is_what_the_narrowest_group_has(tmp_path: Path, own: Path) -> None:
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert allowed_memory(tmp_path / "nowhere") == whole  # without control groups
    (own / "memory.max").write_text("max\n")
    assert allowed_memory(tmp_path) == whole
    (own / "memory.max").write_text("1048576\n")
    assert allowed_memory(tmp_path) == 2**20
    (own.parent / "memory.max").write_text("4096\n")
    assert allowed_memory(tmp_path) == 4096


def test_cores_are_what_the_quota_pays_for(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert allowed_cores(tmp_path / "nowhere") == 64
    (own / "cpu.max").write_text("max 100000\n")
    assert allowed_cores(tmp_path) == 64
    (own / "cpu.max").write_text("350000 100000\n")
    assert allowed_cores(tmp_path) == 4
    (own.parent / "cpu.max").write_text("20000 100000\n")
    assert allowed_cores(tmp_path) == 1
