"""The compiled projection, the exact one, and the specification's algorithm written down plainly, on random answers."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from graphql import (
    FieldNode,
    GraphQLEnumType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    GraphQLUnionType,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    parse,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from router.execution.fast_projection import FastProjection, Irregular
from router.execution.projection import Projection
from router.execution.shapes import Shapes
from router.planning.fetch_graph import Path
from router.planning.operation import Operation, normalize
from router.supergraph.model import Supergraph
from router.supergraph.read import read_supergraph
from tests.federation.operations import everything

_HEAD = """
schema @link(url: "https://specs.apollo.dev/link/v1.0") @link(url: "https://specs.apollo.dev/join/v0.3", for: EXECUTION) {
  query: Query
}
enum join__Graph { ONE @join__graph(name: "one", url: "http://one") }
scalar join__FieldSet
"""
_LEAVES = ("Int", "Float", "String", "Boolean", "ID", "Color", "Anything")
_COMPOSITES = ("A", "B", "Node", "Either")
_COLORS = ("RED", "GREEN")


def _some_type(choice: random.Random) -> str:
    text = choice.choice((*_LEAVES, *_COMPOSITES))
    for _ in range(choice.choice((0, 0, 0, 1, 1, 2))):
        text = f"[{text}{choice.choice(('', '!'))}]"
    return f"{text}{choice.choice(('', '', '!'))}"


def _sdl(choice: random.Random) -> str:
    """A supergraph of one subgraph: two object types, an interface of both, a union of both, fields of any types."""

    def fields(prefix: str) -> str:
        return " ".join(f"{prefix}{n}: {_some_type(choice)}" for n in range(choice.randint(1, 4)))

    node = fields("n")
    return f"""{_HEAD}
    scalar Anything @join__type(graph: ONE)
    enum Color @join__type(graph: ONE) {{ RED @join__enumValue(graph: ONE) GREEN @join__enumValue(graph: ONE) }}
    interface Node @join__type(graph: ONE) {{ {node} }}
    type A implements Node @join__implements(graph: ONE, interface: "Node") @join__type(graph: ONE) {{ {node} {fields("a")} }}
    type B implements Node @join__implements(graph: ONE, interface: "Node") @join__type(graph: ONE) {{ {node} {fields("b")} }}
    union Either @join__type(graph: ONE)
      @join__unionMember(graph: ONE, member: "A") @join__unionMember(graph: ONE, member: "B") = A | B
    type Query @join__type(graph: ONE) {{ {fields("q")} }}
    """


# -- the specification's algorithm -------------------------------------------------------------------------------------


class _Null(Exception):
    """A value that cannot be used where null is not allowed."""


@dataclass
class _Reference:
    """CompleteValue and what belongs to it, on the client's document. problems: values that could not be used."""

    schema: GraphQLSchema
    problems: int = 0

    def answer(self, document: OperationDefinitionNode, answer: Any) -> Any:
        try:
            return self._object("Query", [document.selection_set], answer)
        except _Null:
            return None

    def _complete(self, output: GraphQLOutputType, below: list[SelectionSetNode], value: Any) -> Any:
        if isinstance(output, GraphQLNonNull):
            if value is None:
                self.problems += 1
                raise _Null
            completed = self._complete(output.of_type, below, value)
            if completed is None:
                self.problems += 1
                raise _Null
            return completed
        if value is None:
            return None
        try:
            return self._complete_nullable(output, below, value)
        except _Null:
            return None

    def _complete_nullable(self, output: GraphQLOutputType, below: list[SelectionSetNode], value: Any) -> Any:
        if isinstance(output, GraphQLList):
            if not isinstance(value, list):
                return self._wrong()
            items, nulls = [], False
            for item in value:
                try:
                    items.append(self._complete(output.of_type, below, item))
                except _Null:
                    nulls = True
            if nulls:
                raise _Null
            return items
        if isinstance(output, GraphQLObjectType):
            return self._object(output.name, below, value) if isinstance(value, dict) else self._wrong()
        if isinstance(output, GraphQLInterfaceType | GraphQLUnionType):
            told = value.get("__typename") if isinstance(value, dict) else None
            if told not in ("A", "B"):
                return self._wrong()
            return self._object(told, below, value)
        return self._leaf(output, value)

    def _wrong(self) -> Any:
        self.problems += 1
        raise _Null

    def _leaf(self, output: GraphQLOutputType, value: Any) -> Any:
        if isinstance(output, GraphQLEnumType):
            if value not in _COLORS:
                raise _Null  # it may be hidden: no problem of the client's
            return value
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        match str(output):
            case "Int" if is_number and value == int(value) and abs(value + 0.5) < 2**31:
                return int(value)
            case "Float" if is_number:
                return value
            case "String" if isinstance(value, str):
                return value
            case "Boolean" if isinstance(value, bool):
                return value
            case "ID" if isinstance(value, str):
                return value
            case "ID" if is_number and value == int(value):
                return str(int(value))
            case "Anything":
                return value
        return self._wrong()

    def _object(self, type_name: str, below: list[SelectionSetNode], value: dict[str, Any]) -> Any:
        groups: dict[str, list[FieldNode]] = {}
        for selection_set in below:
            for node in self._fields(type_name, selection_set):
                groups.setdefault(node.alias.value if node.alias else node.name.value, []).append(node)
        projected, nulls = {}, False
        for key, nodes in groups.items():
            if nodes[0].name.value == "__typename":
                if type_name != "Query" and value.get("__typename") not in (None, type_name):
                    return self._wrong()
                projected[key] = type_name
                continue
            parent = self.schema.type_map[type_name]
            assert isinstance(parent, GraphQLObjectType)
            inner = [node.selection_set for node in nodes if node.selection_set is not None]
            try:
                projected[key] = self._complete(parent.fields[nodes[0].name.value].type, inner, value.get(key))
            except _Null:
                nulls = True
        if nulls:
            raise _Null
        return projected

    def _fields(self, type_name: str, selection_set: SelectionSetNode) -> Iterator[FieldNode]:
        for item in selection_set.selections:
            if isinstance(item, FieldNode):
                yield item
                continue
            assert isinstance(item, InlineFragmentNode)
            condition = item.type_condition.name.value if item.type_condition else type_name
            if condition in (type_name, "Node", "Either"):
                yield from self._fields(type_name, item.selection_set)


