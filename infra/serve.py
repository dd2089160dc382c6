"""`manpasik serve`: any set of workloads in one process.

The router is imported only where it is served, and the services only where those are: each process holds its own.
"""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Mapping, Sequence

import uvloop

from domain.catalog import Group, services_of, workload
from domain.sealing import SealBroken
from subgraphs.runtime.hardening import load_settings
from subgraphs.runtime.service_keys import ServiceKeyError
from subgraphs.runtime.serving import PortInUse, stop_signal
from subgraphs.runtime.settings import Settings, SettingsError
from subgraphs.runtime.telemetry import configure_logging, configure_tracing

_ROUTER_NAMES = frozenset({"router", "gateway"})


class ServeError(Exception):
    """The process cannot serve; one line for the person at the terminal."""


def run(names: Sequence[str], ports: Sequence[str], environ: Mapping[str, str]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        names: services, groups, or `router`.
        ports: `NAME=PORT` where a gRPC port differs from the catalogue's.

    Raises:
        ServeError: unknown name, wrong setting, port in use, wrong master key.
    """
    try:
        services = expand(names)
        settings = load_settings(environ, services=services)
        chosen = dict(_port(text) for text in ports)
    except (SettingsError, ValueError) as error:
        raise ServeError(str(error)) from error
    configure_logging(settings.service)
    configure_tracing(settings.service, process="-".join(names))
    wants_router = any(name in _ROUTER_NAMES for name in names)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, services, chosen, with_router=wants_router))
    except (PortInUse, SealBroken, ServiceKeyError, SettingsError) as error:
        raise ServeError(str(error)) from error


async def _serve(settings: Settings, services: Sequence[str], ports: Mapping[str, int], *, with_router: bool) -> None:
    started: list[Callable[[], Awaitable[None]]] = []
    try:
        if services:
            from subgraphs.registry import builder  # noqa: PLC0415 - see the module
            from subgraphs.runtime.host import Host  # noqa: PLC0415

            host = Host(settings, services, ports=ports)
            started.append(host.stop)
            await host.start(builder)
        if with_router:
            from infra.router_process import RouterProcess  # noqa: PLC0415 - see the module

            router = RouterProcess(settings)
            started.append(router.stop)
            await router.start()
        # What was made so far (schemas, mappers, modules) lives as long as the process: the collector need not look at
        # it again with every full collection.
        gc.collect()
        gc.freeze()
        await stop_signal()
    finally:
        for stop in reversed(started):
            await stop()


def expand(names: Sequence[str]) -> list[str]:
    """The short names of the services that names of services and groups stand for, without the router.

    Raises:
        ValueError: a name is unknown, or that service is not built yet.
    """
    groups = {group.value: group for group in Group if group is not Group.ROUTER}
    services: list[str] = []
    for name in names:
        if name in _ROUTER_NAMES:
            continue
        if name in groups and (members := services_of(groups[name])):
            services += [member.name for member in members]
            continue
        try:
            found = workload(name)
        except KeyError as error:
            raise ValueError(f"{error.args[0]}; groups are {', '.join(groups)}; and there is router") from error
        if not found.exists:
            raise ValueError(f"{found.full_name} is not built yet")
        services.append(found.name)
    return list(dict.fromkeys(services))


def _port(text: str) -> tuple[str, int]:
    name, separator, port = text.partition("=")
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"--grpc-port takes NAME=PORT, not {text!r}")
    return workload(name).name, int(port)
