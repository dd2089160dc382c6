"""What operations may cost: fragments, defaults, lists of all kinds, introspection and batches, and how often one field may be asked."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from router.errors import ClientError
from router.serving.app import create_app
from router.serving.cost import evaluate
from router.serving.engine import Engine, GraphQLRequest
from router.serving.identity import ANONYMOUS, Identity
from router.serving.settings import Limits, OperationLimits, RouterSettings
from tests.federation.serve import serve

HEAD = """
schema @link(url: "https://specs.apollo.dev/link/v1.0") @link(url: "https://specs.apollo.dev/join/v0.3", for: EXECUTION)
  @link(url: "https://specs.apollo.dev/cost/v0.1", import: ["@listSize", "@cost"]) { query: Query mutation: Mutation }
directive @link(url: String, as: String, for: link__Purpose, import: [link__Import]) repeatable on SCHEMA
directive @join__graph(name: String!, url: String!) on ENUM_VALUE
directive @join__type(graph: join__Graph!, key: String, extension: Boolean! = false, resolvable: Boolean! = true,
  isInterfaceObject: Boolean! = false) repeatable on OBJECT | INTERFACE | UNION | ENUM | INPUT_OBJECT | SCALAR
directive @join__implements(graph: join__Graph!, interface: String!) repeatable on OBJECT | INTERFACE
directive @join__unionMember(graph: join__Graph!, member: String!) repeatable on UNION
directive @cost(weight: Int!) on FIELD_DEFINITION | OBJECT
directive @listSize(assumedSize: Int, slicingArguments: [String!], sizedFields: [String!],
  requireOneSlicingArgument: Boolean = true) on FIELD_DEFINITION
scalar link__Import
enum link__Purpose { EXECUTION }
enum join__Graph { A @join__graph(name: "a", url: "http://127.0.0.1:1/") }
"""

SDL = (
    HEAD
    + """
input Page @join__type(graph: A) { size: Int = 30 }
interface Node @join__type(graph: A) { id: ID! many: [Leaf] }
type Leaf @join__type(graph: A) { id: ID! }
type Cheap implements Node @join__type(graph: A) @join__implements(graph: A, interface: "Node") { id: ID! many: [Leaf] one: Leaf }
type Dear implements Node @join__type(graph: A) @join__implements(graph: A, interface: "Node")
  { id: ID! many: [Leaf] @listSize(assumedSize: 50) heavy: Leaf @cost(weight: 40) }
union Either @join__type(graph: A) @join__unionMember(graph: A, member: "Cheap") @join__unionMember(graph: A, member: "Dear")
  = Cheap | Dear
type Device @join__type(graph: A) { id: ID! owner: Owner! matrix: [[Leaf]] }
type Owner @join__type(graph: A) { id: ID! devices(first: Int = 25): DeviceConnection!
    @listSize(slicingArguments: ["first"], sizedFields: ["edges"], requireOneSlicingArgument: false) }
