"""A whole platform for end-to-end tests: real processes on free ports over the run's PostgreSQL and broker."""

import asyncio
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import grpc.aio
import psutil
from prometheus_client.parser import text_string_to_metric_families

from devices.client.platform import Platform as ReaderSide
from devices.client.platform import PlatformAddresses
from domain.catalog import WORKLOADS, Group, built_groups, services_of
from domain.sealing import EventSealer, master_key
from infra.local.process import LOOPBACK, free_port
from infra.up.children import Child
from infra.up.plan import Plan
from subgraphs.runtime.database import connect
from subgraphs.runtime.events import EventReader
from subgraphs.runtime.service_keys import PUBLIC_FOLDER, PublicKeyFolder, SigningKeys
from subgraphs.runtime.service_tokens import ServiceTokens
from subgraphs.runtime.settings import DatabaseSettings

SECRETS = {
    "JWT_SECRET": "a secret of the end-to-end tests",
    "ENCRYPTION_MASTER_KEY": "bWFzdGVyLWtleS1vZi10aGUtZW5kLXRvLWVuZC10ZXM=",
}
ADMIN = {"BOOTSTRAP_ADMIN_EMAIL": "admin@e2e.example", "BOOTSTRAP_ADMIN_PASSWORD": "E2e-admin-2026!"}
PASSWORD = "E2e-Passw0rd!"
_PATIENT = json.dumps({"methodConfig": [{"name": [{}], "waitForReady": True}]})


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer. `json` reads the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class _Process:
    """One process of services: which groups, on which HTTP ports, and the process when it runs."""

    groups: Sequence[Group]
    subgraph_port: int
    metrics_port: int
    child: Child | None = None


