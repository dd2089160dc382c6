"""Readers in GraphQL, and what this group knows of a person."""

# The overloads of strawberry.field and strawberry.mutation for decorators with arguments answer Any.
# mypy: disable-error-code="untyped-decorator"

from datetime import datetime
from typing import Annotated

import strawberry
from strawberry.scalars import JSON

from domain.errors import InvalidInput
from domain.hardware.codes import CartridgeCode
from domain.hardware.device import models
from domain.hardware.device.firmware import MAX_IMAGE_BYTES
from domain.paging import DEFAULT_PAGE, Page, PageRequest, encode_cursor
from domain.principal import Scope
from subgraphs.hardware.calibration.schema import Calibration, CalibrationConnection
from subgraphs.hardware.cartridge.schema import Cartridge
from subgraphs.hardware.context import Info
from subgraphs.hardware.encoding import from_base64
from subgraphs.runtime.graphql import AUTHENTICATED, list_size, requires_scopes
from subgraphs.runtime.relay import PageInfo, page_info, page_request

DeviceStatus = strawberry.enum(
    models.DeviceStatus, name="DeviceStatus", description="State of a device, as it was last heard of."
)
CommandType = strawberry.enum(
    models.CommandType, name="DeviceCommandType", description="What a device can be asked to do."
)

First = Annotated[int, strawberry.argument(description="How many items, 1 to 100.")]
After = Annotated[str | None, strawberry.argument(description="Cursor of the item before the page.")]
_PAGED = list_size("first", sized_fields=("edges",))


@strawberry.federation.type(keys=["id"], description="A registered reader.", directives=[AUTHENTICATED])
class Device:
    row: strawberry.Private[models.Device]
    id: strawberry.ID = strawberry.field(description="Id it was registered under.")
    name: str = strawberry.field(description="Name its owner gave it; the serial number until then.")
    serial_number: str = strawberry.field(description="The maker's serial number.")
    firmware_version: str = strawberry.field(description="Firmware it last reported.")
    verified: bool = strawberry.field(
        description="Whether its owner has proven to hold it, with the claim code that is shown on it."
    )
    status: models.DeviceStatus = strawberry.field(description="Last known state.")
    battery_percent: int | None = strawberry.field(description="Charge, 0 to 100; null before the first report.")
    signal_strength: int | None = strawberry.field(
        description="Radio signal in dBm, or 1 to 100 percent; 0 wired or unknown; null before the first report."
    )
    last_seen_at: datetime = strawberry.field(description="Last heartbeat, or the registration.")
    registered_at: datetime = strawberry.field(description="When it was first registered.")
    last_calibrated_at: datetime | None = strawberry.field(description="When it was last calibrated, for any type.")

    @strawberry.field(description="Who registered it.")
    def owner(self) -> "User":
        return User(id=strawberry.ID(self.row.owner_user_id))

    @strawberry.field(description="The cartridge it holds; null when it has told none.")
    async def current_cartridge(self, info: Info) -> Cartridge | None:
        uid = self.row.cartridge_uid
        return await Cartridge.load(info, uid) if uid else None

    @strawberry.field(description="Its calibrations of all types, newest first.", directives=[_PAGED])
    async def calibrations(self, info: Info, first: First = DEFAULT_PAGE, after: After = None) -> CalibrationConnection:
        request = page_request(first, after)
        page = await info.context.calibrations.of_device.load((self.id, request))
        return CalibrationConnection.of(info, page, request)

    @strawberry.field(
        description="The calibration in force for a cartridge type, or for the cartridge it holds; null when none is."
    )
    async def current_calibration(
        self,
        info: Info,
        category_code: Annotated[int | None, strawberry.argument(description="Category byte of the type.")] = None,
        type_index: Annotated[int | None, strawberry.argument(description="Type within the category.")] = None,
    ) -> Calibration | None:
        if (category_code is None) is not (type_index is None):
            raise InvalidInput("Name both categoryCode and typeIndex, or neither.", field="typeIndex")
        category = self.row.cartridge_category if category_code is None else category_code
        index = self.row.cartridge_type_index if type_index is None else type_index
        if category is None or index is None:
            return None
        row = await info.context.calibrations.in_force.load((self.id, CartridgeCode(category, index)))
        return Calibration.of(info, row) if row else None

    @classmethod
    def of(cls, row: models.Device) -> "Device":
        return cls(
            row=row,
            id=strawberry.ID(row.device_id),
            name=row.name,
            serial_number=row.serial_number,
            firmware_version=row.firmware_version,
            verified=row.verified,
            status=models.DeviceStatus(row.status),
            battery_percent=row.battery_percent,
            signal_strength=row.signal_strength,
            last_seen_at=row.last_seen_at,
            registered_at=row.registered_at,
            last_calibrated_at=row.last_calibrated_at,
        )

    @classmethod
    async def load(cls, info: Info, device_id: str) -> "Device | None":
        """The reader with an id; None when there is none that the caller may see."""
        row = await info.context.devices.by_id.load(device_id)
        return cls.of(row) if row else None

    @classmethod
    async def resolve_reference(cls, info: Info, id: strawberry.ID) -> "Device | None":
        """The reader of a reference from another subgraph; None when there is none that the caller may see."""
        return await cls.load(info, id)


