"""gRPC channels to other services: one for each callee, made at its first use, with TLS where it is configured.

A channel's certificates cannot be changed. When their files change, a new channel takes the place of the old one, which
ends once the calls that it carries have: stubs are made from a `ReplaceableChannel`, whose methods ask for the channel of
the moment with each call.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import grpc.aio

from domain.catalog import Workload
from subgraphs.runtime.settings import Settings
from subgraphs.runtime.tls import LOOK_EVERY_S, grpc_channel_credentials

_OLD_ENDS_WITHIN_S = 30.0
"""What calls of a replaced channel get; longer than the deadline of any call between services."""


class _Method:
    """A method of a stub: calls it over the channel of the moment."""

    def __init__(self, channel: "ReplaceableChannel", kind: str, path: str, arguments: dict[str, Any]) -> None:
        self._channel = channel
        self._kind = kind
        self._path = path
        self._arguments = arguments
        self._made_from: grpc.aio.Channel | None = None
        self._method: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        channel = self._channel.current()
        if self._method is None or channel is not self._made_from:
            self._method = getattr(channel, self._kind)(self._path, **self._arguments)
            self._made_from = channel
        return self._method(*arguments, **options)


class ReplaceableChannel:
    """What stubs take for a channel.

    Args:
        make: a new channel, with the certificates that the files hold now.
        changed: whether the files have changed since it was asked last; asked every ten seconds at most.
    """

    def __init__(
        self,
        make: Callable[[], grpc.aio.Channel],
        changed: Callable[[], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make = make
        self._changed = changed
        self._clock = clock
        self._channel = make()
        self._look_at = clock() + LOOK_EVERY_S
        self._ending: set[asyncio.Task[None]] = set()

    def current(self) -> grpc.aio.Channel:
        """The channel for a new call."""
        now = self._clock()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            if self._changed():
                old, self._channel = self._channel, self._make()
                ending = asyncio.create_task(old.close(grace=_OLD_ENDS_WITHIN_S))
                self._ending.add(ending)
                ending.add_done_callback(self._ending.discard)
        return self._channel

    def unary_unary(self, path: str, *_: Any, **arguments: Any) -> _Method:
        return _Method(self, "unary_unary", path, arguments)

    def unary_stream(self, path: str, *_: Any, **arguments: Any) -> _Method:
        return _Method(self, "unary_stream", path, arguments)

    def stream_unary(self, path: str, *_: Any, **arguments: Any) -> _Method:
        return _Method(self, "stream_unary", path, arguments)

    def stream_stream(self, path: str, *_: Any, **arguments: Any) -> _Method:
        return _Method(self, "stream_stream", path, arguments)

    async def close(self, grace: float | None = None) -> None:
        """End the channel, and those that it replaced."""
        for ending in self._ending:
            ending.cancel()
        await self._channel.close(grace=grace)


class ServiceChannels:
    """Makes channels to services as the settings say."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._secured = grpc_channel_credentials(settings.transport)

    @staticmethod
    def default_address(callee: Workload) -> str:
        """Where a service is found when its variable is not set."""
        return f"manpasik-{callee.full_name}:{callee.port}"

    def make(self, callee: Workload) -> grpc.aio.Channel:
        """A channel to a service; the caller closes it."""
        host, _, port = self.default_address(callee).rpartition(":")
        target = self._settings.address_of(callee.address_variable, host=host, port=int(port))
        limit = self._settings.service.grpc_max_message_bytes
        options = [
            ("grpc.max_receive_message_length", limit),
            ("grpc.max_send_message_length", limit),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.enable_retries", 0),  # the client retries, who knows what is safe
            ("grpc.initial_reconnect_backoff_ms", 100),  # a callee that restarts is found by the second try
            ("grpc.max_reconnect_backoff_ms", 2_000),
        ]
        if self._secured is None:
            return grpc.aio.insecure_channel(target, options=options)
        credentials, watched = self._secured

        def secure() -> grpc.aio.Channel:
            return grpc.aio.secure_channel(target, credentials(), options=options)

        return cast("grpc.aio.Channel", ReplaceableChannel(secure, watched().changed))