class Platform:
    """The services and the router as `manpasik up` runs them, on ports of their own.

    Args:
        home: folder for logs and objects.
        database: variables that say where PostgreSQL is (`DB_HOST`, ...).
        extra: variables that differ from the defaults, such as `GRPC_AUTH`.
        apart: groups that get a process of their own, so that a test can stop one of them.
    """

    def __init__(
        self,
        home: Path,
        *,
        database: Mapping[str, str],
        brokers: str,
        extra: Mapping[str, str],
        apart: Sequence[Group] = (),
    ) -> None:
        services = [service for group in built_groups() for service in services_of(group)]
        together = [group for group in built_groups() if group not in apart]
        self._processes = [
            _Process(groups, free_port(), free_port()) for groups in (together, *([group] for group in apart)) if groups
        ]
        main = self._processes[0]
        urls = {
            f"{group.value.upper()}_SUBGRAPH_URL": f"http://{LOOPBACK}:{process.subgraph_port}/{group.value}/graphql"
            for process in self._processes
            for group in process.groups
        }
        self.plan = Plan(
            home=home,
            router_port=free_port(),
            subgraph_port=main.subgraph_port,
            metrics_port=main.metrics_port,
            router_metrics_port=free_port(),
            mail_port=free_port(),
            toss_port=free_port(),
            push_port=free_port(),
            sms_port=free_port(),
            grpc_ports={service.name: free_port() for service in services},
            external={
                **os.environ,
                **database,
                "KAFKA_BROKERS": brokers,
                "DB_MAX_CONNS": "8",
                "REGISTRATIONS_PER_HOUR": "100000",  # all people of the tests come from one address
                **ADMIN,
                **urls,
                **extra,
            },
        )
        self._environment = self.plan.environment(secrets=SECRETS, database_port=None, brokers=None)
        self._router: Child | None = None

    async def start(self) -> None:
        """Start all processes and wait until they are ready."""
        router_environment = self._environment | {"METRICS_PORT": str(self.plan.router_metrics_port)}
        self._router = Child(
            "router", ["router"], log=self.plan.home / "router.log", environment=router_environment, grace_s=5
        )
        await asyncio.gather(self.start_services(), self._router.ready(self.url(self.plan.router_port, "/health")))

    async def start_services(self) -> None:
        """Start the services' processes (again) and wait until they are ready."""
        await asyncio.gather(*(self._start(process) for process in self._processes))

    async def start_group(self, group: Group) -> None:
        """Start the process of a group (again) and wait until it is ready."""
        await self._start(self._process_of(group))

    async def stop_group(self, group: Group) -> None:
        """Stop the process of a group in order."""
        process = self._process_of(group)
        assert process.child is not None
        await process.child.stop()

    async def _start(self, process: _Process) -> None:
        names = [group.value for group in process.groups]
        services = [service.name for group in process.groups for service in services_of(group)]
        ports = {"SUBGRAPH_PORT": str(process.subgraph_port), "METRICS_PORT": str(process.metrics_port)}
        process.child = Child(
            "services",
            [*names, *(f"--grpc-port={name}={self.plan.grpc_ports[name]}" for name in services)],
            log=self.plan.home / f"{'-'.join(names)}.log",
            environment=self._environment | ports,
            grace_s=5,
        )
        await process.child.ready(self.url(process.subgraph_port, "/ready"))

    def _process_of(self, group: Group) -> _Process:
        return next(process for process in self._processes if group in process.groups)

    async def kill_services(self) -> None:
        """SIGKILL the services' processes, as a power failure would."""
        for process in self._processes:
            assert process.child is not None
            for child in psutil.Process(process.child.pid).children():
                child.send_signal(signal.SIGKILL)
        for process in self._processes:
            if process.child is not None:
                await process.child.stop()  # only waits for the watcher, which has nothing left to stop

    async def stop(self) -> None:
        """Stop all processes in order."""
        for child in (self._router, *(process.child for process in self._processes)):
            if child is not None:
                await child.stop()

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of its processes."""
        return self._environment

    def address(self, service: str) -> str:
        """`host:port` of a service's gRPC server."""
        return f"{LOOPBACK}:{self.plan.grpc_ports[service]}"

    def channel(self, service: str) -> grpc.aio.Channel:
        """A channel to a service, whose calls wait until it is connected, however busy the machine; the caller closes it."""
        return grpc.aio.insecure_channel(self.address(service), options=[("grpc.service_config", _PATIENT)])

    def service_tokens(self) -> ServiceTokens:
        """Tokens of any service, signed with the platform's own keys."""
        folder = self.plan.service_keys_folder
        names = [workload.name for workload in WORKLOADS]
        return ServiceTokens(SigningKeys.read(folder, names), PublicKeyFolder(folder / PUBLIC_FOLDER))

    def event_reader(self) -> EventReader:
        """Reads events as the platform's consumers do."""
        master = master_key(self._environment["ENCRYPTION_MASTER_KEY"])
        return EventReader(PublicKeyFolder(self.plan.service_keys_folder / PUBLIC_FOLDER), EventSealer([master]))

    def reader_side(self) -> ReaderSide:
        """The platform as readers see it; the caller closes it."""
        return ReaderSide(
            PlatformAddresses(
                device=self.address("device"),
                measurement=self.address("measurement"),
                cartridge=self.address("cartridge"),
                calibration=self.address("calibration"),
            )
        )

    @staticmethod
    def url(port: int, path: str) -> str:
        return f"http://{LOOPBACK}:{port}{path}"

    async def database(self, group: Group) -> "asyncpg.Connection[Any]":
        """A connection to a group's database, past the services; the caller closes it."""
        settings = DatabaseSettings.read(self._environment)
        return await connect(settings.of(group), f"{settings.name}_{group.value}")

    def subgraph_url(self, group: Group) -> str:
        """Where a group's subgraph answers GraphQL."""
        return self.url(self._process_of(group).subgraph_port, f"/{group.value}/graphql")

    async def get(self, port: int, path: str) -> Reply:
        """The answer to a GET request."""
        return await asyncio.to_thread(_answer_of, urllib.request.Request(self.url(port, path)))

    async def graphql(
        self, query: str, variables: Mapping[str, object] | None = None, *, token: str = ""
    ) -> dict[str, Any]:
        """The router's answer to an operation."""
        answer: dict[str, Any] = (await self.ask(query, variables, token=token)).json
        return answer

    async def ask(
        self,
        query: str,
        variables: Mapping[str, object] | None = None,
        *,
        token: str = "",
        url: str = "",
        authorization: str = "",
    ) -> Reply:
        """The router's answer to an operation, with status and headers; or that of a subgraph, asked at its URL.

        Args:
            token: an access token; `authorization` is the whole header, for other credentials.
        """
        request = urllib.request.Request(
            url or self.url(self.plan.router_port, "/graphql"),
            data=json.dumps({"query": query, "variables": variables or {}}).encode(),
            headers={"content-type": "application/json", "accept": "application/json"},
        )
        if token or authorization:
            request.add_header("authorization", authorization or f"Bearer {token}")
        return await asyncio.to_thread(_answer_of, request)

    async def subgraph_requests(self) -> dict[str, int]:
        """How many requests the router has sent to each subgraph so far."""
        found = {group.value: 0 for group in built_groups()}
        for labels, value in await self.samples(self.plan.router_metrics_port, "router_subgraph_request_seconds_count"):
            found[labels["subgraph"]] = int(value)
        return found

    async def samples(self, port: int, name: str) -> list[tuple[dict[str, str], float]]:
        """The samples of a metric of a process: labels and value."""
        reply = await self.get(port, "/metrics")
        return [(labels, value) for found, labels, value in samples_of(reply.body.decode()) if found == name]

    def processes(self) -> tuple[psutil.Process, psutil.Process]:
        """The processes (watchers, with ours below them) of the services and of the router."""
        services = self._processes[0].child
        assert services is not None
        assert self._router is not None
        return psutil.Process(services.pid), psutil.Process(self._router.pid)


def samples_of(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Name, labels and value of each sample in the text format of Prometheus."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def _answer_of(request: urllib.request.Request) -> Reply:
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return Reply(response.status, dict(response.headers.items()), response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, dict(error.headers.items()), error.read())
