"""The committed protobuf code is what the definitions give, no more and no less."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import pytest

from infra.codegen import proto
from infra.codegen.proto import PROTO_ROOT, Drift, ProtoGenerationError, find_drift, generate, update


def write(root: Path, content: Mapping[str, str]) -> Path:
    """Make ``root`` hold the named files."""
    for name, text in content.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def test_committed_code_is_what_the_definitions_give(tmp_path: Path) -> None:
    generate(tmp_path)
    assert find_drift(PROTO_ROOT, tmp_path) == Drift(missing=(), stale=(), different=()), "run `make proto`"


def test_generation_is_repeatable(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        generate(folder)
    assert not find_drift(first, second)


def test_drift_tells_missing_stale_and_different_files_apart(tmp_path: Path) -> None:
    committed = write(
        tmp_path / "old",
        {"a/gone_pb2.py": "1", "a/same_pb2.py": "1", "a/changed_pb2_grpc.pyi": "1", "a/__init__.py": ""},
    )
    generated = write(tmp_path / "new", {"a/fresh_pb2.pyi": "1", "a/same_pb2.py": "1", "a/changed_pb2_grpc.pyi": "2"})
    assert find_drift(committed, generated) == Drift(
        missing=(PurePosixPath("a/fresh_pb2.pyi"),),
        stale=(PurePosixPath("a/gone_pb2.py"),),
        different=(PurePosixPath("a/changed_pb2_grpc.pyi"),),
    )


def test_update_repairs_all_drift_and_touches_nothing_else(tmp_path: Path) -> None:
    generate(tmp_path)
    write(tmp_path, {"a/gone_pb2.py": "1", "a/__init__.py": "# by hand"})
    (tmp_path / "manpasik/v1/auth_pb2.py").write_text("broken", encoding="utf-8")
    (tmp_path / "manpasik/v1/user_pb2.pyi").unlink()

    repaired = update(tmp_path)

    assert repaired == Drift(
        missing=(PurePosixPath("manpasik/v1/user_pb2.pyi"),),
        stale=(PurePosixPath("a/gone_pb2.py"),),
        different=(PurePosixPath("manpasik/v1/auth_pb2.py"),),
    )
    assert not update(tmp_path)
    assert (tmp_path / "a/__init__.py").read_text(encoding="utf-8") == "# by hand"


def test_a_wrong_definition_is_named_and_leaves_the_code_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    definitions = write(tmp_path, {"a/wrong.proto": 'syntax = "proto3";\nmessage Broken { strin name = 1; }\n'})
    code = write(tmp_path, {"a/wrong_pb2.py": "old"})
    monkeypatch.setattr(proto, "PROTO_ROOT", definitions)
    with pytest.raises(ProtoGenerationError, match=r'a/wrong\.proto:2:.*"strin" is not defined'):
        update(code)
    assert (code / "a/wrong_pb2.py").read_text(encoding="utf-8") == "old"


def test_a_folder_without_definitions_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proto, "PROTO_ROOT", tmp_path)
    with pytest.raises(ProtoGenerationError, match=r"no \.proto file"):
        generate(tmp_path)
