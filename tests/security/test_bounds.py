"""Every field of every RPC and of every GraphQL operation that a port offers, with a text that is too long, a list that is too long,
and numbers at and beyond the edges: refused at once, never a bug, and never stored."""

import asyncio
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    build_schema,
    get_named_type,
)

from domain.catalog import Group, built_groups
from subgraphs.runtime.bounds import MAX_ITEMS, MAX_TEXT, MAX_TOKEN
from tests.security.test_every_rpc import BUGS, SERVICES, Scene, offered, scene, status_of
from tests.support.platform import Platform

pytestmark = [pytest.mark.xdist_group("security"), pytest.mark.timeout(300)]

SCHEMAS = Path(__file__).parents[2] / "schema" / "subgraphs"
MARK = "ㄓ"  # in no text of ours
_STORED = 4_001
"""Characters of the mark in a row: a notification's body, the longest field there is, takes 4,000."""

_HUGE = 1e299
_LIMITS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), -1, 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), -1, 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (2**32 - 1,),
    FieldDescriptor.CPPTYPE_UINT64: (2**64 - 1,),
    FieldDescriptor.CPPTYPE_ENUM: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: (1e300, -1e300, 5e-324),
    FieldDescriptor.CPPTYPE_FLOAT: (3e38, -3e38),
}
_NOT_FINITE = (float("nan"), float("inf"), float("-inf"))
_TIMES = (-(2**63), -62_135_596_800, 253_402_300_799, 2**63 - 1)
_ENDINGS = ("Logout",)
"""They end the sign-in with which all others are called; they have no field but a user's id."""

Change = Callable[[Any], None]


class Case:
    """A request with one thing wrong.

    Args:
        must_refuse: whether no field could take it.
    """

    def __init__(self, name: str, message: Message, *, must_refuse: bool) -> None:
        self.name = name
        self.raw = message.SerializeToString()
        self.must_refuse = must_refuse


def _plausible(message: Message, known: Mapping[str, Sequence[object]], levels: int = 4) -> Message:
    """Every field set to what is there, or to something simple."""
    target: Any = message
    for field in message.DESCRIPTOR.fields:
        inner = field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            continue
        if inner is not None:
            if levels and not (field.containing_oneof and message.WhichOneof(field.containing_oneof.name)):
                _plausible(
                    getattr(target, field.name).add() if field.is_repeated else getattr(target, field.name),
                    known,
                    levels - 1,
                )
            continue
        values = [value for value in known.get(field.name, ()) if value not in ("", None)]
        if field.is_repeated:
            getattr(target, field.name).extend(values)
        elif values:
            setattr(target, field.name, values[0])
        elif field.type == FieldDescriptor.TYPE_STRING:
            setattr(target, field.name, "x")
        elif field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
            setattr(target, field.name, 1.0)
        elif field.type not in (FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_BOOL):
            setattr(target, field.name, 1)
    return message


def _cases(make: Callable[[], Message], known: Mapping[str, Sequence[object]]) -> Iterator[Case]:
    def case(name: str, path: Sequence[FieldDescriptor], change: Change, *, must_refuse: bool) -> Case:
        message = _plausible(make(), known)
        target: Any = message
        for field in path:
            target = getattr(target, field.name)
            target = target.add() if field.is_repeated else target
        change(target)
        return Case(name, message, must_refuse=must_refuse)

    for path, field in _fields(make().DESCRIPTOR, ()):
        name = ".".join([*(step.name for step in path), field.name])
        for label, change, must_refuse in _changes(field):
            yield case(f"{name} {label}", path, change, must_refuse=must_refuse)


def _fields(
    descriptor: Any, path: tuple[FieldDescriptor, ...]
) -> Iterator[tuple[tuple[FieldDescriptor, ...], FieldDescriptor]]:
    for field in descriptor.fields:
        yield path, field
        inner = field.message_type
        if inner is not None and not inner.GetOptions().map_entry and len(path) < 3:
            yield from _fields(inner, (*path, field))


