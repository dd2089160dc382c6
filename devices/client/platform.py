"""Connections to the platform's services."""

from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc
from manpasik.v1 import calibration_pb2_grpc, cartridge_pb2_grpc, device_pb2_grpc, measurement_pb2_grpc

from devices.client.errors import ServiceNotConfigured

# A reader should find a restarted platform within seconds; gRPC's own default waits up to two minutes. What gRPC calls the
# shortest wait is in truth the time that one attempt may take: name, TCP, TLS and HTTP/2, over whatever line there is.
_CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 10_000),
    ("grpc.max_reconnect_backoff_ms", 3000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformAddresses:
    """``host:port`` of each service. Readers need the first two; equal addresses share a connection."""

    device: str
    measurement: str
    cartridge: str | None = None
    calibration: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """PEM bytes. Without root certificates those of the system count; key and chain are for mutual TLS."""

    root_certificates: bytes | None = None
    private_key: bytes | None = None
    certificate_chain: bytes | None = None


class Platform:
    """Stubs of the platform's services over lazily connected channels; any number of readers may share one.

    Use as an async context manager, or call `close`. Opening does not wait: a platform that is down shows itself in
    the first call.
    """

    def __init__(self, addresses: PlatformAddresses, tls: Tls | None = None) -> None:
        self._addresses = addresses
        self._tls = tls
        self._channels: dict[str, grpc.aio.Channel] = {}
        self.devices = device_pb2_grpc.DeviceServiceStub(self._channel(addresses.device))
        self.measurements = measurement_pb2_grpc.MeasurementServiceStub(self._channel(addresses.measurement))

    @property
    def cartridges(self) -> cartridge_pb2_grpc.CartridgeServiceStub:
        """Raises ServiceNotConfigured: no address was given."""
        if self._addresses.cartridge is None:
            raise ServiceNotConfigured("cartridge")
        return cartridge_pb2_grpc.CartridgeServiceStub(self._channel(self._addresses.cartridge))

    @property
    def calibrations(self) -> calibration_pb2_grpc.CalibrationServiceStub:
        """Raises ServiceNotConfigured: no address was given."""
        if self._addresses.calibration is None:
            raise ServiceNotConfigured("calibration")
        return calibration_pb2_grpc.CalibrationServiceStub(self._channel(self._addresses.calibration))

    async def close(self) -> None:
        """Close all connections; open calls break off."""
        for channel in self._channels.values():
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _channel(self, address: str) -> grpc.aio.Channel:
        if address not in self._channels:
            self._channels[address] = self._open(address)
        return self._channels[address]

    def _open(self, address: str) -> grpc.aio.Channel:
        if self._tls is None:
            return grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)
        credentials = grpc.ssl_channel_credentials(
            self._tls.root_certificates, self._tls.private_key, self._tls.certificate_chain
        )
        return grpc.aio.secure_channel(address, credentials, options=_CHANNEL_OPTIONS)