# -- answers -----------------------------------------------------------------------------------------------------------

_WRONG: tuple[Any, ...] = (
    *(None, None, None, 1, 1.0, 1.5, -1, 2**31, -(2**31), 2**40, True, False, "", "RED", "BLUE", "7"),
    *([], [None], {}, [[]], {"__typename": "A"}, {"__typename": "Other"}, {"__typename": 3}, [{}], [1, None]),
)


@dataclass
class _Subgraph:
    """Answers an operation at random. mistakes: how often with something else than what the schema promises."""

    schema: GraphQLSchema
    choice: random.Random
    mistakes: float

    def answer(self, selection_sets: list[SelectionSetNode], type_name: str) -> dict[str, Any]:
        answered: dict[str, Any] = {}
        groups: dict[str, list[FieldNode]] = {}
        for selection_set in selection_sets:
            for node in _Reference(self.schema)._fields(type_name, selection_set):
                groups.setdefault(node.alias.value if node.alias else node.name.value, []).append(node)
        for key, nodes in groups.items():
            if nodes[0].name.value == "__typename":
                continue
            parent = self.schema.type_map[type_name]
            assert isinstance(parent, GraphQLObjectType)
            below = [node.selection_set for node in nodes if node.selection_set is not None]
            if self.choice.random() < self.mistakes / 2:
                continue
            answered[key] = self._value(parent.fields[nodes[0].name.value].type, below)
        if type_name != "Query":
            answered["__typename"] = type_name
        items = list(answered.items())
        self.choice.shuffle(items)
        return dict(items)

    def _value(self, output: GraphQLOutputType, below: list[SelectionSetNode]) -> Any:
        if self.choice.random() < self.mistakes:
            return self.choice.choice(_WRONG)
        if isinstance(output, GraphQLNonNull):
            output = output.of_type
        elif self.choice.random() < 0.1:
            return None
        if isinstance(output, GraphQLList):
            items = [self._value(output.of_type, below) for _ in range(self.choice.randint(0, 3))]
            return [*items, self.choice.choice(items)] if items else items  # one of them twice
        if isinstance(output, GraphQLObjectType):
            return self.answer(below, output.name)
        if isinstance(output, GraphQLInterfaceType | GraphQLUnionType):
            return self.answer(below, self.choice.choice(("A", "B")))
        good: dict[str, tuple[Any, ...]] = {
            "Int": (0, 7, -(2**31), 2**31 - 1, 3.0),
            "Float": (0, 1.5, 10**9),
            "String": ("", "text", "\u2028\U0001f600"),
            "Boolean": (True, False),
            "ID": ("x", 7, 2.0),
            "Color": _COLORS,
            "Anything": (0, "text", {"deep": [1, {}]}, [], False),
        }
        return self.choice.choice(good[str(output)])


