"""What the server is told: what gRPC's numbers hold is taken, what they do not is refused."""

from pathlib import Path
from typing import Any

import pytest
from service import word_service

from offramp.server.config import ServerConfig

HIGHEST = {"max_message_bytes": 2**29 - 1, "max_connection_age": 2_147_483}


@pytest.mark.parametrize("name", HIGHEST)
async def test_no_option_is_more_than_grpc_counts(tmp_path: Path, name: str) -> None:
    highest = HIGHEST[name]
    settings: dict[str, Any] = {name: highest}
    async with word_service(tmp_path, **settings) as service:
        assert (await service.client.classify("easy")).label == "yes"
    settings[name] += 1
    with pytest.raises(ValueError, match=f"{name} must be at most {highest}, not {highest + 1}"):
        ServerConfig("127.0.0.1:0", (tmp_path / "words",), **settings)


def test_names_are_those_of_the_paths(tmp_path: Path) -> None:
    link = tmp_path / "other" / "current"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "v1")
    ServerConfig("127.0.0.1:0", (tmp_path / "v1", link))
    with pytest.raises(ValueError, match="must have different names"):
        ServerConfig("127.0.0.1:0", (tmp_path / "current", link))


@pytest.mark.parametrize("name", ["workers", "threads"])
def test_no_machine_has_so_many_cores(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at most 1024, not 100000"):
        ServerConfig("127.0.0.1:0", (Path("x"),), **{name: 100_000})  # type: ignore[arg-type]
