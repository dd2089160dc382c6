"""The folder of an embedded platform's data: secrets, keys, health data."""

import stat
from pathlib import Path

import pytest

from infra.local.errors import LocalStackError
from infra.up.secrets import make_private


def mode(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


def test_the_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    make_private(tmp_path / "above" / ".manpasik")
    assert mode(tmp_path / "above" / ".manpasik") == 0o700


@pytest.mark.parametrize("before", [0o755, 0o777, 0o750, 0o701])
def test_a_folder_that_others_can_enter_is_closed(tmp_path: Path, before: int) -> None:
    folder = tmp_path / ".manpasik"
    folder.mkdir()
    folder.chmod(before)
    (folder / "secrets.json").write_text("{}")
    make_private(folder)
    assert mode(folder) == 0o700
    assert (folder / "secrets.json").read_text() == "{}"


def test_a_file_in_its_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(LocalStackError, match="MANPASIK_HOME"):
        make_private(tmp_path / "taken")