@dataclass
class _Case:
    supergraph: Supergraph
    query: str
    document: OperationDefinitionNode
    operation: Operation
    answer: dict[str, Any]

    def paths(self) -> frozenset[Path]:
        """Every place of the answer: any value may be met many times."""

        def walk(value: Any, path: Path) -> Iterator[Path]:
            yield path
            if isinstance(value, dict):
                for key, item in value.items():
                    yield from walk(item, (*path, key))
            elif isinstance(value, list):
                for item in value:
                    yield from walk(item, (*path, "@"))

        return frozenset(walk(self.answer, ()))


def _case(seed: int, mistakes: float) -> _Case:
    choice = random.Random(seed)
    supergraph = read_supergraph(_sdl(choice))
    schema = supergraph.api_schema
    query = everything(schema, "Query", depth=choice.randint(2, 4), chance=0.6, seed=seed)
    document = parse(query)
    operation = next(d for d in document.definitions if isinstance(d, OperationDefinitionNode))
    answer = _Subgraph(schema, choice, mistakes).answer([operation.selection_set], "Query")
    return _Case(supergraph, query, operation, normalize(supergraph, document, operation, variables={}), answer)


@given(seed=st.integers(0, 2**32), mistakes=st.sampled_from((0.0, 0.02, 0.1, 0.4)))
@settings(max_examples=150, deadline=None)
def test_both_passes_answer_as_the_specification_says(seed: int, mistakes: float) -> None:
    case = _case(seed, mistakes)
    reference = _Reference(case.supergraph.api_schema)
    expected = reference.answer(case.document, case.answer)
    projection = Projection(
        case.supergraph, case.operation.selection, "Query", {}, may_repeat=case.paths() if seed % 2 else frozenset()
    )

    exact, exact_violations = projection.project(case.answer)
    compiled, compiled_violations = projection.project(case.answer)

    assert _written(exact) == _written(expected), case.query
    assert _written(compiled) == _written(expected), case.query
    assert bool(exact_violations) == bool(reference.problems)
    assert exact_violations == compiled_violations


