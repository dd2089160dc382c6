"""What a domain group shows to the world, as values: a host serves any set of them.

Each group's `group.py` has `async def build(resources: GroupResources) -> GroupFaces`.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

import grpc.aio
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.routing import BaseRoute
from strawberry.federation import Schema

from domain.catalog import Group
from domain.clock import Clock
from domain.events import DomainEvent
from domain.sealing import Sealer
from subgraphs.runtime.auth import DeviceCredentials, KeySource
from subgraphs.runtime.clients import ServiceClient
from subgraphs.runtime.context import RequestContext
from subgraphs.runtime.database import Database
from subgraphs.runtime.limits import RateLimiter
from subgraphs.runtime.objects import ObjectStore
from subgraphs.runtime.revocation import EndedSignIns
from subgraphs.runtime.settings import Settings

Event = TypeVar("Event", bound=DomainEvent)


@dataclass(frozen=True, slots=True)
class EventMetadata:
    """What an event carries besides its payload."""

    event_id: str
    topic: str
    key: str
    source: str
    occurred_at: datetime
    correlation_id: str
    traceparent: str


@dataclass(frozen=True, slots=True)
class Consumer(Generic[Event]):
    """One service's interest in one topic.

    Args:
        service: short name; the consumer group is `<service>-service` unless `KAFKA_GROUP_ID` is set.
        event: the fields of the payload that the service reads.
        handle: does the work in the given transaction; the runtime commits it together with the inbox row, tries
            again after 1, 2 and 4 s, and then sends the event to the dead-letter topic.
    """

    service: str
    topic: str
    event: type[Event]
    handle: Callable[[AsyncSession, Event, EventMetadata], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Background:
    """Work that goes on as long as the process lives; it is started again, with back-off, when it fails.

    Every instance of the service runs it, so it must be safe side by side (row locks, advisory locks).
    """

    name: str
    run: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class GrpcServicer:
    """One gRPC service on the port of its workload.

    Args:
        register: puts the servicer on a server (`add_..._to_server`).
        public_methods: method names that callers without a credential may call.
        service_only: whether only other services may call it.
        most_request_bytes: of one message of a caller, after decompression; methods without a credential take less.
    """

    full_name: str
    register: Callable[[grpc.aio.Server], None]
    public_methods: frozenset[str] = frozenset()
    service_only: bool = False
    most_request_bytes: int = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ServiceFaces:
    """A service's faces besides its share of the group's GraphQL schema; `name` is short (`device`)."""

    name: str
    servicers: Sequence[GrpcServicer] = ()
    consumers: Sequence[Consumer[Any]] = ()
    background: Sequence[Background] = ()


async def _nothing_to_close() -> None:
    return None


@dataclass(frozen=True, slots=True)
class GroupFaces:
    """Everything that a group shows.

    Args:
        graphql_context: a fresh GraphQL context (loaders included) for a request.
        key_source: given by the group that signs access tokens.
        ended_sign_ins: given by the group that signs people in.
        device_credentials: given by the group that registers readers.
        close: releases what the group holds, after its servers have drained.
    """

    group: Group
    services: Sequence[ServiceFaces]
    schema: Schema
    graphql_context: Callable[[RequestContext], object]
    http_routes: Sequence[BaseRoute] = ()
    key_source: KeySource | None = None
    ended_sign_ins: EndedSignIns | None = None
    device_credentials: DeviceCredentials | None = None
    close: Callable[[], Awaitable[None]] = field(default=_nothing_to_close)


@dataclass(frozen=True, slots=True)
class GroupResources:
    """What a group is given to work with.

    Args:
        clients: by the short name of the calling service.
    """

    settings: Settings
    database: Database
    sealer: Sealer
    redis: Redis
    limiter: RateLimiter
    objects: ObjectStore
    clients: Callable[[str], ServiceClient]
    clock: Clock