def _changes(field: FieldDescriptor) -> Iterator[tuple[str, Change, bool]]:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        yield from _map_changes(field)
    elif inner is not None:
        if field.is_repeated:
            yield "too many", lambda m: _add_many(getattr(m, field.name)), True
        elif inner.full_name == "google.protobuf.Timestamp":
            for seconds in _TIMES:
                yield f"{seconds} s", _setting_seconds(field.name, seconds), True
            yield "nanos", lambda m: setattr(getattr(m, field.name), "nanos", -1), True
    elif field.is_repeated:
        one: Any = (
            "x"
            if field.type == FieldDescriptor.TYPE_STRING
            else b"x"
            if field.type == FieldDescriptor.TYPE_BYTES
            else 1
        )
        yield "too many", lambda m: getattr(m, field.name).extend([one] * (MAX_ITEMS + 1)), True
        if field.type == FieldDescriptor.TYPE_STRING:
            yield "too long", lambda m: getattr(m, field.name).append(MARK * (MAX_TEXT + 1)), True
        for value in _numbers(field):
            yield f"{value}", _appending(field.name, value), False
    elif field.type == FieldDescriptor.TYPE_STRING:
        yield "too long", lambda m: setattr(m, field.name, MARK * (MAX_TOKEN + 1)), True
        yield "long", lambda m: setattr(m, field.name, MARK * (MAX_TEXT - 1)), False
    elif field.type == FieldDescriptor.TYPE_BYTES:
        yield "large", lambda m: setattr(m, field.name, b"\xff" * 500_000), False
        yield "too large", lambda m: setattr(m, field.name, b"\xff" * 1_100_000), True
    else:
        for value in _numbers(field):
            yield f"{value}", _setting(field.name, value), not math.isfinite(value)


def _add_many(values: Any) -> None:
    for _ in range(MAX_ITEMS + 1):
        values.add()


def _setting(name: str, value: float) -> Change:
    return lambda message: setattr(message, name, value)


def _appending(name: str, value: float) -> Change:
    return lambda message: getattr(message, name).append(value)


def _setting_seconds(name: str, seconds: int) -> Change:
    return lambda message: setattr(getattr(message, name), "seconds", seconds)


def _numbers(field: FieldDescriptor) -> tuple[float, ...]:
    is_float = field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)
    return (*_LIMITS.get(field.cpp_type, ()), *(_NOT_FINITE if is_float else ()))


def _map_changes(field: FieldDescriptor) -> Iterator[tuple[str, Change, bool]]:
    assert field.message_type is not None
    if field.message_type.fields_by_name["value"].type != FieldDescriptor.TYPE_STRING:
        return
    yield "long key", lambda m: getattr(m, field.name).update({MARK * (MAX_TEXT + 1): "x"}), True
    yield "long value", lambda m: getattr(m, field.name).update({"x": MARK * (MAX_TEXT + 1)}), True
    yield "too many", lambda m: getattr(m, field.name).update({str(n): "x" for n in range(300)}), True


def _wrong_answers(
    address: str, metadata: tuple[tuple[str, str], ...], known: Mapping[str, Sequence[object]]
) -> list[str]:
    """What the RPCs of a port took that no field takes, or answered as a bug."""
    found: list[str] = []
    with grpc.insecure_channel(address) as channel:
        for method in offered(address):
            if method.name in _ENDINGS:
                continue
            make = GetMessageClass(method.input_type)
            for case in _cases(make, known):
                status, details = status_of(channel, method, [case.raw], metadata)
                is_wrong = status in BUGS or (case.must_refuse and status is grpc.StatusCode.OK)
                if is_wrong or status in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE):
                    found.append(f"{method.full_name}: {case.name}: {status.name} {details[:200]}")
    return found


@pytest.mark.parametrize("service", SERVICES)
async def test_every_field_of_every_rpc_is_bounded(platform: Platform, service: str) -> None:
    found = await scene(platform)
    address = platform.address(service)
    assert await asyncio.to_thread(_wrong_answers, address, found.person.metadata, found.known) == []
    assert await _stored(platform) == []