@given(seed=st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_good_answers_need_no_exact_pass(seed: int) -> None:
    case = _case(seed, 0.0)
    expected = _Reference(case.supergraph.api_schema).answer(case.document, case.answer)
    shapes = Shapes(case.supergraph, {})
    compiled = FastProjection(shapes, case.operation.selection, "Query", (), case.paths() if seed % 2 else frozenset())

    assert _written(compiled.project(case.answer)) == _written(expected), case.query


def _written(value: Any) -> str:
    """Equal only for values of the same types in the same order."""
    return repr(value)


# -- values that no random answer brings ----------------------------------------------------------------------------------


def _only(type_text: str) -> tuple[Projection, str]:
    supergraph = read_supergraph(
        f"""{_HEAD}
        scalar Anything @join__type(graph: ONE)
        enum Color @join__type(graph: ONE) {{ RED @join__enumValue(graph: ONE) }}
        type Query @join__type(graph: ONE) {{ it: {type_text} }}"""
    )
    document = parse("{ it }")
    operation = next(d for d in document.definitions if isinstance(d, OperationDefinitionNode))
    selection = normalize(supergraph, document, operation, variables={}).selection
    return Projection(supergraph, selection, "Query", {}), "it"


def _nested(levels: int) -> Any:
    value: Any = "end"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("type_text", "value", "expected"),
    [
        ("Int", 2147483647, 2147483647),
        ("Int", 2147483648, None),
        ("Int", -2147483649, None),
        ("Int", 12.0, 12),
        ("Int", 1e300, None),
        ("Int", True, None),
        ("Int", "12", None),
        ("Float", 3, 3),
        ("Float", False, None),
        ("[Float]", [1, 1.5, None], [1, 1.5, None]),
        ("[Float]", [1.5, True], [1.5, None]),
        ("[Boolean!]", [True, 0], None),
        ("ID", 12, "12"),
        ("ID", 1.2345678901234568e29, None),
        ("ID", True, None),
        ("String", 12, None),
        ("Boolean", 1, None),
        ("[Int]", [1, 2.0, None], [1, 2, None]),
        ("[ID!]", ["a", 1], ["a", "1"]),
        ("[String!]", ["a", None], None),
        ("[[Int!]]", [[1], [None], None], [[1], None, None]),
        ("[Anything]", [{"a": 1}, None, "b"], [{"a": 1}, None, "b"]),
        ("Anything", _nested(100), _nested(100)),
        ("Anything", _nested(101), None),
        ("[Anything]", _nested(900), [None]),
    ],
)
def test_leaves_are_coerced_by_the_specification(type_text: str, value: Any, expected: Any) -> None:
    projection, key = _only(type_text)
    for _ in range(2):  # the first answer is projected exactly, the second by compiled functions
        data, violations = projection.project({key: value})
        assert repr(data) == repr({key: expected})
        lost = expected is None or (isinstance(expected, list) and expected.count(None) > value.count(None))
        assert [violation.path[0] for violation in violations] == ([key] if lost else [])


@pytest.mark.parametrize("type_text", ["Color", "[Color]", "[[Color!]]"])
def test_an_enum_value_that_the_api_does_not_have_is_null_without_an_error(type_text: str) -> None:
    projection, key = _only(type_text)
    depth = type_text.count("[")
    for _ in range(2):
        for value in ("RED", "BLUE", 3, ["RED"]):
            data, violations = projection.project({key: _wrapped(value, depth)})
            expected = [None] if depth == 2 and value != "RED" else _wrapped("RED" if value == "RED" else None, depth)
            assert data == {key: expected}
            assert violations == [] or "!" in type_text


def _wrapped(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


def test_what_repeats_is_projected_once_in_an_answer_and_anew_in_the_next() -> None:
    supergraph = read_supergraph(
        f"""{_HEAD}
        type Query @join__type(graph: ONE) {{ a: [A!]! }}
        type A @join__type(graph: ONE) {{ name: String! }}"""
    )
    document = parse("{ a { name } }")
    operation = next(d for d in document.definitions if isinstance(d, OperationDefinitionNode))
    selection = normalize(supergraph, document, operation, variables={}).selection
    compiled = FastProjection(Shapes(supergraph, {}), selection, "Query", (), frozenset({("a", "@")}))
    shared = {"name": "one"}

    first = compiled.project({"a": [shared, shared]})
    shared["name"] = "two"
    second = compiled.project({"a": [shared, shared]})
    with pytest.raises(Irregular):
        compiled.project({"a": [shared, {"name": None}]})
    shared["name"] = "three"

    assert first == {"a": [{"name": "one"}, {"name": "one"}]}
    assert first["a"][0] is first["a"][1]
    assert second == {"a": [{"name": "two"}, {"name": "two"}]}
    assert compiled.project({"a": [shared]}) == {"a": [{"name": "three"}]}
