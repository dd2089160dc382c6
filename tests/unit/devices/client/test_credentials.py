import stat
from pathlib import Path

import pytest

from devices.client.credentials import DeviceCredential, FileCredentialStore
from devices.client.errors import CredentialUnreadable

CREDENTIAL = DeviceCredential("dev-1", "s3cret:with:colons")


def test_a_credential_survives_a_restart_in_a_file_only_its_owner_can_read(tmp_path: Path) -> None:
    path = tmp_path / "credential.json"
    assert FileCredentialStore(path).load() is None
    FileCredentialStore(path).save(DeviceCredential("dev-1", "older"))
    FileCredentialStore(path).save(CREDENTIAL)
    assert FileCredentialStore(path).load() == CREDENTIAL
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"device_id": 1, "secret": "x"}', b'{"device_id": "x"}', b"\xff"])
def test_a_damaged_file_is_reported_with_its_path(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "credential.json"
    path.write_bytes(content)
    with pytest.raises(CredentialUnreadable, match=r"credential\.json"):
        FileCredentialStore(path).load()


async def test_the_secret_goes_into_the_metadata_and_nowhere_else() -> None:
    assert await CREDENTIAL.metadata() == (("authorization", "Device dev-1:s3cret:with:colons"),)
    assert "s3cret" not in repr(CREDENTIAL)
