"""Python code for the interface definitions under ``proto/``: messages, gRPC faces and their type stubs.

``python -m infra.codegen.proto`` rewrites the generated files beside the ``.proto`` files they come from; a test
generates into an empty folder and compares, so a definition cannot change without its code. The stubs describe the
asynchronous faces only (``grpc.aio``), because nothing here serves or calls gRPC any other way.
"""

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath

PROTO_ROOT = Path(__file__).resolve().parents[2] / "proto"
"""What import paths in ``.proto`` files are relative to."""

GENERATED_SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
"""Endings that only generated files have; every one of them is written for every definition."""

TYPE_STUB_PLUGINS = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
PROTOC_TIMEOUT_SECONDS = 120


class ProtoGenerationError(Exception):
    """The code could not be generated; the message is what the user has to know, without a trace."""


@dataclass(frozen=True)
class Drift:
    """How a folder of generated files differs from what the definitions give; paths relative to the folder."""

    missing: tuple[PurePosixPath, ...]
    stale: tuple[PurePosixPath, ...]
    different: tuple[PurePosixPath, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.stale or self.different)


def definitions() -> list[Path]:
    """All ``.proto`` files, in a fixed order so that equal input gives equal output."""
    return sorted(PROTO_ROOT.rglob("*.proto"))


def generate(into: Path) -> None:
    """Write the code of all definitions under ``into``, in the folders that their import paths name.

    Raises:
        ProtoGenerationError: there is no definition, one of them is wrong, or a plugin is not installed.
    """
    sources = definitions()
    if not sources:
        raise ProtoGenerationError(f"no .proto file under {PROTO_ROOT}")
    run_protoc(
        [
            f"--python_out={into}",
            f"--grpc_python_out={into}",
            f"--mypy_out=quiet:{into}",
            f"--mypy_grpc_out=quiet,only_async:{into}",
            *(f"--plugin={name}={_plugin(name)}" for name in TYPE_STUB_PLUGINS),
        ],
        sources,
    )


def run_protoc(options: Iterable[str], sources: Iterable[Path]) -> None:
    """Run the compiler of ``grpcio-tools`` on definitions of this project.

    Raises:
        ProtoGenerationError: with the compiler's own words, which name file and line.
    """
    well_known_types = resources.files("grpc_tools") / "_proto"
    include = [f"-I{PROTO_ROOT}", f"-I{well_known_types}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", *include, *options, *map(str, sources)]
    finished = subprocess.run(  # noqa: S603 -- our own interpreter, arguments from this repository
        command, check=False, capture_output=True, text=True, timeout=PROTOC_TIMEOUT_SECONDS
    )
    if finished.returncode != 0:
        raise ProtoGenerationError(finished.stderr.strip() or f"protoc ended with status {finished.returncode}")


def find_drift(committed: Path, generated: Path) -> Drift:
    """Compare two folders' generated files byte for byte. ``stale`` files belong to a definition that is gone."""
    have, want = generated_files(committed), generated_files(generated)
    return Drift(
        missing=tuple(sorted(want - have)),
        stale=tuple(sorted(have - want)),
        different=tuple(p for p in sorted(have & want) if (committed / p).read_bytes() != (generated / p).read_bytes()),
    )


def generated_files(root: Path) -> set[PurePosixPath]:
    """The files under ``root`` that only the generator writes, relative to it."""
    return {
        PurePosixPath(path.relative_to(root).as_posix())
        for suffix in GENERATED_SUFFIXES
        for path in root.rglob(f"*{suffix}")
    }


def update(root: Path) -> Drift:
    """Bring the generated files under ``root`` up to date; stale ones are deleted. Returns what was wrong before.

    The code is generated elsewhere first, so that a mistake in a definition leaves the old code in place.

    Raises:
        ProtoGenerationError: see `generate`.
    """
    with tempfile.TemporaryDirectory(prefix="manpasik-proto-") as folder:
        fresh = Path(folder)
        generate(fresh)
        drift = find_drift(root, fresh)
        for path in (*drift.missing, *drift.different):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(fresh / path, root / path)
        for path in drift.stale:
            (root / path).unlink()
    return drift


def _plugin(name: str) -> str:
    """Path of a protoc plugin: beside this interpreter first, since a virtual environment need not be activated."""
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    if found is None:
        raise ProtoGenerationError(f"{name} is not installed; it comes with the development tools (mypy-protobuf)")
    return found


def main() -> int:
    """Update ``proto/`` and say what changed. Returns the process's exit status."""
    try:
        drift = update(PROTO_ROOT)
    except ProtoGenerationError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    changes = {"added": drift.missing, "rewrote": drift.different, "deleted": drift.stale}
    for verb, paths in changes.items():
        for path in paths:
            sys.stdout.write(f"{verb} proto/{path}\n")
    sys.stdout.write(f"{len(definitions())} definitions, {len(generated_files(PROTO_ROOT))} generated files\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
