"""What an operator asks a running platform: health, readiness, metrics, and its methods by reflection."""

import asyncio
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from domain.catalog import Workload, built_groups, services_of
from tests.e2e.conftest import ChannelTo
from tests.support.patience import PATIENCE_S
from tests.support.platform import Platform, samples_of
from tests.support.readers import sign_up

pytestmark = [pytest.mark.xdist_group("e2e"), pytest.mark.timeout(120)]

SERVICES = [service for group in built_groups() for service in services_of(group)]


async def test_health_and_readiness_answer(platform: Platform) -> None:
    for path in ("/health", "/ready"):
        assert (await platform.get(platform.plan.subgraph_port, path)).status == 200, path
    assert (await platform.get(platform.plan.router_port, "/health")).status == 200
    keys = await platform.get(platform.plan.subgraph_port, "/.well-known/jwks.json")
    assert keys.json["keys"]
    assert all("d" not in key for key in keys.json["keys"]), "a private key is published"


async def test_a_connection_outlives_the_pauses_between_requests(platform: Platform) -> None:
    """The server must not be the one who closes it: a POST that meets the closing is lost."""
    reader, writer = await asyncio.open_connection("127.0.0.1", platform.plan.subgraph_port)
    for pause_s in (0.0, 6.0):
        await asyncio.sleep(pause_s)
        writer.write(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        assert head.startswith(b"HTTP/1.1 200"), head
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        await reader.readexactly(length)
    writer.close()
    await writer.wait_closed()


async def test_metrics_of_both_processes_count_what_was_asked(platform: Platform) -> None:
    person = await sign_up(platform)
    answer = await platform.graphql("{ me { id devices { totalCount } } }", token=person.token)
    assert "errors" not in answer
    services = await platform.get(platform.plan.metrics_port, "/metrics")
    router = await platform.get(platform.plan.router_metrics_port, "/metrics")
    assert services.headers["content-type"].startswith("text/plain")
    ours, theirs = list(samples_of(services.body.decode())), list(samples_of(router.body.decode()))
    handled = {
        labels["method"]: value
        for name, labels, value in ours
        if name == "grpc_server_handled_total" and labels["code"] == "OK"
    }
    assert handled["Login"] >= 1
    subgraphs = {
        labels["group"]: value
        for name, labels, value in ours
        if name == "graphql_subgraph_requests_total" and labels["outcome"] == "received"
    }
    assert subgraphs["identity"] >= 1
    assert subgraphs["hardware"] >= 1
    names = {name for name, _, _ in ours}
    assert {"outbox_pending", "outbox_lag_seconds", "process_resident_memory_bytes"} <= names
    asked = {labels["result"]: value for name, labels, value in theirs if name == "router_requests_total"}
    assert sum(asked.values()) >= 1
    assert {labels["subgraph"] for name, labels, _ in theirs if name == "router_subgraph_request_seconds_count"}
    # Metrics are for operators: nobody's address or token is in them.
    assert person.email.encode() not in services.body + router.body


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
async def test_reflection_lists_and_describes_the_services(
    platform: Platform, channel_to: ChannelTo, service: Workload
) -> None:
    channel = channel_to(platform, service.name)
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]  # no asynchronous stubs
    [listed] = await _reflect(stub, reflection_pb2.ServerReflectionRequest(list_services=""))
    names = {entry.name for entry in listed.list_services_response.service}
    assert {service.grpc_service, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} <= names
    [described] = await _reflect(
        stub, reflection_pb2.ServerReflectionRequest(file_containing_symbol=service.grpc_service)
    )
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(content)
        for content in described.file_descriptor_response.file_descriptor_proto
    ]
    methods = {
        f"{file.package}.{found.name}": [method.name for method in found.method]
        for file in files
        for found in file.service
    }
    assert methods[service.grpc_service]


async def _reflect(
    stub: Any, request: reflection_pb2.ServerReflectionRequest
) -> list[reflection_pb2.ServerReflectionResponse]:
    return [answer async for answer in stub.ServerReflectionInfo(iter([request]), timeout=10)]
