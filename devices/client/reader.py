"""A reader's view of the platform.

async with Platform(addresses) as platform:
    client = ReaderClient(platform)
    credential = await client.register("dev-1", "SN-1", "1.0.0", access_token=fixed_token(token))
    async with client.session(SessionPlan(cartridge_id=uid)) as session:
        result = await session.send(frame)
    print(session.ended.total_measurements)
"""

import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from manpasik.v1 import device_pb2, measurement_pb2

from devices.client.credentials import AccessToken, CredentialStore, DeviceCredential, Metadata, bearer_metadata
from devices.client.errors import NotRegistered
from devices.client.heartbeat import CommandHandler, Presence, PresencePolicy, ReaderHealth
from devices.client.platform import Platform
from devices.client.retry import CallPolicy, call_unary
from devices.client.session import MeasurementStream, StreamPolicy

CLAIM_CODE_METADATA = "x-claim-code"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPlan:
    """What is about to be measured. Empty or 0 leaves it to the platform: the reader's owner, the cartridge's type."""

    cartridge_id: str
    user_id: str = ""
    cartridge_category: int = 0
    cartridge_type_index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientPolicy:
    """All limits of a reader's client."""

    calls: CallPolicy = field(default_factory=CallPolicy)
    stream: StreamPolicy = field(default_factory=StreamPolicy)
    presence: PresencePolicy = field(default_factory=PresencePolicy)


class Session(MeasurementStream):
    """A stream that also ends its session. `ended` holds the platform's answer to that."""

    ended: measurement_pb2.EndSessionResponse | None = None


class ReaderClient:
    """One reader. Methods may be called concurrently.

    Args:
        credential: from an earlier registration; else ``store`` is asked, else `register` must come first.
        store: keeps the credential that `register` obtains.
    Raises:
        CredentialUnreadable: the store holds something else.
    """

    def __init__(
        self,
        platform: Platform,
        credential: DeviceCredential | None = None,
        *,
        store: CredentialStore | None = None,
        policy: ClientPolicy | None = None,
    ) -> None:
        self._platform = platform
        self._store = store
        self._credential = credential or (store.load() if store else None)
        self._policy = policy or ClientPolicy()

    @property
    def credential(self) -> DeviceCredential:
        """Raises NotRegistered: there is none yet."""
        if self._credential is None:
            raise NotRegistered
        return self._credential

    async def register(
        self,
        device_id: str,
        serial_number: str,
        firmware_version: str,
        *,
        access_token: AccessToken,
        user_id: str = "",
        claim_code: str = "",
    ) -> DeviceCredential:
        """Bind the reader to its owner; the credential is used from now on and kept in the store, if there is one.

        Registering again replaces the credential.

        Args:
            claim_code: the code that is shown on the reader; required when the factory has a record of it.
        Raises:
            CallRejected: e.g. PERMISSION_DENIED, the code does not fit or the reader is somebody else's.
            PlatformUnreachable: no answer in time.
        """
        claim = ((CLAIM_CODE_METADATA, claim_code),) if claim_code else ()

        async def metadata() -> Metadata:
            return await bearer_metadata(access_token) + claim

        response = await call_unary(
            self._platform.devices.RegisterDevice,
            device_pb2.RegisterDeviceRequest(
                device_id=device_id, serial_number=serial_number, firmware_version=firmware_version, user_id=user_id
            ),
            name="RegisterDevice",
            policy=self._policy.calls,
            metadata=metadata,
        )
        self._credential = DeviceCredential(response.device_id, response.registration_token)
        if self._store is not None:
            self._store.save(self._credential)
        return self._credential

    async def start_session(self, plan: SessionPlan, *, key: str | None = None) -> str:
        """Id of a newly opened session.

        Args:
            key: names this start. The call may be repeated after a lost answer; the platform can tell by the
                ``idempotency-key`` that it is the same one, and uses the cartridge once.
        Raises:
            CallRejected: e.g. FAILED_PRECONDITION, the cartridge is expired or used up.
            PlatformUnreachable: no answer in time.
        """
        credential = self.credential
        names_start = (("idempotency-key", key or str(uuid.uuid4())),)

        async def metadata() -> Metadata:
            return await credential.metadata() + names_start

        response = await call_unary(
            self._platform.measurements.StartSession,
            measurement_pb2.StartSessionRequest(
                device_id=credential.device_id,
                cartridge_id=plan.cartridge_id,
                user_id=plan.user_id,
                cartridge_category=plan.cartridge_category,
                cartridge_type_index=plan.cartridge_type_index,
            ),
            name="StartSession",
            policy=self._policy.calls,
            metadata=metadata,
        )
        return response.session_id

    async def end_session(self, session_id: str) -> measurement_pb2.EndSessionResponse:
        """Close a session; repeating it gives the same answer. Raises CallRejected, PlatformUnreachable."""
        return await call_unary(
            self._platform.measurements.EndSession,
            measurement_pb2.EndSessionRequest(session_id=session_id),
            name="EndSession",
            policy=self._policy.calls,
            metadata=self.credential.metadata,
        )

    def resume(self, session_id: str, *, after_us: int = -1) -> Session:
        """The stream of a session that is already open. ``after_us``: time of its last answered frame."""
        return Session(
            self._platform.measurements,
            session_id,
            metadata=self.credential.metadata,
            policy=self._policy.stream,
            after_us=after_us,
        )

    @asynccontextmanager
    async def session(self, plan: SessionPlan) -> AsyncIterator[Session]:
        """A session around a block: opened before it; after it all answers are awaited and the session is ended.

        When the block raises, the session is left open on the platform, so that it can be resumed; the platform ends
        it by itself after 300 s without signal. Raises as `start_session`, `MeasurementStream.submit`, `end_session`.
        """
        session = self.resume(await self.start_session(plan))
        try:
            yield session
            await session.finish()
            session.ended = await self.end_session(session.session_id)
        finally:
            await session.close()

    async def keep_present(
        self, health: Callable[[], ReaderHealth], handlers: Mapping[device_pb2.CommandType.ValueType, CommandHandler]
    ) -> None:
        """Send heartbeats and carry out commands until cancelled; see `Presence`. Raises CallRejected."""
        await Presence(
            self._platform.devices, self.credential, health=health, handlers=handlers, policy=self._policy.presence
        ).run()

    async def request_update(self, target_version: str = "") -> device_pb2.OtaResponse:
        """Where the firmware lies; the newest when no version is named. Raises CallRejected, PlatformUnreachable."""
        return await call_unary(
            self._platform.devices.RequestOtaUpdate,
            device_pb2.OtaRequest(device_id=self.credential.device_id, target_version=target_version),
            name="RequestOtaUpdate",
            policy=self._policy.calls,
            metadata=self.credential.metadata,
        )
