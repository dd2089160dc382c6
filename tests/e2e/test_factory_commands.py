"""`manpasik cartridges ...` and `manpasik devices ...` as somebody at the factory runs them, on a platform that serves."""

import subprocess
import sys
from pathlib import Path

import pytest

from devices.simulator.fleet import serial_number_of
from domain.hardware.device.claims import claim_hash
from tests.support.furnish import FACTORY
from tests.support.platform import Platform
from tests.support.readers import unique

pytestmark = [pytest.mark.xdist_group("e2e"), pytest.mark.timeout(120)]


def manpasik(platform: Platform, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra.cli", *arguments],
        env=dict(platform.environment),
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_files_are_imported_once_and_wrong_ones_are_told_by_line(platform: Platform, tmp_path: Path) -> None:
    lots, devices = tmp_path / "LOT.csv", tmp_path / "DEVICES.csv"
    device_id = unique("mps")
    lots.write_bytes(FACTORY.lot_file)
    devices.write_bytes(FACTORY.device_file([device_id]))
    for expected in ("1 readers added, 0 replaced, 0 unchanged", "0 readers added, 0 replaced, 1 unchanged"):
        assert manpasik(platform, "devices", "import", str(devices)).stdout.strip() == expected
    done = manpasik(platform, "cartridges", "import", str(lots))
    assert (done.returncode, done.stdout.strip()) == (0, "0 lots and 0 cartridges added, 0 replaced, 1 unchanged")
    lots.write_bytes(FACTORY.lot_file + b"\nSIM00001,1,300,,,,,,,,,")
    wrong = manpasik(platform, "cartridges", "import", str(lots))
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr.startswith("manpasik: line 3: type_index is '300'")
    missing = manpasik(platform, "devices", "import", str(tmp_path / "none.csv"))
    assert (missing.returncode, "cannot be read" in missing.stderr) == (1, True)


async def test_a_claim_code_is_hashed_as_the_platform_checks_it(platform: Platform) -> None:
    serial, code = serial_number_of("mps-1"), FACTORY.claim_code("mps-1")
    done = manpasik(platform, "devices", "hash", serial, typed=f"{code[:4]}-{code[4:].lower()}\n")
    assert done.stdout.strip() == claim_hash(serial, code).hex()
    assert manpasik(platform, "devices", "hash", serial, typed="short\n").returncode == 1


async def test_a_cartridge_is_released(platform: Platform) -> None:
    done = manpasik(platform, "cartridges", "release", "00000000000000ff")
    assert (done.returncode, done.stdout.strip()) == (0, "this cartridge has no exclusive owner")
