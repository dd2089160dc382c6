"""The catalogue and the settings equal the platform's published lists: the `.tsv` files beside this file.

Whatever the code has beyond the lists, or deliberately otherwise, is named here with its reason.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from domain.catalog import (
    CALLS,
    DEAD_LETTER_TOPIC,
    TOPICS,
    WORKLOADS,
    Group,
    built_groups,
    may_call,
    services_of,
    topic,
    workload,
)
from subgraphs.runtime.channels import ServiceChannels
from subgraphs.runtime.settings import Settings

_FOLDER = Path(__file__).parent

ADDED_CALLS: dict[tuple[str, str], str] = {
    ("cartridge", "subscription"): "ValidateCartridge says what the person's plan allows",
    ("device", "subscription"): "registering a reader needs to know how many the owner's plan allows",
}
"""Calls that the published list lacks, with the reason for each."""

ADDED_TOPICS: dict[str, str] = {
    "account.proven": "what an unproven holder of an account has set ends when somebody else proves its address",
    "measurement.invalid": "who measured with a broken sensor has no result, and must measure again",
    "payment.failed": "an order whose payment was refused is cancelled, and its stock is free again",
    "payment.refunded": "an order or a plan that was paid back ends",
    "profile.result_units_chosen": "results are shown in the kind of unit that their reader has chosen",
    "shop.order_cancelled": "a payment that is captured for a cancelled order is paid back",
    "subscription.payment_due": "upgrades and renewals are sold by the shop, as a first period is",
    "subscription.changed": "the profile shows the plan in force, which changes long after subscription.created",
}
"""Topics that the published list lacks, with the reason for each."""

ADDED_SUBSCRIBERS: dict[str, tuple[str, str]] = {
    "measurement.completed": ("subscription", "it counts the uses that a plan limits by the day"),
}
"""Subscribers that the published list lacks, by topic, with the reason for each."""

OTHER_DEFAULTS = {
    "KAFKA_GROUP_ID": "empty stands for {service-name}: one process may host several services",
    "GRPC_PORT": "unset stands for 'per service': the catalogue's port",
    "TIMESCALE_HOST": "unset keeps measurements on the server of all other groups",
}
"""Variables whose default is deliberately not the text of the list, with the reason for each."""

NOT_READ_YET = {
    "MILVUS_HOST",
    "MILVUS_PORT",
    "MILVUS_COLLECTION",
    "ELASTICSEARCH_URL",
    "ELASTICSEARCH_USERNAME",
    "ELASTICSEARCH_PASSWORD",
    "MQTT_BROKER_URL",
    "MQTT_USERNAME",
    "MQTT_PASSWORD",
}
"""Variables of services that are built, whose optional products nothing connects to yet. This set only shrinks."""


def _rows(name: str) -> Iterator[list[str]]:
    for line in (_FOLDER / name).read_text().splitlines():
        if line and not line.startswith("#"):
            yield line.split("\t")


def test_workloads_are_the_published_ones() -> None:
    published = {tuple(row) for row in _rows("services.tsv")}
    ours = {(w.full_name, str(w.port), str(w.phase), w.group.value, w.grpc_service or "-", w.role) for w in WORKLOADS}
    assert ours == published


def test_ports_and_names_are_unique() -> None:
    assert len({w.port for w in WORKLOADS}) == len({w.name for w in WORKLOADS}) == len(WORKLOADS) == 23


def test_calls_are_the_published_ones() -> None:
    published = {(row[0], row[1]) for row in _rows("calls.tsv")}
    ours = {(caller, callee) for caller, callees in CALLS.items() for callee in callees}
    assert ours - published == set(ADDED_CALLS)
    assert published - ours == set()


def test_every_call_is_between_workloads() -> None:
    names = {w.name for w in WORKLOADS}
    for caller, callees in CALLS.items():
        assert {caller, *callees} <= names
        assert caller not in callees
        assert all(may_call(caller, callee) for callee in callees)


@pytest.mark.parametrize(
    ("caller", "callee"), [("user", "auth"), ("auth", "gateway"), ("calibration", "device"), ("nobody", "auth")]
)
def test_other_calls_are_not_allowed(caller: str, callee: str) -> None:
    assert not may_call(caller, callee)


def test_topics_are_the_published_ones() -> None:
    published = {}
    for row in _rows("topics.tsv"):
        name, publishers, subscribers = [*row, ""][:3]
        added = {ADDED_SUBSCRIBERS[name][0]} if name in ADDED_SUBSCRIBERS else set()
        published[name] = (set(publishers.split(",")), {s for s in subscribers.split(",") if s} | added)
    ours = {t.name: (set(t.publishers), set(t.subscribers)) for t in TOPICS}
    assert ours.keys() - published.keys() == ADDED_TOPICS.keys()
    assert {name: ours.get(name) for name in published} == published


def test_every_topic_is_between_workloads() -> None:
    names = {w.name for w in WORKLOADS}
    for one in TOPICS:
        assert {*one.publishers, *one.subscribers} <= names
        assert topic(one.name) is one
    assert DEAD_LETTER_TOPIC not in {t.name for t in TOPICS}
    with pytest.raises(KeyError):
        topic("measurement.imagined")


def test_a_workload_is_found_by_both_of_its_names() -> None:
    for one in WORKLOADS:
        assert workload(one.name) is workload(one.full_name) is one
    with pytest.raises(KeyError, match=r"unknown workload 'aut'; there are gateway, auth,"):
        workload("aut")


def test_groups_hold_their_built_services_by_port() -> None:
    assert Group.ROUTER not in built_groups()
    for group in built_groups():
        ports = [w.port for w in services_of(group)]
        assert ports == sorted(ports)
        assert ports
    hosted = {w.name for group in built_groups() for w in services_of(group)}
    assert hosted == {w.name for w in WORKLOADS if w.exists and w.group is not Group.ROUTER}


def _read_variables() -> dict[str, object]:
    """The default of every variable that the settings read."""
    defaults: dict[str, object] = {}
    for concern in Settings.model_fields.values():
        if isinstance(concern.annotation, type) and hasattr(concern.annotation, "read"):
            for field in concern.annotation.model_fields.values():
                assert field.alias is not None
                assert field.default is not PydanticUndefined
                defaults[field.alias] = field.default
    return defaults


def _as_text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def _is_used_by_built_services(services: str) -> bool:
    built = {w.name for w in WORKLOADS if w.exists}
    return services in ("all", "publishers", "callers") or not built.isdisjoint(services.split(", "))


def test_settings_read_each_published_variable_with_its_default() -> None:
    ours = _read_variables()
    addresses = {w.address_variable for w in WORKLOADS}
    wanted = {
        row[0]: row[1] for row in _rows("env.tsv") if _is_used_by_built_services(row[2]) and row[0] not in addresses
    }
    assert wanted.keys() - ours.keys() == NOT_READ_YET
    differing = {name for name, default in wanted.items() if name in ours and _as_text(ours[name]) != default}
    assert differing == OTHER_DEFAULTS.keys()


def test_services_are_found_at_the_published_addresses() -> None:
    published = {row[0]: row[1] for row in _rows("env.tsv") if row[0].endswith("_SERVICE_ADDR")}
    assert {w.address_variable: ServiceChannels.default_address(w) for w in WORKLOADS if w.grpc_service} == published


def test_an_address_variable_moves_a_service() -> None:
    settings = Settings.load({"AUTH_SERVICE_ADDR": "auth-service:50051"})
    assert settings.address_of("AUTH_SERVICE_ADDR", host="elsewhere", port=1) == "auth-service:50051"
    assert settings.address_of("USER_SERVICE_ADDR", host="elsewhere", port=1) == "elsewhere:1"
