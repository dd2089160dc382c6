"""Starts the embedded platform in order, waits, and takes it down in the reverse order."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial

import structlog
from rich.console import Console

from domain.catalog import built_groups
from infra.demo.run import Demo
from infra.local.broker import EmbeddedBroker
from infra.local.errors import LocalStackError
from infra.local.postgres import EmbeddedPostgres
from infra.local.process import LOOPBACK
from infra.sandbox.providers import ProviderSandboxes
from infra.up.children import Child
from infra.up.plan import Plan, plan
from infra.up.secrets import load_or_create, make_private

_WATCH_EVERY_S = 1.0


async def run(environ: Mapping[str, str], *, demo: bool) -> None:
    """Run the platform until SIGINT or SIGTERM.

    Raises:
        LocalStackError: something cannot start or has stopped; one line for the person at the terminal.
    """
    console = Console(highlight=False, soft_wrap=True)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))  # the console is for people
    asked = _stop_asked()
    planned = plan(environ)
    started = time.monotonic()
    async with AsyncExitStack() as stack:
        starting = asyncio.create_task(_start(planned, stack, console))
        await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            with suppress(asyncio.CancelledError):
                await starting
            return
        watched, secrets = starting.result()
        console.print(f"ready after {time.monotonic() - started:.1f} s")
        work = [asyncio.create_task(_watch(watched))]
        if demo:
            work.append(asyncio.create_task(Demo(planned, console, environ=environ, secrets=secrets).run()))
        else:
            console.print(f"GraphQL   {planned.router_url}/graphql")
        done, _ = await asyncio.wait({*work, asked}, return_when=asyncio.FIRST_COMPLETED)
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        console.print("stopping")
        for task in done - {asked}:
            task.result()
    console.print("stopped")


def _stop_asked() -> "asyncio.Task[None]":
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, event.set)

    async def wait() -> None:
        await event.wait()

    return asyncio.create_task(wait())


async def _start(
    planned: Plan, stack: AsyncExitStack, console: Console
) -> tuple[list[Callable[[], None]], dict[str, str]]:
    make_private(planned.home)
    planned.require_free_ports()
    secrets = load_or_create(planned.home / "secrets.json")
    console.print(f"starting PostgreSQL and the broker (data: {planned.home})")
    database, broker, _ = await asyncio.gather(
        _database(planned, secrets, stack), _broker(planned, stack), _providers(planned, stack)
    )
    environment = planned.environment(
        secrets=secrets,
        database_port=database.address.port if database else None,
        brokers=broker.address if broker else None,
    )
    console.print("starting the services and the router")
    services = _child(planned, stack, "services", [group.value for group in built_groups()], environment)
    router_environment = environment | {"METRICS_PORT": str(planned.router_metrics_port)}
    router = _child(planned, stack, "router", ["router"], router_environment)
    await asyncio.gather(
        services.ready(f"http://{LOOPBACK}:{planned.subgraph_port}/ready"),
        router.ready(f"http://{LOOPBACK}:{planned.router_port}/health"),
    )
    watched = [services.check, router.check]
    watched += [
        partial(_check, title, server) for title, server in (("PostgreSQL", database), ("the broker", broker)) if server
    ]
    return watched, secrets


def _check(title: str, server: EmbeddedPostgres | EmbeddedBroker) -> None:
    """Raises: LocalStackError: the server has ended."""
    if not server.running:
        raise LocalStackError(f"{title} stopped (log: {server.log})")


def _child(
    planned: Plan, stack: AsyncExitStack, title: str, arguments: list[str], environment: Mapping[str, str]
) -> Child:
    ports = [f"--grpc-port={name}={port}" for name, port in planned.grpc_ports.items()] if title == "services" else []
    grace_s = float(environment.get("SHUTDOWN_TIMEOUT_SECONDS", "5"))
    child = Child(
        title, [*arguments, *ports], log=planned.home / f"{title}.log", environment=environment, grace_s=grace_s
    )
    stack.push_async_callback(child.stop)
    return child


async def _database(planned: Plan, secrets: Mapping[str, str], stack: AsyncExitStack) -> EmbeddedPostgres | None:
    if not planned.embeds_database:
        return None
    server = EmbeddedPostgres(planned.home / "postgres", password=secrets["DB_PASSWORD"])
    await server.start()
    stack.push_async_callback(server.stop)
    return server


async def _broker(planned: Plan, stack: AsyncExitStack) -> EmbeddedBroker | None:
    if not planned.embeds_broker:
        return None
    server = EmbeddedBroker(planned.home / "broker")
    await server.start()
    stack.push_async_callback(server.stop)
    return server


async def _providers(planned: Plan, stack: AsyncExitStack) -> None:
    sandboxes = ProviderSandboxes(planned)
    stack.push_async_callback(sandboxes.stop)
    await sandboxes.start()


async def _watch(checks: list[Callable[[], None]]) -> None:
    """Raises: LocalStackError: a process of the platform has stopped."""
    while True:
        for check in checks:
            check()
        await asyncio.sleep(_WATCH_EVERY_S)
