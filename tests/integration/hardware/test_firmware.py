"""Firmware: publishing it, and handing it to readers with an address that verifies and ends."""

import hashlib
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import pytest
from starlette.applications import Starlette
from starlette.types import Message

from domain.errors import Forbidden
from domain.hardware.device.errors import (
    DeviceFieldInvalid,
    FirmwareAlreadyPublished,
    FirmwareNotFound,
    FirmwareNotNewer,
    FirmwareStepNeeded,
)
from domain.hardware.device.firmware import MAX_IMAGE_BYTES
from domain.hardware.device.models import FirmwareDownload
from domain.principal import Principal
from tests.integration.hardware.conftest import ALICE, BOB, TECHNICIAN, Hardware

IMAGE = bytes(range(256)) * 40


@dataclass
class Answer:
    status: int = 0
    body: bytearray = field(default_factory=bytearray)


async def get(hardware: Hardware, url: str) -> Answer:
    """What the host's route for objects answers."""
    parts = urlsplit(url)
    answer = Answer()

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
        else:
            answer.body += message.get("body", b"")

    scope = {
        "type": "http",
        "method": "GET",
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "root_path": "",
        "query_string": parts.query.encode(),
        "headers": [],
    }
    try:
        await Starlette(routes=hardware.objects.routes())(scope, receive, send)
    except Forbidden:  # the host turns it into 403
        answer.status = 403
    return answer


async def publish(
    hardware: Hardware,
    version: str,
    content: bytes = IMAGE,
    principal: Principal = TECHNICIAN,
    min_version: str | None = None,
) -> str:
    async with hardware.database.transaction() as session:
        firmware = await hardware.services.firmware.publish(
            session, principal, version=version, content=content, min_version=min_version
        )
        return firmware.sha256


async def request(hardware: Hardware, target: str, principal: Principal = ALICE) -> FirmwareDownload:
    async with hardware.database.transaction() as session:
        return await hardware.services.firmware.request_update(
            session, principal, device_id="dev-1", target_version=target
        )


async def test_a_device_downloads_the_image_whose_checksum_it_was_told(hardware: Hardware) -> None:
    await hardware.register()
    await publish(hardware, "1.1.0")
    download = await request(hardware, "1.1.0", hardware.device())
    answer = await get(hardware, download.url)
    assert answer.status == 200
    assert hashlib.sha256(answer.body).hexdigest() == download.checksum == hashlib.sha256(IMAGE).hexdigest()
    rows = await hardware.fetch("SELECT update_id, from_version, target_version FROM ota_updates")
    assert rows == [{"update_id": download.update_id, "from_version": "1.0.0", "target_version": "1.1.0"}]


async def test_the_address_ends_and_cannot_be_altered(hardware: Hardware, monkeypatch: pytest.MonkeyPatch) -> None:
    await hardware.register()
    await publish(hardware, "1.1.0")
    await publish(hardware, "1.2.0", IMAGE + b"2")
    url = (await request(hardware, "1.1.0")).url
    other = (await request(hardware, "1.2.0")).url
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    longer = urlencode({**query, "expires": int(query["expires"]) + 3600})
    assert (await get(hardware, urlunsplit(parts._replace(query=longer)))).status == 403
    assert (await get(hardware, urlunsplit(urlsplit(other)._replace(query=parts.query)))).status == 403
    assert (await get(hardware, urlunsplit(parts._replace(query="")))).status == 403
    assert (await get(hardware, url)).status == 200
    later = time.time() + 15 * 60 + 2
    monkeypatch.setattr(time, "time", lambda: later)
    assert (await get(hardware, url)).status == 403


async def test_an_unknown_version_is_not_found_and_an_old_one_is_refused(hardware: Hardware) -> None:
    await hardware.register(firmware="1.5.0")
    await publish(hardware, "1.5.0")
    await publish(hardware, "1.4.9")
    for target in ("1.5.0", "1.4.9"):
        with pytest.raises(FirmwareNotNewer):
            await request(hardware, target)
    for target in ("9.9.9", "nonsense"):
        with pytest.raises(FirmwareNotFound):
            await request(hardware, target)
    with pytest.raises(FirmwareNotNewer):
        await request(hardware, "")
    assert await hardware.fetch("SELECT * FROM ota_updates") == []


async def test_without_a_version_the_newest_that_can_be_installed_is_given(hardware: Hardware) -> None:
    await hardware.register(firmware="1.0.0")
    for version, least in (("1.9.0", None), ("1.10.0", None), ("2.0.0", "1.10.0")):
        await publish(hardware, version, min_version=least)
    assert (await request(hardware, "")).version == "1.10.0"
    with pytest.raises(FirmwareStepNeeded):
        await request(hardware, "2.0.0")
    await hardware.register(firmware="1.10.0")
    assert (await request(hardware, "")).version == "2.0.0"


async def test_a_published_version_never_changes(hardware: Hardware) -> None:
    checksum = await publish(hardware, "1.1.0")
    assert await publish(hardware, "1.1.0") == checksum
    with pytest.raises(FirmwareAlreadyPublished):
        await publish(hardware, "1.1.0", b"other")
    assert await hardware.fetch("SELECT sha256 FROM firmware") == [{"sha256": checksum}]


async def test_only_technicians_publish_and_only_images_that_fit(hardware: Hardware) -> None:
    with pytest.raises(Forbidden):
        await publish(hardware, "1.1.0", principal=ALICE)
    for content in (b"", bytes(MAX_IMAGE_BYTES + 1)):
        with pytest.raises(DeviceFieldInvalid):
            await publish(hardware, "1.1.0", content)


async def test_firmware_for_somebody_elses_device_is_refused(hardware: Hardware) -> None:
    await hardware.register()
    await publish(hardware, "1.1.0")
    with pytest.raises(Forbidden):
        await request(hardware, "1.1.0", BOB)
