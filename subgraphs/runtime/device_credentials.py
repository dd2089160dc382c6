"""Readers' credentials, checked by device-service; for the processes that do not host it themselves."""

import hashlib
import time

from manpasik.internal.v1.device_directory_pb2 import VerifyCredentialRequest
from manpasik.internal.v1.device_directory_pb2_grpc import DeviceDirectoryStub

from domain.errors import AppError, ErrorKind, Unauthenticated
from domain.ids import UserId
from domain.principal import Principal, PrincipalKind, Scope
from subgraphs.runtime.clients import ServiceClient

_REMEMBER_S = 0.5
_REMEMBER_MOST = 100_000


def device_principal(device_id: str, owner: str) -> Principal:
    """A reader that has proven itself, acting for the user who registered it.

    It may do what readers do, and nothing else that its owner may: whoever takes the credential out of a stolen reader
    must not get at the owner's profile.
    """
    return Principal(
        kind=PrincipalKind.DEVICE, subject=device_id, owner=UserId(owner), scopes=frozenset(s.value for s in _SCOPES)
    )


_SCOPES = (Scope.DEVICE_READ, Scope.DEVICE_WRITE, Scope.MEASUREMENT_READ, Scope.MEASUREMENT_WRITE)


class RemoteDeviceCredentials:
    """Asks device-service, and remembers what held for a moment: a burst of calls is one question, and a revoked credential ends."""

    def __init__(self, client: ServiceClient) -> None:
        self._client = client
        self._directory = client.stub("device", DeviceDirectoryStub)
        self._held: dict[tuple[str, bytes], tuple[float, Principal]] = {}

    async def verify(self, device_id: str, credential: str) -> Principal:
        """Raises: Unauthenticated: unknown device, or not its credential. Unavailable: it cannot be checked now."""
        known = (device_id, hashlib.sha256(credential.encode()).digest())
        until, principal = self._held.get(known, (0.0, None))
        if principal is not None and time.monotonic() < until:
            return principal
        request = VerifyCredentialRequest(device_id=device_id, credential=credential)
        try:
            record = await self._client.unary(self._directory.VerifyCredential, request, timeout_s=3.0, safe=True)
        except AppError as error:
            self._held.pop(known, None)
            if error.kind in (ErrorKind.UNAVAILABLE, ErrorKind.TIMEOUT):
                raise
            raise Unauthenticated("The device credential does not hold.") from error
        principal = device_principal(record.device_id, record.owner_user_id)
        if len(self._held) >= _REMEMBER_MOST:
            self._held.clear()
        self._held[known] = (time.monotonic() + _REMEMBER_S, principal)
        return principal