@pytest.mark.parametrize("service", SERVICES)
async def test_every_field_of_every_rpc_is_bounded_for_an_administrator(platform: Platform, service: str) -> None:
    found = await scene(platform)
    metadata = (("authorization", f"Bearer {found.technician}"),)
    assert await asyncio.to_thread(_wrong_answers, platform.address(service), metadata, found.known) == []
    assert await _stored(platform) == []


@pytest.mark.parametrize("service", SERVICES)
async def test_every_field_of_every_rpc_is_bounded_on_a_development_network(
    open_platform: Platform, service: str
) -> None:
    found = await scene(open_platform)
    assert await asyncio.to_thread(_wrong_answers, open_platform.address(service), (), found.known) == []
    assert await _stored(open_platform) == []


# --- GraphQL


class _Operation:
    """One field of Query or Mutation as an operation with a variable for each argument."""

    def __init__(self, kind: str, name: str, field: GraphQLField) -> None:
        self.kind, self.name, self.field = kind, name, field
        declared = ", ".join(f"${arg}: {spec.type}" for arg, spec in field.args.items())
        passed = ", ".join(f"{arg}: ${arg}" for arg in field.args)
        arguments = (f"({declared})", f"({passed})") if field.args else ("", "")
        self.text = f"{kind}{arguments[0]} {{ {name}{arguments[1]}{_selection(field.type)} }}"

    def cases(self, known: Mapping[str, Sequence[object]]) -> Iterator[tuple[str, dict[str, Any], bool]]:
        """Label, variables, and whether no field could take them."""
        plausible = {name: _value(spec.type, name, known) for name, spec in self.field.args.items()}
        for name, spec in self.field.args.items():
            for label, value, must_refuse in _wrong_values(spec.type, name, known):
                yield f"{name}{label}", plausible | {name: value}, must_refuse


def _selection(type_: Any) -> str:
    named = get_named_type(type_)
    if isinstance(named, GraphQLUnionType):
        return " { __typename }"
    return " { __typename }" if isinstance(named, (GraphQLObjectType, GraphQLInterfaceType)) else ""


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def _value(type_: GraphQLInputType, name: str, known: Mapping[str, Sequence[object]]) -> Any:
    if isinstance(type_, GraphQLNonNull):
        return _value(type_.of_type, name, known)
    if isinstance(type_, GraphQLList):
        return [_value(type_.of_type, name, known)]
    if isinstance(type_, GraphQLInputObjectType):
        return {field: _value(spec.type, field, known) for field, spec in type_.fields.items()}
    if isinstance(type_, GraphQLEnumType):
        return next(iter(type_.values))
    values = [value for value in known.get(_snake(name), ()) if value not in ("", None)]
    if type_.name == "Boolean":
        return False
    if type_.name in ("Int", "Float"):
        numbers = [value for value in values if isinstance(value, (int, float))]
        return numbers[0] if numbers and (type_.name == "Float" or isinstance(numbers[0], int)) else 1
    return str(values[0]) if values else "x"


def _wrong_values(
    type_: GraphQLInputType, name: str, known: Mapping[str, Sequence[object]], levels: int = 4
) -> Iterator[tuple[str, Any, bool]]:
    if isinstance(type_, GraphQLNonNull):
        yield from _wrong_values(type_.of_type, name, known, levels)
    elif isinstance(type_, GraphQLList):
        yield " too many", [_value(type_.of_type, name, known)] * (MAX_ITEMS + 1), True
        for label, value, must_refuse in _wrong_values(type_.of_type, name, known, levels - 1):
            yield label, [value], must_refuse
    elif isinstance(type_, GraphQLInputObjectType):
        if levels == 0:
            return
        plausible = _value(type_, name, known)
        for field, spec in type_.fields.items():
            for label, value, must_refuse in _wrong_values(spec.type, field, known, levels - 1):
                yield f".{field}{label}", plausible | {field: value}, must_refuse
    elif isinstance(type_, GraphQLEnumType) or type_.name == "Boolean":
        return
    elif type_.name == "Int":
        yield from ((f" {value}", value, abs(value) > 2**31) for value in (-(2**31), -1, 2**31 - 1, 2**31, 10**30))
    elif type_.name == "Float":
        yield from ((f" {value}", value, False) for value in (1e300, -1e300, 5e-324, -1))
    else:
        yield " too long", MARK * (MAX_TOKEN + 1), True
        yield " long", MARK * (MAX_TEXT - 1), False
        yield " null character", "a\0b", False


