"""Hosts any set of services in one process: migrates, builds their groups, serves, and drains when told to stop.

Start: databases and keys -> groups -> gRPC and HTTP servers -> relay, consumers, background work.
Stop: the other way round, within `SHUTDOWN_TIMEOUT_SECONDS`, so that nothing that was taken on is dropped.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from urllib.parse import urljoin

import structlog
from redis.asyncio import Redis
from starlette.routing import BaseRoute

from domain.audit import SEAL_BATCH, AccessLog
from domain.catalog import Group, Workload, workload
from domain.clock import SystemClock
from domain.sealing import EventSealer, Sealer, master_key
from subgraphs.runtime.auth import Authenticator, DeviceCredentials, KeySource, RemoteKeys, issuers_of
from subgraphs.runtime.clients import Channels, client_factory
from subgraphs.runtime.consumers import ConsumerHost
from subgraphs.runtime.database import Database
from subgraphs.runtime.device_credentials import RemoteDeviceCredentials
from subgraphs.runtime.events import EventReader, EventWriter
from subgraphs.runtime.faces import Background, GroupFaces, GroupResources, ServiceFaces
from subgraphs.runtime.grpc_server import GrpcServer, access_of
from subgraphs.runtime.http_protocol import Connections
from subgraphs.runtime.http_server import Check, metrics_app, states_of, subgraph_app
from subgraphs.runtime.keys import load_sealer, load_service_keys
from subgraphs.runtime.limits import RateLimiter
from subgraphs.runtime.migrations import migrate_all
from subgraphs.runtime.objects import object_store
from subgraphs.runtime.outages import is_outage
from subgraphs.runtime.outbox import OutboxRelay
from subgraphs.runtime.proxies import TrustedProxies
from subgraphs.runtime.revocation import RemoteEndedSignIns, Revocations
from subgraphs.runtime.service_tokens import ServiceTokens
from subgraphs.runtime.serving import HttpServer, PortInUse
from subgraphs.runtime.settings import RedisSettings, Settings
from subgraphs.runtime.slots import STREAMS, Slots
from subgraphs.runtime.telemetry import BACKGROUND_FAILURES
from subgraphs.runtime.tls import grpc_server_credentials, redis_connection

_log = structlog.get_logger("host")

Builder = Callable[[Group], Callable[[GroupResources], Awaitable[GroupFaces]]]
SEAL_EVERY_S = 1.0
READINESS_EVERY_S = 2.0
_RESTART_AFTER_S = (0.5, 1.0, 2.0, 5.0, 10.0)
_SOUND_AFTER_S = 60.0
_DATABASE_WAIT_S = 30.0
_DRAIN_SHARE = 0.5
"""Of the time to stop, what requests in hand get; the rest is for background work, and for what the two leave over."""
_LEAST_S = 0.5


def redis_of(settings: RedisSettings) -> Redis:
    """Redis, or with `REDIS_HOST=memory` its like inside the process."""
    if settings.host == "memory":
        from fakeredis import FakeAsyncRedis  # noqa: PLC0415 - only where no Redis is configured

        return FakeAsyncRedis()
    return Redis(**redis_connection(settings))


class Host:
    """The process's services.

    Args:
        names: workloads (`auth`, `device-service`); their groups' subgraphs are served along.
        ports: gRPC ports that differ from the catalogue's, by short name; 0 takes a free one.
    """

    def __init__(self, settings: Settings, names: Sequence[str], *, ports: Mapping[str, int] | None = None) -> None:
        self._settings = settings
        self._workloads: list[Workload] = [workload(name) for name in dict.fromkeys(names)]
        self._ports = dict(ports or {})
        if settings.service.grpc_port is not None and len(self._workloads) == 1:
            self._ports.setdefault(self._workloads[0].name, settings.service.grpc_port)
        self._groups = tuple(dict.fromkeys(w.group for w in self._workloads))
        self._databases: dict[Group, Database] = {}
        self._sealers: dict[Group, Sealer] = {}
        self._faces: list[GroupFaces] = []
        self._grpc: dict[str, GrpcServer] = {}
        self._http: list[HttpServer] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._checks: dict[str, Check] = {}
        self._streams = Slots(STREAMS, what="streams")
        self._channels = Channels(settings)
        self._redis = redis_of(settings.redis)
        self.grpc_ports: dict[str, int] = {}
        self.subgraph_port = 0
        self.metrics_port = 0

    async def start(self, builder: Builder) -> None:
        """Serve; on return every port answers. A start that fails lets go of all that it had taken.

        Raises:
            PortInUse: naming the port.
            SealBroken: the master key does not open the data keys.
            ServiceKeyError: a key of a service is missing or cannot be used.
        """
        try:
            await self._start(builder)
        except BaseException:
            await self._release(grace_s=0.0)
            raise

    async def _start(self, builder: Builder) -> None:
        await when_database_answers(lambda: migrate_all(self._settings.database, self._groups))
        await self._build(builder)
        key_source = next((f.key_source for f in self._faces if f.key_source), None)
        authenticator = self._authenticator(key_source)
        hosted = self._hosted()
        await self._serve_grpc(hosted, authenticator)
        await self._serve_http(authenticator)
        self._start_tasks(hosted)
        _log.info("serving", services=[s.name for s in hosted], grpc=self.grpc_ports, http=self.subgraph_port)

    async def stop(self) -> None:
        """Refuse what is new, finish what is in hand, then let go of everything."""
        await self._release(grace_s=self._settings.service.shutdown_timeout_seconds)
        _log.info("stopped")

    async def _release(self, *, grace_s: float) -> None:
        """Let go of everything, in the reverse order of the start; what fails to end does not keep the rest."""
        loop = asyncio.get_running_loop()
        until = loop.time() + grace_s
        drain_s = grace_s * _DRAIN_SHARE
        servers = [server.stop(drain_s) for server in self._grpc.values()] + [s.stop(drain_s) for s in self._http]
        # At least a moment more than the second that an HTTP server gives its requests at least.
        servers_until = max(until, loop.time() + 1.0 + _LEAST_S)
        await asyncio.gather(*(_let_go("server", stop, until=servers_until) for stop in servers))
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            _, still = await asyncio.wait(self._tasks, timeout=max(_LEAST_S, until - loop.time()))
            for task in still:
                _log.error("background work does not end", task=task.get_name())
        for faces in self._faces:
            await _let_go(f"group {faces.group.value}", faces.close(), until=until)
        await _let_go("channels", self._channels.close(), until=until)
        await _let_go("redis", self._redis.aclose(), until=until)
        for database in self._databases.values():
            await _let_go(f"database {database.name}", database.close(), until=until)

    async def _build(self, builder: Builder) -> None:
        self._service_keys, self._published_keys = load_service_keys(self._settings, self._groups)
        tokens = ServiceTokens(self._service_keys, self._published_keys)
        self._tokens = tokens
        limiter = RateLimiter(self._redis)
        objects = object_store(self._settings)
        self._object_routes: list[BaseRoute] = objects.routes()
        for group in self._groups:
            database = Database(self._settings.database, group)
            self._databases[group] = database
            self._sealers[group] = await load_sealer(database, self._settings.master_secret)
            resources = GroupResources(
                settings=self._settings,
                database=database,
                sealer=self._sealers[group],
                redis=self._redis,
                limiter=limiter,
                objects=objects,
                clients=client_factory(self._channels, tokens),
                clock=SystemClock(),
            )
            self._faces.append(await builder(group)(resources))

    def _authenticator(self, key_source: KeySource | None) -> Authenticator:
        tokens = self._settings.tokens
        jwks_url = tokens.jwks_url or "http://manpasik-auth-service:8081/.well-known/jwks.json"
        keys = key_source or RemoteKeys(jwks_url)
        devices: DeviceCredentials | None = next(
            (f.device_credentials for f in self._faces if f.device_credentials), None
        )
        if devices is None:
            caller = next((w.name for w in self._workloads if w.name == "measurement"), None)
            if caller is not None:
                devices = RemoteDeviceCredentials(client_factory(self._channels, self._tokens)(caller))
        ended = next((f.ended_sign_ins for f in self._faces if f.ended_sign_ins), None)
        self._revocations = Revocations(ended or RemoteEndedSignIns(urljoin(jwks_url, "ended-sign-ins")))
        return Authenticator(
            issuers_of(tokens, keys), services=self._tokens, devices=devices, revocations=self._revocations
        )

    def _hosted(self) -> list[ServiceFaces]:
        names = {w.name for w in self._workloads}
        return [service for faces in self._faces for service in faces.services if service.name in names]

    async def _serve_grpc(self, hosted: Sequence[ServiceFaces], authenticator: Authenticator) -> None:
        service_settings = self._settings.service
        for service in hosted:
            port = self._ports.get(service.name, workload(service.name).port)
            access = access_of(service.name, service.servicers, authenticator, service_settings)
            server = GrpcServer(
                f"{service_settings.listen_host}:{port}",
                service.servicers,
                access,
                service_settings,
                streams=self._streams,
                credentials=grpc_server_credentials(self._settings.transport),
            )
            self._grpc[service.name] = server
            try:
                self.grpc_ports[service.name] = await server.start()
            except RuntimeError as error:
                raise PortInUse(f"port {port} of {service.name}-service is in use") from error

    async def _serve_http(self, authenticator: Authenticator) -> None:
        checks = self._checks = {
            f"database {group.value}": database.ping for group, database in self._databases.items()
        }
        checks["ended sign-ins"] = self._revocations.check
        proxies = TrustedProxies(self._settings.service.trusted_proxies)
        app = subgraph_app(
            self._faces,
            authenticator=authenticator,
            checks=checks,
            routes=self._object_routes,
            proxies=proxies,
            within_s=self._settings.service.grpc_deadline_seconds,
        )
        wanted = (
            (app, self._settings.service.subgraph_port, "the GraphQL subgraphs"),
            (metrics_app(checks), self._settings.service.metrics_port, "metrics"),
        )
        for served, port, what in wanted:
            try:
                server = HttpServer(
                    served,
                    self._settings.service.listen_host,
                    port,
                    connections=Connections(proxies=proxies),
                    certificate=self._settings.transport.http_certificate,
                )
            except OSError as error:
                raise PortInUse(f"port {port} of {what} is in use") from error
            self._http.append(server)
            await server.start()
        self.subgraph_port, self.metrics_port = (server.port for server in self._http)

    async def _follow_readiness(self) -> None:
        """Health checks over gRPC answer what `/ready` answers."""
        while True:
            states = await states_of(self._checks)
            for server in self._grpc.values():
                server.set_serving(all(state == "up" for state in states.values()))
            await asyncio.sleep(READINESS_EVERY_S)

    def _start_tasks(self, hosted: Sequence[ServiceFaces]) -> None:
        kafka = self._settings.kafka
        self._keep_running(Background("readiness", self._follow_readiness))
        self._keep_running(Background("ended sign-ins", self._revocations.follow))
        event_sealer = EventSealer([master_key(self._settings.master_secret)])
        writer = EventWriter(self._service_keys, event_sealer)
        reader = EventReader(self._published_keys, event_sealer)
        for group, database in self._databases.items():
            self._keep_running(
                Background(
                    f"relay {group.value}",
                    OutboxRelay(database=database, kafka=kafka, sealer=self._sealers[group], writer=writer).run,
                )
            )
            self._keep_running(Background(f"access log {group.value}", partial(seal_access_log, database)))
        for faces in self._faces:
            database = self._databases[faces.group]
            for service in faces.services:
                if service not in hosted:
                    continue
                for background in service.background:
                    self._keep_running(background)
                if service.consumers:
                    host = ConsumerHost(
                        database=database,
                        kafka=kafka,
                        consumers=service.consumers,
                        reader=reader,
                        principal_service=service.name,
                        stop_within_s=self._settings.service.shutdown_timeout_seconds * (1 - _DRAIN_SHARE),
                    )
                    self._keep_running(Background(f"consumers {service.name}", host.run))

    def _keep_running(self, background: Background) -> None:
        self._tasks.append(asyncio.create_task(_restarted(background), name=background.name))


async def _let_go(what: str, ending: Awaitable[None], *, until: float) -> None:
    """Let go of something, until a time of the loop; what comes late still gets a moment."""
    try:
        async with asyncio.timeout_at(max(until, asyncio.get_running_loop().time() + _LEAST_S)):
            await ending
    except Exception as error:  # noqa: BLE001 - the boundary: the rest must still be released
        _log.error("not released cleanly", what=what, exc_info=error)


async def when_database_answers(
    work: Callable[[], Awaitable[None]], *, within_s: float = _DATABASE_WAIT_S, every_s: float = 0.5
) -> None:
    """Do the work as soon as the database lets it: processes and their database are often started together.

    Raises:
        Exception: what the work raised, when it is no outage or the outage lasted longer than `within_s`.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + within_s
    waited = False
    while True:
        try:
            await work()
            return
        except Exception as error:
            if not is_outage(error) or loop.time() + every_s > until:
                raise
            if not waited:
                _log.warning("waiting for the database", up_to_s=within_s, error=repr(error))
            waited = True
        await asyncio.sleep(every_s)


async def seal_access_log(database: Database) -> None:
    """Link new entries of the log of health-data reads into their chains, every second."""
    while True:
        async with database.transaction() as session:
            sealed = await AccessLog(session).seal()
        if sealed < SEAL_BATCH:  # or it would run without a pause for as long as somebody reads
            await asyncio.sleep(SEAL_EVERY_S)


async def _restarted(background: Background, *, pauses_s: Sequence[float] = _RESTART_AFTER_S) -> None:
    """Run it for ever; when it fails, log, wait (longer each time), and run it again."""
    failures = 0
    while True:
        started = asyncio.get_running_loop().time()
        try:
            await background.run()
            return
        except Exception as error:  # noqa: BLE001 - the boundary of background work
            BACKGROUND_FAILURES.labels(background.name).inc()
            if is_outage(error):
                _log.warning("background work waits for what it needs", task=background.name, error=repr(error))
            else:
                _log.error("background work failed", task=background.name, exc_info=error)
        if asyncio.get_running_loop().time() - started > _SOUND_AFTER_S:
            failures = 0
        await asyncio.sleep(pauses_s[min(failures, len(pauses_s) - 1)])
        failures += 1
