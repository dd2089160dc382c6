"""Files and keys that production needs are checked before it serves, and everything is named at once."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from subgraphs.runtime.hardening import load_settings
from subgraphs.runtime.service_keys import make_missing_keys
from subgraphs.runtime.settings import SettingsError
from tests.support.certificates import Authority
from tests.unit.runtime.test_hardening import PRODUCTION


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """An environment whose files are there."""
    authority = Authority(tmp_path)
    pair = authority.issue("service.internal")
    make_missing_keys(tmp_path / "keys", ["auth", "user", "payment", "shop", "subscription"])
    tls = {"CERT": str(pair.cert), "KEY": str(pair.key)}
    return {
        **PRODUCTION,
        **{f"{name}_TLS_{part}": path for name in ("GRPC", "HTTP") for part, path in tls.items()},
        "GRPC_TLS_CA": str(authority.file),
        "SERVICE_KEYS_DIR": str(tmp_path / "keys"),
    }


def refused(environ: Mapping[str, str], *services: str) -> list[str]:
    with pytest.raises(SettingsError) as refusal:
        load_settings(environ, services=services)
    return [line.strip() for line in str(refusal.value).splitlines()[1:]]


def test_production_starts_where_everything_is_there(machine: dict[str, str]) -> None:
    assert load_settings(machine, services=["auth", "user"]).service.is_production
    assert load_settings(machine, services=[]).service.is_production


def test_everything_that_is_missing_is_named_at_once(machine: dict[str, str], tmp_path: Path) -> None:
    lines = refused(
        {
            **machine,
            "GRPC_TLS_CERT": str(tmp_path / "no.crt"),
            "HTTP_TLS_KEY": str(tmp_path / "no.key"),
            "DB_SSLROOTCERT": str(tmp_path / "no.ca"),
            "SUPERGRAPH_FILE": str(tmp_path / "no.graphql"),
            "SERVICE_KEYS_DIR": str(tmp_path / "no keys"),
            "TOSS_SECRET_KEY": "",
            "JWT_SECRET": "x",
        },
        "payment",
    )
    assert [line.partition(":")[0] for line in lines] == [
        *("JWT_SECRET", "GRPC_TLS_CERT", "HTTP_TLS_KEY", "DB_SSLROOTCERT", "SUPERGRAPH_FILE"),
        *("SERVICE_KEYS_DIR", "TOSS_SECRET_KEY"),
    ]
    assert all(str(tmp_path) in line for line in lines[1:-1])


@pytest.mark.parametrize(
    ("services", "is_named"),
    [(["payment"], True), (["auth", "user"], False), (["subscription", "shop", "payment"], True)],
)
def test_the_merchants_key_is_needed_where_payments_are_served(
    machine: dict[str, str], services: list[str], *, is_named: bool
) -> None:
    environ = {**machine, "TOSS_SECRET_KEY": ""}
    if is_named:
        assert [line.partition(":")[0] for line in refused(environ, *services)] == ["TOSS_SECRET_KEY"]
    else:
        load_settings(environ, services=services)


def test_a_certificate_is_judged(machine: dict[str, str], tmp_path: Path) -> None:
    authority = Authority(tmp_path, "another authority")
    old = authority.issue("x", file="old", lasts=timedelta(days=-1))
    other = authority.issue("x", file="other")
    text = tmp_path / "text.crt"
    text.write_text("no certificate")
    for cert, key, told in (
        (old.cert, old.key, "expired"),
        (text, other.key, "holds no certificate"),
        (other.cert, old.key, "is not the private key"),
    ):
        (line,) = refused({**machine, "GRPC_TLS_CERT": str(cert), "GRPC_TLS_KEY": str(key)}, "auth", "user")
        assert told in line
        assert line.startswith("GRPC_TLS_")
    (line,) = refused({**machine, "GRPC_TLS_CA": str(text)}, "auth", "user")
    assert line.startswith("GRPC_TLS_CA: ")


def test_a_key_of_a_service_that_nobody_would_believe_is_named(machine: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "keys" / "public" / "user.pem").write_bytes((tmp_path / "keys" / "public" / "auth.pem").read_bytes())
    (line,) = refused(machine, "auth", "user")
    assert line.startswith("SERVICE_KEYS_DIR: ")
    assert "PRIVATE" not in line