@strawberry.type(description="A device in a page, with its cursor.")
class DeviceEdge:
    cursor: str = strawberry.field(description="Where it stands in the list.")
    node: Device = strawberry.field(description="The device.")


@strawberry.type(description="A page of devices, oldest registration first.")
class DeviceConnection:
    edges: list[DeviceEdge] = strawberry.field(description="The devices of this page.")
    page_info: PageInfo = strawberry.field(description="Where this page stands.")
    total_count: int = strawberry.field(description="How many there are in all.")

    @classmethod
    def of(cls, page: Page[models.Device], request: PageRequest) -> "DeviceConnection":
        cursors = [encode_cursor(row.registered_at, row.device_id) for row in page.items]
        return cls(
            edges=[
                DeviceEdge(cursor=cursor, node=Device.of(row)) for cursor, row in zip(cursors, page.items, strict=True)
            ],
            page_info=page_info(cursors, has_next=page.has_next, request=request),
            total_count=page.total,
        )


@strawberry.federation.type(keys=["id"], description="A person, with the devices that are theirs.")
class User:
    id: strawberry.ID = strawberry.field(description="Names the person.")

    @strawberry.field(
        description="The person's devices, oldest registration first.", directives=[AUTHENTICATED, _PAGED]
    )
    async def devices(self, info: Info, first: First = DEFAULT_PAGE, after: After = None) -> DeviceConnection | None:
        request = page_request(first, after)
        page = await info.context.devices.of_user.load((self.id, request))
        return DeviceConnection.of(page, request)

    @classmethod
    def resolve_reference(cls, id: strawberry.ID) -> "User":
        """The person of a reference; what may be seen of them is decided field by field."""
        return cls(id=id)


@strawberry.input(description="A device and who owns it.")
class RegisterDeviceInput:
    serial_number: str = strawberry.field(description="The maker's serial number.")
    firmware_version: str = strawberry.field(description="Firmware that runs now, such as 1.0.0.")
    device_id: strawberry.ID | None = strawberry.field(default=None, description="Its id; null mints one.")
    claim_code: str | None = strawberry.field(
        default=None, description="Code that is shown on the device; required when the factory has a record of it."
    )


@strawberry.type(description="A registered device and its credential.")
class RegisterDevicePayload:
    device: Device = strawberry.field(description="The device.")
    registration_token: str = strawberry.field(
        description="The device's credential; shown this once. Register again if it is lost."
    )


@strawberry.input(description="What to change of a device.")
class UpdateDeviceInput:
    id: strawberry.ID = strawberry.field(description="The device.")
    name: str = strawberry.field(description="Its new name, 1 to 80 characters.")


@strawberry.input(description="Something for a device to do.")
class SendDeviceCommandInput:
    device_id: strawberry.ID = strawberry.field(description="The device.")
    type: models.CommandType = strawberry.field(description="What to do.")
    payload: JSON | None = strawberry.field(default=None, description="Arguments, as an object.")


@strawberry.type(description="A command that waits for a device, or was delivered to it.")
class DeviceCommand:
    id: strawberry.ID = strawberry.field(description="Names the command; the device executes it once.")
    type: models.CommandType = strawberry.field(description="What to do.")
    queued_at: datetime = strawberry.field(description="When it was queued.")
    expires_at: datetime = strawberry.field(description="When it is dropped unless the device has fetched it.")


@strawberry.input(description="Asks for firmware.")
class RequestOtaUpdateInput:
    device_id: strawberry.ID = strawberry.field(description="Device that will install it.")
    target_version: str | None = strawberry.field(default=None, description="Null takes the newest for the device.")


@strawberry.type(description="Where firmware lies, for a limited time.")
class OtaUpdate:
    id: strawberry.ID = strawberry.field(description="Names this attempt.")
    version: str = strawberry.field(description="Version of the image.")
    download_url: str = strawberry.field(description="Signed address; fetch it with GET.")
    checksum: str = strawberry.field(description="SHA-256 of the image, lower-case hexadecimal.")
    size_bytes: int = strawberry.field(description="Size of the image.")
    expires_at: datetime = strawberry.field(description="When the address stops working.")