def _operations(group: Group) -> list[_Operation]:
    schema: GraphQLSchema = build_schema((SCHEMAS / f"{group.value}.graphql").read_text(), assume_valid=True)
    roots = (("query", schema.query_type), ("mutation", schema.mutation_type))
    return [
        _Operation(kind, name, field)
        for kind, root in roots
        if root is not None
        for name, field in root.fields.items()
        if not name.startswith("_") and name not in ("logout", "changePassword", "deleteAccount")
    ]


async def _wrong_graphql(url: str, group: Group, token: str, known: Mapping[str, Sequence[object]]) -> list[str]:
    found: list[str] = []
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=60)) as http:
        for operation in _operations(group):
            for label, variables, must_refuse in operation.cases(known):
                async with http.post(url, json={"query": operation.text, "variables": variables}) as answer:
                    text = await answer.text()
                    errors = json.loads(text).get("errors", []) if answer.status == 200 else []
                    codes = {error.get("extensions", {}).get("code") for error in errors}
                    is_bug = answer.status >= 500 or codes & {
                        "INTERNAL_SERVER_ERROR",
                        "TIMEOUT",
                        "SERVICE_UNAVAILABLE",
                        None,
                    }
                    if is_bug or (must_refuse and answer.status == 200 and not errors):
                        found.append(f"{operation.name}: {label}: {answer.status} {text[:300]}")
    return found


@pytest.mark.parametrize("group", built_groups())
@pytest.mark.parametrize("caller", ["person", "administrator", "anonymous"])
async def test_every_argument_of_every_operation_is_bounded(platform: Platform, group: Group, caller: str) -> None:
    found: Scene = await scene(platform)
    token = {"person": found.person.token, "administrator": found.technician, "anonymous": ""}[caller]
    assert await _wrong_graphql(platform.subgraph_url(group), group, token, found.known) == []
    assert await _stored(platform) == []


# --- what is stored


async def _stored(platform: Platform) -> list[str]:
    """Columns of any group's database that hold a text which is too long, or a number that is no measurement of anything."""
    found: list[str] = []
    for group in built_groups():
        connection = await platform.database(group)
        try:
            found += [f"{group.value}: {column}" for column in await _stored_in(connection)]
        finally:
            await connection.close()
    return found


async def _stored_in(connection: "asyncpg.Connection[Any]") -> list[str]:
    columns = await connection.fetch(
        "SELECT table_name, column_name, data_type FROM information_schema.columns JOIN information_schema.tables"
        " USING (table_schema, table_name) WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
        " AND data_type IN ('text', 'character varying', 'jsonb', 'ARRAY', 'double precision', 'real')"
    )
    found = []
    for table, column, kind in columns:
        if kind in ("double precision", "real"):
            query = f'SELECT EXISTS (SELECT FROM "{table}" WHERE abs("{column}") >= {_HUGE} OR "{column}" = \'NaN\')'
        else:
            query = (
                f'SELECT EXISTS (SELECT FROM "{table}" WHERE position(repeat($1, {_STORED}) in "{column}"::text) > 0)'
            )
        arguments = () if kind in ("double precision", "real") else (MARK,)
        if await connection.fetchval(query, *arguments):
            found.append(f"{table}.{column}")
    return found
