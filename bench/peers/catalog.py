"""The peers: what each needs, how it is started and called, and what is tuned."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import adapters
from environments import BARE, SERVERS

from offramp.cli.load.target import Target

BATCHES = (1, 4, 8)
CORES = 2


@dataclass(frozen=True, slots=True)
class Setting:
    """Texts in a batch at most, threads of a copy of the model, seconds a batch waits, copies.

    And whether idle threads wait awake.
    """

    batch: int
    threads: int
    wait: float
    workers: int = 1
    spins: bool = True

    def __str__(self) -> str:
        texts = f"batches to {self.batch}" if self.batch > 1 else "batch 1"
        wait = f", waits {self.wait * 1e3:g} ms" if self.wait else ""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        workers = f"{self.workers} workers of " if self.workers > 1 else ""
        return f"{texts}, {workers}{threads}{wait}{'' if self.spins else ', asleep when idle'}"


@dataclass(frozen=True, slots=True)
class Peer:
    """A server: the packages it needs, how it is called, its script or command, its waits."""

    packages: tuple[str, ...]
    target: Callable[[str], Target[str]]
    command: Callable[[Path, int], Sequence[str]]
    waits: tuple[float, ...] = (0.0,)

    def settings(self, best: Callable[[], Setting]) -> Iterator[Setting]:
        """Those to try: each batch size, on shared cores and on a core each, then what is left.

        The waits of batches, and of threads that share the cores whether they sleep when idle.
        """
        shared = [Setting(batch, CORES, self.waits[0] if batch > 1 else 0.0) for batch in BATCHES]
        yield from shared
        for setting in shared:
            yield replace(setting, threads=1, workers=CORES)
        if best().batch > 1:
            for wait in self.waits[1:]:
                yield replace(best(), wait=wait)
        if best().threads > 1:
            yield replace(best(), spins=False)


def _script(name: str) -> Callable[[Path, int], Sequence[str]]:
    return lambda bin_, _: [str(bin_ / "python"), str(SERVERS / name)]


def _bentoml(bin_: Path, port: int) -> Sequence[str]:
    where = ["--host", "127.0.0.1", "--port", str(port), "--working-dir", str(SERVERS)]
    return [str(bin_ / "bentoml"), "serve", "bentoml_server:Peer", *where]


PEERS = {
    "grpc.aio": Peer(BARE, adapters.BareGrpc, _script("grpc_server.py")),
    "Triton": Peer(
        ("nvidia-pytriton==0.7.0", "numpy==1.26.4"),
        adapters.triton,
        _script("triton_server.py"),
        (0.0, 0.005),
    ),
    "infinity": Peer(
        ("infinity-emb[server]==0.0.78", "numpy==1.26.4"),
        adapters.infinity,
        _script("infinity_server.py"),
    ),
    "LitServe": Peer(
        ("litserve==0.2.19", "numpy==2.4.6"),
        adapters.litserve,
        _script("litserve_server.py"),
        (0.001, 0.005),
    ),
    "Ray Serve": Peer(
        ("ray[serve]==2.60.0", "numpy==2.4.6"),
        adapters.ray,
        _script("ray_server.py"),
        (0.0, 0.005),
    ),
    "BentoML": Peer(("bentoml==1.4.39", "numpy==2.4.6"), adapters.bentoml, _bentoml),
}