@strawberry.input(description="Firmware to publish.")
class PublishFirmwareInput:
    version: str = strawberry.field(description="Semantic version, such as 1.1.0.")
    content_base64: str = strawberry.field(description="The image in base64; at most 8 MiB.")
    min_version: str | None = strawberry.field(default=None, description="What a device must run to install it.")
    notes: str = strawberry.field(default="", description="What has changed.")


@strawberry.type(description="Published firmware.")
class Firmware:
    version: str = strawberry.field(description="Semantic version.")
    checksum: str = strawberry.field(description="SHA-256 of the image, lower-case hexadecimal.")
    size_bytes: int = strawberry.field(description="Size of the image.")
    min_version: str | None = strawberry.field(description="What a device must run to install it.")
    published_at: datetime = strawberry.field(description="When it was published.")


@strawberry.type
class DeviceQuery:
    @strawberry.field(
        description="A device by its id; null when there is none that the caller may see.", directives=[AUTHENTICATED]
    )
    async def device(self, info: Info, id: strawberry.ID) -> Device | None:
        info.context.principal.require_authenticated()
        return await Device.load(info, id)


@strawberry.type
class DeviceMutation:
    @strawberry.mutation(description="Register a device and issue its credential.", directives=[AUTHENTICATED])
    async def register_device(self, info: Info, input: RegisterDeviceInput) -> RegisterDevicePayload:
        devices = info.context.services.devices
        allowance = await devices.allowance(info.context.principal, user_id="")
        async with info.context.database.transaction() as session:
            registration = await devices.register(
                session,
                info.context.principal,
                device_id=input.device_id or "",
                serial_number=input.serial_number,
                firmware_version=input.firmware_version,
                user_id="",
                claim_code=input.claim_code or "",
                max_devices=allowance,
            )
        return RegisterDevicePayload(device=Device.of(registration.device), registration_token=registration.credential)

    @strawberry.mutation(description="Rename a device. Needs its owner.", directives=[AUTHENTICATED])
    async def update_device(self, info: Info, input: UpdateDeviceInput) -> Device:
        async with info.context.database.transaction() as session:
            row = await info.context.services.devices.rename(
                session, info.context.principal, device_id=input.id, name=input.name
            )
        return Device.of(row)

    @strawberry.mutation(
        description="Forget a device: its credential stops working. Needs its owner. Answers its id.",
        directives=[AUTHENTICATED],
    )
    async def remove_device(self, info: Info, id: strawberry.ID) -> strawberry.ID:
        async with info.context.database.transaction() as session:
            await info.context.services.devices.remove(session, info.context.principal, device_id=id)
        return id

    @strawberry.mutation(
        description="Queue a command; an open connection delivers it at once.", directives=[AUTHENTICATED]
    )
    async def send_device_command(self, info: Info, input: SendDeviceCommandInput) -> DeviceCommand:
        payload: object = input.payload or {}
        if not isinstance(payload, dict):
            raise InvalidInput("payload must be an object.", field="payload")
        async with info.context.database.transaction() as session:
            command = await info.context.services.devices.send_command(
                session,
                info.context.principal,
                device_id=input.device_id,
                command_type=input.type,
                payload=payload,
            )
        return DeviceCommand(
            id=strawberry.ID(command.command_id),
            type=models.CommandType(command.command_type),
            queued_at=command.queued_at,
            expires_at=command.expires_at,
        )

    @strawberry.mutation(description="Ask where a device finds firmware.", directives=[AUTHENTICATED])
    async def request_ota_update(self, info: Info, input: RequestOtaUpdateInput) -> OtaUpdate:
        async with info.context.database.transaction() as session:
            download = await info.context.services.firmware.request_update(
                session,
                info.context.principal,
                device_id=input.device_id,
                target_version=input.target_version or "",
            )
        return OtaUpdate(
            id=strawberry.ID(download.update_id),
            version=download.version,
            download_url=download.url,
            checksum=download.checksum,
            size_bytes=download.size_bytes,
            expires_at=download.expires_at,
        )

    @strawberry.mutation(
        description="Publish firmware; a published version never changes.",
        directives=[requires_scopes(Scope.FIRMWARE_WRITE)],
    )
    async def publish_firmware(self, info: Info, input: PublishFirmwareInput) -> Firmware:
        info.context.principal.require_scope(Scope.FIRMWARE_WRITE)  # before megabytes are decoded
        content = from_base64(input.content_base64, field="contentBase64", max_bytes=MAX_IMAGE_BYTES)
        async with info.context.database.transaction() as session:
            row = await info.context.services.firmware.publish(
                session,
                info.context.principal,
                version=input.version,
                content=content,
                min_version=input.min_version,
                notes=input.notes,
            )
        return Firmware(
            version=row.version,
            checksum=row.sha256,
            size_bytes=row.size_bytes,
            min_version=row.min_version,
            published_at=row.published_at,
        )
