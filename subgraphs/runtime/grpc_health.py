"""Health of a workload's port as gRPC probes ask for it: under every name by which a service is known.

`grpc_health` writes to a watcher under the lock that a change of state needs: one watcher that reads nothing would keep the process
from stopping. Here a change wakes the watchers and waits for none of them. Source: the gRPC Health Checking Protocol.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

_MOST_NAME = 200


def health_names(workload: str, grpc_services: Iterable[str]) -> frozenset[str]:
    """The names that a workload answers to: "", `auth`, `auth-service`, and the full names of its gRPC services."""
    return frozenset({"", workload, f"{workload}-service", *grpc_services})


class Health(health_pb2_grpc.HealthServicer):
    """The health of one port: all its names share one state.

    Args:
        names: see `health_names`; any other is unknown.
    """

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._is_serving = False
        self._is_closing = False
        self._changed = asyncio.Event()

    def set_serving(self, is_serving: bool) -> None:
        """Change the state, and wake who watches it; without effect once `close` was called."""
        if is_serving == self._is_serving or self._is_closing:
            return
        self._is_serving = is_serving
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def close(self) -> None:
        """Not serving from now on, whatever is said later."""
        self.set_serving(False)
        self._is_closing = True

    async def Check(  # noqa: N802 - the name of the wire
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        if request.service not in self._names:
            name = request.service[:_MOST_NAME]
            await context.abort(grpc.StatusCode.NOT_FOUND, f"No service {name!r} is served on this port.")
        return health_pb2.HealthCheckResponse(status=self._status())

    async def Watch(  # noqa: N802 - the name of the wire
        self,
        request: health_pb2.HealthCheckRequest,
        context: grpc.aio.ServicerContext[Any, Any],  # noqa: ARG002 - the interceptor writes what is yielded
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        is_known = request.service in self._names
        told: int | None = None
        while True:
            changed = self._changed
            status = self._status() if is_known else health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            if status != told:
                yield health_pb2.HealthCheckResponse(status=status)
                told = status
            await changed.wait()

    def _status(self) -> int:
        states = health_pb2.HealthCheckResponse
        return states.SERVING if self._is_serving else states.NOT_SERVING
