"""Generate the stubs beside the .proto files, or check that they are what would be generated.

Runs in an environment of its own with the oldest supported grpcio-tools (`constraints.txt`):
code made by a newer one refuses older runtimes. `make protos` sets that up.
"""

import argparse
import filecmp
import sys
import tempfile
from pathlib import Path

import grpc_tools
from google.rpc import status_pb2
from grpc_tools import protoc

ROOT = Path(__file__).parent
PACKAGE = Path("offramp/v1")
PLUGINS = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
PATTERNS = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def generate(target: Path) -> None:
    """Write the stubs of every .proto into `target`; services get gRPC stubs, messages do not."""
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    common = Path(status_pb2.__file__).parents[2]
    plugins = Path(sys.executable).parent
    for proto in sorted((ROOT / PACKAGE).glob("*.proto")):
        arguments = [f"-I{ROOT}", f"-I{common}", f"-I{well_known}"]
        arguments += [f"--plugin={plugins / name}" for name in PLUGINS]
        arguments += [f"--python_out={target}", f"--mypy_out=quiet:{target}"]
        if proto.stem.endswith("_service"):
            arguments += [f"--grpc_python_out={target}", f"--mypy_grpc_out=quiet:{target}"]
        if protoc.main(["protoc", *arguments, str(proto)]):
            sys.exit(f"protoc failed on {proto.name}")


def drifted(fresh: Path) -> list[str]:
    """Names of committed stubs that differ from `fresh`, on either side."""
    made = {path.name for pattern in PATTERNS for path in (fresh / PACKAGE).glob(pattern)}
    kept = {path.name for pattern in PATTERNS for path in (ROOT / PACKAGE).glob(pattern)}
    _, mismatch, missing = filecmp.cmpfiles(
        fresh / PACKAGE, ROOT / PACKAGE, made | kept, shallow=False
    )
    return sorted(mismatch + missing)


def main() -> int:
    """Generate, or with --check compare; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 on drift")
    if not parser.parse_args().check:
        generate(ROOT)
        return 0
    with tempfile.TemporaryDirectory() as fresh:
        generate(Path(fresh))
        if names := drifted(Path(fresh)):
            print(f"stubs differ from the .proto files: {', '.join(names)}; run `make protos`")
            return 1
    print("stubs match the .proto files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
