"""Files of key pairs: made once, read again when they change, and refused when they are something else."""

import stat
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from domain.catalog import Group
from subgraphs.runtime import service_keys
from subgraphs.runtime.keys import load_service_keys
from subgraphs.runtime.service_keys import (
    PUBLIC_FOLDER,
    PublicKeyFolder,
    ServiceKey,
    ServiceKeyError,
    SigningKeys,
    make_missing_keys,
    replace_key,
    retire_old_keys,
)
from subgraphs.runtime.settings import Settings

_PRODUCTION = {
    "ENVIRONMENT": "production",
    "JWT_SECRET": "a secret of our own",
    "ENCRYPTION_MASTER_KEY": "a third one",
    "DB_PASSWORD": "a fourth one",
    "S3_ACCESS_KEY": "a fifth one",
    "S3_SECRET_KEY": "a sixth one",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "keys"
    make_missing_keys(made, ["auth", "user"])
    return made


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders are looked at with every call."""
    monkeypatch.setattr(service_keys, "_LOOK_AGAIN_S", -1.0)


def test_missing_keys_are_made_and_only_their_owner_reads_the_private_ones(folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("auth.pem", "user.pem"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
        assert "PRIVATE" not in (folder / PUBLIC_FOLDER / name).read_text()
    published = PublicKeyFolder(folder / PUBLIC_FOLDER)
    for service in ("auth", "user"):
        key = SigningKeys.read(folder, [service]).of(service)
        found = published.find(service, key.kid)
        assert found is not None
        assert found.verifies(key.sign(b"content"), b"content")
        assert not found.verifies(key.sign(b"content"), b"another content")
    assert published.find("auth", SigningKeys.read(folder, ["user"]).of("user").kid) is None


def test_keys_that_are_there_stay(folder: Path) -> None:
    before = (folder / "auth.pem").read_text()
    make_missing_keys(folder, ["auth", "user", "shop"])
    assert (folder / "auth.pem").read_text() == before
    assert {path.name for path in folder.glob("*.pem")} == {"auth.pem", "user.pem", "shop.pem"}


def test_processes_that_start_together_agree_on_the_keys(tmp_path: Path) -> None:
    services = [f"s{number}" for number in range(10)]
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(make_missing_keys, tmp_path, services) for _ in range(8)]:
            done.result()
    published = PublicKeyFolder(tmp_path / PUBLIC_FOLDER)
    for service in services:
        assert published.find(service, SigningKeys.read(tmp_path, [service]).of(service).kid) is not None
    assert not list(tmp_path.glob(".*"))


def test_a_key_does_not_show_itself() -> None:
    key = ServiceKey.generate("auth")
    assert repr(key) == f"ServiceKey('auth', kid={key.kid!r})"


@pytest.mark.usefixtures("at_once")
def test_a_replaced_key_and_the_new_one_are_both_valid_until_the_old_one_is_retired(folder: Path) -> None:
    published = PublicKeyFolder(folder / PUBLIC_FOLDER)
    old = SigningKeys.read(folder, ["auth"]).of("auth").kid
    new = replace_key(folder, "auth").kid
    assert SigningKeys.read(folder, ["auth"]).of("auth").kid == new != old
    assert published.find("auth", old) is not None
    assert published.find("auth", new) is not None
    assert retire_old_keys(folder, "auth") == 1
    assert published.find("auth", old) is None
    assert published.find("auth", new) is not None


@pytest.mark.usefixtures("at_once")
def test_a_removed_public_key_is_not_valid_any_more_in_a_running_process(folder: Path) -> None:
    published = PublicKeyFolder(folder / PUBLIC_FOLDER)
    kid = SigningKeys.read(folder, ["auth"]).of("auth").kid
    assert published.find("auth", kid) is not None
    (folder / PUBLIC_FOLDER / "auth.pem").unlink()
    assert published.find("auth", kid) is None


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("content", ["", "half a ke", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_a_damaged_public_key_does_not_cut_its_service_off(folder: Path, content: str) -> None:
    published = PublicKeyFolder(folder / PUBLIC_FOLDER)
    kid = SigningKeys.read(folder, ["auth"]).of("auth").kid
    (folder / PUBLIC_FOLDER / "auth.pem").write_text(content)
    assert published.find("auth", kid) is not None
    with pytest.raises(ServiceKeyError, match=r"auth\.pem"):
        PublicKeyFolder(folder / PUBLIC_FOLDER)


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


_UNUSABLE: dict[str, Callable[[], str]] = {
    "another curve": lambda: _pem(ec.generate_private_key(ec.SECP384R1())),
    "RSA": lambda: _pem(rsa.generate_private_key(65537, 2048)),
    "encrypted": lambda: (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
        .decode()
    ),
    "a public key": ServiceKey.generate("auth").public.pem,
    "a text": lambda: "secret",
    "nothing": lambda: "",
    "too much": lambda: "x" * 100_000,
}


@pytest.mark.parametrize("content", _UNUSABLE)
def test_a_file_that_holds_no_private_key_of_es256_is_named(folder: Path, content: str) -> None:
    (folder / "auth.pem").write_text(_UNUSABLE[content]())
    with pytest.raises(ServiceKeyError, match=r"auth\.pem"):
        SigningKeys.read(folder, ["auth"])


def test_a_private_key_among_the_public_ones_is_refused(folder: Path) -> None:
    (folder / PUBLIC_FOLDER / "auth.pem").write_text(ServiceKey.generate("auth").pem())
    with pytest.raises(ServiceKeyError, match="only public keys"):
        PublicKeyFolder(folder / PUBLIC_FOLDER)


def test_keys_that_openssl_wrote_are_read(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    written = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    (folder / "auth.pem").write_text(parameters + written)
    assert SigningKeys.read(folder, ["auth"]).of("auth").sign(b"x")


def test_production_makes_no_keys(tmp_path: Path) -> None:
    settings = Settings.load({**_PRODUCTION, "SERVICE_KEYS_DIR": str(tmp_path / "none")})
    with pytest.raises(ServiceKeyError, match=r"auth\.pem cannot be read"):
        load_service_keys(settings, [Group.IDENTITY])
    assert not (tmp_path / "none").exists()


def test_a_process_needs_the_keys_of_its_groups_services_only(folder: Path) -> None:
    settings = Settings.load({**_PRODUCTION, "SERVICE_KEYS_DIR": str(folder)})
    keys, _ = load_service_keys(settings, [Group.IDENTITY])
    assert keys.of("auth").public.service == "auth"
    with pytest.raises(ServiceKeyError, match="shop"):
        keys.of("shop")


def test_a_key_that_is_not_published_stops_the_start(folder: Path) -> None:
    (folder / "auth.pem").write_text(ServiceKey.generate("auth").pem())
    settings = Settings.load({**_PRODUCTION, "SERVICE_KEYS_DIR": str(folder)})
    with pytest.raises(ServiceKeyError, match="not in the folder of public keys"):
        load_service_keys(settings, [Group.IDENTITY])


def test_one_key_in_a_variable_is_enough_for_a_group_of_one_service(folder: Path, tmp_path: Path) -> None:
    key = ServiceKey.generate("measurement")
    (folder / PUBLIC_FOLDER / "measurement.pem").write_text(key.public.pem())
    given = {"SERVICE_KEY": key.pem(), "SERVICE_PUBLIC_KEYS_DIR": str(folder / PUBLIC_FOLDER)}
    settings = Settings.load({**_PRODUCTION, **given})
    keys, _ = load_service_keys(settings, [Group.MEASUREMENT])
    assert keys.of("measurement").kid == key.kid
    escaped = Settings.load({**_PRODUCTION, **given, "SERVICE_KEY": key.pem().replace("\n", "\\n")})
    assert load_service_keys(escaped, [Group.MEASUREMENT])[0].of("measurement").kid == key.kid
    with pytest.raises(ServiceKeyError, match="SERVICE_KEYS_DIR"):
        load_service_keys(settings, [Group.IDENTITY])


def test_a_folder_is_looked_at_only_now_and_then(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = PublicKeyFolder(folder / PUBLIC_FOLDER)
    looks = 0
    real = PublicKeyFolder._signature

    def counted(self: PublicKeyFolder) -> dict[Path, tuple[int, int, int]]:
        nonlocal looks
        looks += 1
        return real(self)

    monkeypatch.setattr(PublicKeyFolder, "_signature", counted)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    known = SigningKeys.read(folder, ["auth"]).of("auth").kid
    for later_s, kid, expected in (
        (0, "unknown", 0),
        (0.5, known, 0),
        (0, "unknown", 1),
        (0.5, known, 1),
        (1, known, 2),
    ):
        now += later_s
        for _ in range(100):
            published.find("auth", kid)
        assert looks == expected
