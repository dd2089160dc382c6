"""A whole platform for end-to-end tests: real processes on free ports over the run's PostgreSQL and broker."""

import asyncio
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc.aio
import psutil

from domain.catalog import built_groups, services_of
from infra.local.process import LOOPBACK, free_port
from infra.sandbox.mail import MailSandbox
from infra.up.children import Child
from infra.up.plan import Plan

SECRETS = {
    "JWT_SECRET": "a secret of the end-to-end tests",
    "SERVICE_TOKEN_SECRET": "another secret of the end-to-end tests",
    "ENCRYPTION_MASTER_KEY": "bWFzdGVyLWtleS1vZi10aGUtZW5kLXRvLWVuZC10ZXM=",
}
ADMIN = {"BOOTSTRAP_ADMIN_EMAIL": "admin@e2e.example", "BOOTSTRAP_ADMIN_PASSWORD": "E2e-admin-2026!"}
PASSWORD = "E2e-Passw0rd!"


class Platform:
    """The services and the router as `manpasik up` runs them, on ports of their own.

    Args:
        home: folder for logs and objects.
        database: variables that say where PostgreSQL is (`DB_HOST`, ...).
        extra: variables that differ from the defaults, such as `GRPC_AUTH`.
    """

    def __init__(self, home: Path, *, database: Mapping[str, str], brokers: str, extra: Mapping[str, str]) -> None:
        services = [service for group in built_groups() for service in services_of(group)]
        self.plan = Plan(
            home=home,
            router_port=free_port(),
            subgraph_port=free_port(),
            metrics_port=free_port(),
            router_metrics_port=free_port(),
            mail_port=free_port(),
            grpc_ports={service.name: free_port() for service in services},
            external={**os.environ, **database, "KAFKA_BROKERS": brokers, **ADMIN, **extra},
        )
        self._environment = self.plan.environment(secrets=SECRETS, database_port=None, brokers=None)
        self._mail = MailSandbox(home / "mail", port=self.plan.mail_port)
        self._services: Child | None = None
        self._router: Child | None = None

    async def start(self) -> None:
        """Start both processes and wait until they are ready."""
        await self.start_services()
        router_environment = self._environment | {"METRICS_PORT": str(self.plan.router_metrics_port)}
        self._router = Child(
            "router", ["router"], log=self.plan.home / "router.log", environment=router_environment, grace_s=5
        )
        await self._router.ready(f"http://{LOOPBACK}:{self.plan.router_port}/health")

    async def start_services(self) -> None:
        """Start the services' process (again) and wait until it is ready."""
        ports = [f"--grpc-port={name}={port}" for name, port in self.plan.grpc_ports.items()]
        self._services = Child(
            "services",
            [*(group.value for group in built_groups()), *ports],
            log=self.plan.home / "services.log",
            environment=self._environment,
            grace_s=5,
        )
        await self._services.ready(f"http://{LOOPBACK}:{self.plan.subgraph_port}/ready")

    def kill_services(self) -> None:
        """SIGKILL the services' process, as a power failure would."""
        assert self._services is not None
        for child in psutil.Process(self._services.pid).children():
            child.send_signal(signal.SIGKILL)
            child.wait(10)

    async def stop(self) -> None:
        """Stop both processes in order."""
        for child in (self._router, self._services):
            if child is not None:
                await child.stop()

    def address(self, service: str) -> str:
        """`host:port` of a service's gRPC server."""
        return f"{LOOPBACK}:{self.plan.grpc_ports[service]}"

    def channel(self, service: str) -> grpc.aio.Channel:
        """A channel to a service; the caller closes it."""
        return grpc.aio.insecure_channel(self.address(service))

    async def graphql(
        self, query: str, variables: Mapping[str, object] | None = None, *, token: str = ""
    ) -> dict[str, Any]:
        """The router's answer to an operation."""
        return await asyncio.to_thread(self._graphql, query, variables or {}, token)

    def _graphql(self, query: str, variables: Mapping[str, object], token: str) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://{LOOPBACK}:{self.plan.router_port}/graphql",
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={"content-type": "application/json", "accept": "application/json"},
        )
        if token:
            request.add_header("authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                answer: dict[str, Any] = json.load(response)
        except urllib.error.HTTPError as error:
            answer = json.load(error)
        return answer

    def processes(self) -> tuple[psutil.Process, psutil.Process]:
        """The processes (watchers, with ours below them) of the services and of the router."""
        assert self._services is not None
        assert self._router is not None
        return psutil.Process(self._services.pid), psutil.Process(self._router.pid)