type DeviceConnection @join__type(graph: A) { edges: [DeviceEdge!]! pages: [Leaf] }
type DeviceEdge @join__type(graph: A) { node: Device! }
type Query @join__type(graph: A) {
  me: Owner! either: Either node: Node plain: [Leaf] matrix: [[Leaf]]
  paged(page: Page = {size: 7}): [Leaf] @listSize(slicingArguments: ["page.size"], requireOneSlicingArgument: false)
  sliced(first: Int, last: Int): [Leaf]
    @listSize(assumedSize: 12, slicingArguments: ["first", "last"], requireOneSlicingArgument: false)
}
type Mutation @join__type(graph: A) { reset(email: String): Boolean }
"""
)

_UNLIMITED = OperationLimits()


async def cost_of(query: str, variables: Mapping[str, Any] | None = None) -> int:
    """The cost, as the smallest limit that lets the operation through tells it."""
    try:
        await _engine(max_cost=1).prepare(GraphQLRequest(query, None, variables or {}), ANONYMOUS)
    except ClientError as refused:
        if refused.code != "OPERATION_TOO_COSTLY":
            raise
        return int(refused.message.split()[4].rstrip(";"))
    return 1  # or less


def _engine(**limits: Any) -> Engine:
    given = {"anonymous": _UNLIMITED, "default_list_size": 10, **limits}
    return Engine(SDL, RouterSettings(limits=Limits(**given)))


@pytest.mark.parametrize(
    ("query", "variables", "cost"),
    [
        ("{ plain { id } }", {}, 10),  # nothing says how long it is
        ("{ matrix { id } }", {}, 100),
        ("{ me { devices { edges { node { id } } } } }", {}, 1 + 1 + 25 * 2),  # the argument's default
        ("{ me { devices(first: 3) { edges { node { id } } } } }", {}, 1 + 1 + 3 * 2),
        ("{ me { devices(first: null) { edges { node { id } } } } }", {}, 1 + 1 + 10 * 2),
        ("query($n: Int) { me { devices(first: $n) { edges { node { id } } } } }", {}, 1 + 1 + 25 * 2),
        ("query($n: Int = 4) { me { devices(first: $n) { edges { node { id } } } } }", {}, 1 + 1 + 4 * 2),
        ("query($n: Int = 4) { me { devices(first: $n) { edges { node { id } } } } }", {"n": 6}, 1 + 1 + 6 * 2),
        ("{ me { devices(first: 3) { pages { id } } } }", {}, 1 + 1 + 10),  # not of the sized fields
        (("{ me { ...M } } fragment M on Owner { devices(first: 3) { ...D } } "
         "fragment D on DeviceConnection { edges { ... { node { ...I } } } } fragment I on Device { id }"),
         {}, 1 + 1 + 3 * 2),
        ("{ me { devices(first: 3) { edges { node { id } } ... { edges { node { id } } } } } }", {}, 1 + 1 + 3 * 2),
        ("{ a: plain { id } b: plain { id } }", {}, 20),
        ("{ paged { id } }", {}, 7),
        ("{ paged(page: {}) { id } }", {}, 30),  # the input field's default
        ("query($p: Page) { paged(page: $p) { id } }", {"p": {}}, 30),
        ("query($s: Int) { paged(page: {size: $s}) { id } }", {"s": 9}, 9),
        ("query($p: Page) { paged(page: $p) { id } }", {"p": {"size": 11}}, 11),
        ("{ sliced { id } }", {}, 12),
        ("{ sliced(first: 5, last: 8) { id } }", {}, 8),
        ("{ sliced(first: -5) { id } }", {}, 12),  # not a size: the subgraph may take it for none
        ("{ either { ... on Cheap { one { id } } ... on Dear { heavy { id } } } }", {}, 1 + 40),
        ("{ either { ... on Dear { heavy { id } } ... on Cheap { one { id } } ... on Node { many { id } } } }",
         {}, 1 + 40 + 50),
        ("{ node { many { id } } }", {}, 1 + 50),  # one of the types has the dearest list
        ("mutation { reset }", {}, 10),
        ("{ plain { id } plain @skip(if: true) { id } __typename }", {}, 10),
    ],
)  # fmt: skip
async def test_the_cost_is_the_most_that_an_operation_can_bring(
    query: str, variables: Mapping[str, Any], cost: int
) -> None:
    assert await cost_of(query, variables) == cost


async def test_connections_within_connections_multiply_whatever_fragments_they_hide_in() -> None:
    direct = (
        "{ me { devices(first: 100) { edges { node { owner { devices(first: 100) { edges { node { id } } } } } } } } }"
    )
    hidden = """{ me { ...A } }
        fragment A on Owner { devices(first: 100) { ...B } }
        fragment B on DeviceConnection { edges { node { ... on Device { owner { ...C } } } } }
        fragment C on Owner { devices(first: 100) { edges { node { id } } } }"""
    assert await cost_of(direct) == await cost_of(hidden) > 100 * 100


async def test_introspection_is_counted() -> None:
    once = await cost_of("{ __schema { types { fields { type { fields { name } } } } } }")
    names = " ".join(f"a{number}: fields {{ type {{ fields {{ name }} }} }}" for number in range(100))
    assert await cost_of(f"{{ __schema {{ types {{ {names} }} }} }}") > 90 * (once - 10) > 0
    assert await cost_of(f"query($t: String!) {{ __type(name: $t) {{ {names} }} }}", {"t": "Leaf"}) > 100


async def test_the_operations_of_a_batch_are_counted_together() -> None:
    settings = RouterSettings(batching=True, limits=Limits(max_cost=25, max_batch=3))
    async with serve(create_app(SDL, settings)) as router:
        one = {"query": "{ plain { id } }"}
        answers = orjson.loads(await (await router.post("/graphql", json=[one] * 3)).read())
        codes = [answer["errors"][0]["extensions"]["code"] for answer in answers]
        assert codes == ["SERVICE_UNAVAILABLE", "SERVICE_UNAVAILABLE", "OPERATION_TOO_COSTLY"]
        refused = await router.post("/graphql", json=[one] * 4)
        assert (refused.status, (await refused.json())["errors"][0]["extensions"]["code"]) == (400, "REQUEST_TOO_LARGE")


_KNOWN = Identity(authenticated=True)
_TEN_RESETS = "".join(f"r{number}: reset " for number in range(10))


@pytest.mark.parametrize(
    "query",
    [
        f"mutation {{ {_TEN_RESETS} }}",
        f"mutation {{ ...M }} fragment M on Mutation {{ {_TEN_RESETS} }}",
        f"mutation {{ ... {{ {_TEN_RESETS[:50]} }} ... {{ {_TEN_RESETS[50:]} }} }}",
        "{ " + " ".join(f'a{number}: __type(name: "Leaf") {{ name }}' for number in range(10)) + " }",
    ],
)
async def test_one_root_field_may_be_asked_for_only_so_often(query: str) -> None:
    engine = _engine(max_repeats=10, anonymous=OperationLimits(max_repeats=3))
    await engine.prepare(GraphQLRequest(query), _KNOWN)
    with pytest.raises(ClientError, match="more than 3 times the field"):
        await engine.prepare(GraphQLRequest(query), ANONYMOUS)
    with pytest.raises(ClientError, match="more than 9 times the field"):
        await _engine(max_repeats=9).prepare(GraphQLRequest(query), _KNOWN)


async def test_root_fields_are_counted_within_fragments() -> None:
    query = "{ ...F ... on Query { plain { id } } } fragment F on Query { either { __typename } node { id } me { id } }"
    engine = _engine(max_root_fields=10, anonymous=OperationLimits(max_root_fields=3))
    await engine.prepare(GraphQLRequest(query), _KNOWN)
    with pytest.raises(ClientError, match="more than 3 root fields"):
        await engine.prepare(GraphQLRequest(query), ANONYMOUS)


def test_an_amount_is_a_number_or_depends_on_variables() -> None:
    assert evaluate(3, {}) == 3
    assert evaluate(lambda values: 2 * int(values["n"]), {"n": 4}) == 8
