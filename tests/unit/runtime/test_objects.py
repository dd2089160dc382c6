import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from starlette.applications import Starlette
from yarl import URL

from subgraphs.runtime.http_server import error_handlers
from subgraphs.runtime.objects import (
    LocalObjects,
    ObjectKeyInvalid,
    ObjectNotFound,
    S3Objects,
    checked_key,
    object_store,
)
from subgraphs.runtime.settings import Settings
from tests.unit.runtime.conftest import Serve

_HOUR = timedelta(hours=1)


@pytest.fixture
def store(tmp_path: Path) -> LocalObjects:
    return LocalObjects(tmp_path / "objects", secret="s", public_url="http://objects.test/")


Get = Callable[[str], Awaitable[tuple[int, bytes, Mapping[str, str]]]]


@pytest.fixture
async def get(store: LocalObjects, serve: Serve, http: aiohttp.ClientSession) -> Get:
    """Status, body and headers of an address (or path) of the store, asked for exactly as it is written."""
    base = await serve(Starlette(routes=store.routes(), exception_handlers=error_handlers()))

    async def answer_of(url: str) -> tuple[int, bytes, Mapping[str, str]]:
        path = url.removeprefix("http://objects.test")
        async with http.get(URL(base + path, encoded=True)) as answer:
            return answer.status, await answer.read(), answer.headers

    return answer_of


async def test_what_was_put_is_there(store: LocalObjects) -> None:
    assert await store.put("firmware/1.2.0.bin", b"code") == hashlib.sha256(b"code").hexdigest()
    assert await store.get("firmware/1.2.0.bin") == b"code"
    await store.put("firmware/1.2.0.bin", b"new code")
    assert await store.get("firmware/1.2.0.bin") == b"new code"
    with pytest.raises(ObjectNotFound):
        await store.get("firmware/9.9.9.bin")


async def test_a_signed_address_downloads_the_object(store: LocalObjects, get: Get) -> None:
    await store.put("사진/a b+c.png", b"\x89PNG")
    status, content, headers = await get(await store.signed_url("사진/a b+c.png", expires_in=_HOUR))
    assert (status, content) == (200, b"\x89PNG")
    assert headers["content-type"] == "application/octet-stream"
    assert headers["x-content-type-options"] == "nosniff"


async def test_an_address_expires(store: LocalObjects, get: Get) -> None:
    await store.put("a", b"x")
    status, content, headers = await get(await store.signed_url("a", expires_in=timedelta(seconds=-2)))
    assert (status, headers["content-type"]) == (403, "application/problem+json")
    assert json.loads(content)["type"] == "urn:manpasik:problem:ADDRESS_REFUSED"
    assert "expired" in json.loads(content)["detail"]


async def test_a_changed_address_is_refused(store: LocalObjects, get: Get) -> None:
    await store.put("a", b"x")
    await store.put("b", b"y")
    url = urlsplit(await store.signed_url("a", expires_in=_HOUR))
    query = parse_qs(url.query)
    expires, signature = query["expires"][0], query["signature"][0]
    for path, changed in (
        ("/objects/b", f"expires={expires}&signature={signature}"),
        ("/objects/a", f"expires={int(expires) + 1}&signature={signature}"),
        ("/objects/a", f"expires={expires}&signature={signature[:-1]}"),
        ("/objects/a", f"expires={expires}"),
        ("/objects/a", f"signature={signature}"),
        ("/objects/a", f"expires={'9' * 5000}&signature={signature}"),
        ("/objects/a", f"expires=%D9%A1&signature={signature}"),
        ("/objects/a", f"expires={expires}&signature=%ED%95%9C"),
        ("/objects/a", ""),
    ):
        status, _, _ = await get(f"{path}?{changed}")
        assert status == 403, changed
    _, content, _ = await get(f"/objects/a?expires={expires}&signature={signature}")
    assert content == b"x"


async def test_an_address_signed_with_another_secret_is_refused(store: LocalObjects, get: Get, tmp_path: Path) -> None:
    await store.put("a", b"x")
    forger = LocalObjects(tmp_path / "objects", secret="guessed", public_url="http://objects.test")
    status, _, _ = await get(await forger.signed_url("a", expires_in=_HOUR))
    assert status == 403


async def test_a_signed_address_of_nothing_is_not_found(store: LocalObjects, get: Get) -> None:
    status, content, _ = await get(await store.signed_url("nothing", expires_in=_HOUR))
    assert (status, json.loads(content)["key"]) == (404, "nothing")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/etc/passwd",
        "../secret",
        "a/../../secret",
        "a/..",
        "./a",
        "a//b",
        "a/",
        "a\\..\\b",
        "a\0b",
        "a\nb",
        "x" * 600,
    ],
)
async def test_a_key_stays_within_the_store(store: LocalObjects, tmp_path: Path, key: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    with pytest.raises(ObjectKeyInvalid):
        checked_key(key)
    with pytest.raises(ObjectKeyInvalid):
        await store.put(key, b"x")
    with pytest.raises(ObjectKeyInvalid):
        await store.get(key)
    with pytest.raises(ObjectKeyInvalid):
        await store.signed_url(key, expires_in=_HOUR)
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_the_settings_choose_the_store(tmp_path: Path) -> None:
    assert isinstance(object_store(Settings.load({"OBJECTS_DIR": str(tmp_path)})), LocalObjects)
    assert isinstance(object_store(Settings.load({})), S3Objects)


async def test_s3_addresses_are_presigned() -> None:
    store = object_store(Settings.load({"S3_ENDPOINT": "minio.test:9000", "S3_BUCKET": "pictures"}))
    url = urlsplit(await store.signed_url("a/b.png", expires_in=_HOUR))
    assert (url.scheme, url.netloc, url.path) == ("http", "minio.test:9000", "/pictures/a/b.png")
    assert parse_qs(url.query)["X-Amz-Expires"] == ["3600"]
    assert store.routes() == []
