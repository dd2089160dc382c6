"""`manpasik service-keys`: makes, replaces and retires key pairs."""

from pathlib import Path

from typer.testing import CliRunner

from domain.catalog import WORKLOADS
from infra.cli import app
from subgraphs.runtime.service_keys import PUBLIC_FOLDER, PublicKeyFolder, SigningKeys

_run = CliRunner().invoke


def test_every_service_gets_a_pair_once(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    assert _run(app, ["service-keys", str(folder)]).exit_code == 0
    made = {path.name: path.read_text() for path in folder.glob("*.pem")}
    assert set(made) == {f"{workload.name}.pem" for workload in WORKLOADS}
    assert _run(app, ["service-keys", str(folder)]).exit_code == 0
    assert {path.name: path.read_text() for path in folder.glob("*.pem")} == made


def test_a_key_is_replaced_while_the_old_one_stays_valid_until_it_is_retired(tmp_path: Path) -> None:
    assert _run(app, ["service-keys", str(tmp_path), "payment-service"]).exit_code == 0
    old = SigningKeys.read(tmp_path, ["payment"]).of("payment").kid
    replaced = _run(app, ["service-keys", str(tmp_path), "payment", "--replace"])
    new = SigningKeys.read(tmp_path, ["payment"]).of("payment").kid
    assert new in replaced.output
    valid = PublicKeyFolder(tmp_path / PUBLIC_FOLDER)
    assert valid.find("payment", old) is not None
    assert valid.find("payment", new) is not None
    assert _run(app, ["service-keys", str(tmp_path), "payment", "--retire"]).exit_code == 0
    valid = PublicKeyFolder(tmp_path / PUBLIC_FOLDER)
    assert valid.find("payment", old) is None
    assert valid.find("payment", new) is not None


def test_no_private_key_is_printed(tmp_path: Path) -> None:
    printed = [_run(app, ["service-keys", str(tmp_path), "auth", *more]).output for more in ([], ["--replace"])]
    assert all("PRIVATE" not in text for text in printed)


def test_an_unknown_service_or_a_folder_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for arguments in ([str(tmp_path / "keys"), "nobody"], [str(tmp_path / "file" / "keys"), "auth"]):
        told = _run(app, ["service-keys", *arguments])
        assert told.exit_code == 1
        assert len(told.output.strip().splitlines()) == 1
        assert "manpasik:" in told.output
