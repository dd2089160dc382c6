"""Supergraphs in every version of the join specification are read and planned; what a version lacks has its old meaning.

The definitions of directives are those of each version. Source: Apollo join specification v0.1-v0.5 (specs.apollo.dev/join).
"""

import pytest
from graphql import OperationDefinitionNode, parse

from router.planning.operation import normalize
from router.planning.planner import Planner
from router.supergraph.model import SubgraphName, Supergraph
from router.supergraph.read import read_supergraph

GRAPHS = """
scalar join__FieldSet
enum join__Graph {
  PEOPLE @join__graph(name: "people", url: "http://people")
  SALES @join__graph(name: "sales", url: "http://sales")
}
"""
LINK = """
directive @link(url: String, as: String, for: link__Purpose, import: [link__Import]) repeatable on SCHEMA
scalar link__Import
enum link__Purpose { SECURITY EXECUTION }
"""

V0_1 = f"""
schema
  @core(feature: "https://specs.apollo.dev/core/v0.1")
  @core(feature: "https://specs.apollo.dev/join/v0.1")
{{ query: Query }}

directive @core(feature: String!) repeatable on SCHEMA
directive @join__field(graph: join__Graph, requires: join__FieldSet, provides: join__FieldSet) on FIELD_DEFINITION
directive @join__type(graph: join__Graph!, key: join__FieldSet) repeatable on OBJECT | INTERFACE
directive @join__owner(graph: join__Graph!) on OBJECT | INTERFACE
directive @join__graph(name: String!, url: String!) on ENUM_VALUE
{GRAPHS}
type Query {{
  me: User @join__field(graph: PEOPLE)
  orders: [Order!]! @join__field(graph: SALES, provides: "buyer {{ name }}")
  found: [Found] @join__field(graph: SALES)
  named: [Named] @join__field(graph: PEOPLE)
}}
interface Named {{ name: String }}
union Found = User | Order
type User implements Named @join__owner(graph: PEOPLE)
  @join__type(graph: PEOPLE, key: "id") @join__type(graph: PEOPLE, key: "email") @join__type(graph: SALES, key: "id")
{{
  id: ID! @join__field(graph: PEOPLE)
  email: String! @join__field(graph: PEOPLE)
  name: String @join__field(graph: PEOPLE)
  address: Address
  discount: Int @join__field(graph: SALES, requires: "email")
}}
type Order @join__owner(graph: SALES) @join__type(graph: SALES, key: "id") {{
  id: ID! @join__field(graph: SALES)
  buyer: User @join__field(graph: SALES, provides: "name")
  sentTo: Address @join__field(graph: SALES)
}}
type Address {{ street: String city: String }}
"""

_COMMON_BODY = """
type Query @join__type(graph: PEOPLE) @join__type(graph: SALES) {
  me: User @join__field(graph: PEOPLE)
  orders: [Order!]! @join__field(graph: SALES, provides: "buyer { name }")
  found: [Found] @join__field(graph: SALES)
  named: [Named] @join__field(graph: PEOPLE)
}
interface Named @join__type(graph: PEOPLE) { name: String }
union Found @join__type(graph: SALES) MEMBERS = User | Order
type User implements Named @join__implements(graph: PEOPLE, interface: "Named")
  @join__type(graph: PEOPLE, key: "id") @join__type(graph: PEOPLE, key: "email")
  @join__type(graph: SALES, key: "id", extension: true)
{
  id: ID!
  email: String! @join__field(graph: PEOPLE) @join__field(graph: SALES, external: true)
  name: String @join__field(graph: PEOPLE) @join__field(graph: SALES, external: true)
  address: Address @join__field(graph: PEOPLE)
  discount: Int @join__field(graph: SALES, requires: "email")
}
type Order @join__type(graph: SALES, key: "id") {
  id: ID!
  buyer: User @join__field(graph: SALES, provides: "name")
  sentTo: Address
}
type Address @join__type(graph: PEOPLE) @join__type(graph: SALES) { street: String city: String }
"""
_MEMBERS = '@join__unionMember(graph: SALES, member: "User") @join__unionMember(graph: SALES, member: "Order")'
_NEWER = f"""
directive @join__unionMember(graph: join__Graph!, member: String!) repeatable on UNION
directive @join__enumValue(graph: join__Graph!) repeatable on ENUM_VALUE
directive @join__graph(name: String!, url: String!) on ENUM_VALUE
directive @join__implements(graph: join__Graph!, interface: String!) repeatable on OBJECT | INTERFACE
directive @join__type(graph: join__Graph!, key: join__FieldSet, extension: Boolean! = false, resolvable: Boolean! = true, isInterfaceObject: Boolean! = false) repeatable on OBJECT | INTERFACE | UNION | ENUM | INPUT_OBJECT | SCALAR
{GRAPHS}{LINK}
"""
_FIELD = (
    "directive @join__field(graph: join__Graph, requires: join__FieldSet, provides: join__FieldSet, type: String, "
    "external: Boolean, override: String, usedOverridden: Boolean{more}) repeatable on FIELD_DEFINITION | "
    "INPUT_FIELD_DEFINITION\n"
)


def _schema(version: str) -> str:
    return (
        'schema @link(url: "https://specs.apollo.dev/link/v1.0") '
        f'@link(url: "https://specs.apollo.dev/join/{version}", for: EXECUTION) {{ query: Query }}\n'
    )


V0_2 = f"""{_schema("v0.2")}
directive @join__field(graph: join__Graph!, requires: join__FieldSet, provides: join__FieldSet, type: String, external: Boolean, override: String, usedOverridden: Boolean) repeatable on FIELD_DEFINITION | INPUT_FIELD_DEFINITION
directive @join__graph(name: String!, url: String!) on ENUM_VALUE
directive @join__implements(graph: join__Graph!, interface: String!) repeatable on OBJECT | INTERFACE
directive @join__type(graph: join__Graph!, key: join__FieldSet, extension: Boolean! = false, resolvable: Boolean! = true) repeatable on OBJECT | INTERFACE | UNION | ENUM | INPUT_OBJECT | SCALAR
{GRAPHS}{LINK}{_COMMON_BODY.replace("MEMBERS", "")}
"""
V0_3 = f"""{_schema("v0.3")}{_FIELD.format(more="")}{_NEWER}{_COMMON_BODY.replace("MEMBERS", _MEMBERS)}"""
V0_4 = f"""{_schema("v0.4")}{_FIELD.format(more=", overrideLabel: String")}{_NEWER}
scalar join__DirectiveArguments
directive @join__directive(graphs: [join__Graph!], name: String!, args: join__DirectiveArguments) repeatable on SCHEMA | OBJECT | INTERFACE | FIELD_DEFINITION
{_COMMON_BODY.replace("MEMBERS", _MEMBERS)}
"""
V0_5 = f"""{_schema("v0.5")}{_FIELD.format(more=", overrideLabel: String, contextArguments: [join__ContextArgument!]")}{_NEWER}
scalar join__DirectiveArguments
scalar join__FieldValue
input join__ContextArgument {{ name: String! type: String! context: String! selection: join__FieldValue! }}
directive @join__directive(graphs: [join__Graph!], name: String!, args: join__DirectiveArguments) repeatable on SCHEMA | OBJECT | INTERFACE | FIELD_DEFINITION
{_COMMON_BODY.replace("MEMBERS", _MEMBERS)}
"""

ALL = {"v0.1": V0_1, "v0.2": V0_2, "v0.3": V0_3, "v0.4": V0_4, "v0.5": V0_5}


def _plan(supergraph: Supergraph, query: str, labels: frozenset[str] = frozenset()) -> list[str]:
    """The plan's lines without indentation."""
    document = parse(query)
    operation = document.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    planned = Planner(supergraph, labels).plan(normalize(supergraph, document, operation, variables={})).plan
    return [line.strip() for line in str(planned).splitlines()]


def _services(plan: list[str]) -> list[str]:
    return [line.split('"')[1] for line in plan if line.startswith("Fetch(")]


@pytest.fixture(name="supergraph", params=list(ALL.values()), ids=list(ALL))
def _supergraph(request: pytest.FixtureRequest) -> Supergraph:
    return read_supergraph(request.param)


def test_the_api_is_free_of_the_machinery(supergraph: Supergraph) -> None:
    own = {name for name in supergraph.api_schema.type_map if not name.startswith("__")}
    assert own - {"String", "ID", "Int", "Boolean", "Float"} == {"Query", "Named", "Found", "User", "Order", "Address"}
    assert not [one.name for one in supergraph.api_schema.directives if one.name.startswith(("join", "core", "link"))]


def test_the_subgraphs_have_their_names_and_addresses(supergraph: Supergraph) -> None:
    assert {name: one.url for name, one in supergraph.subgraphs.items()} == {
        "people": "http://people",
        "sales": "http://sales",
    }


def test_what_a_field_requires_is_fetched_before_it(supergraph: Supergraph) -> None:
    plan = _plan(supergraph, "{ me { discount } }")
    assert _services(plan) == ["people", "sales"]
    sent = plan[plan.index('Flatten(path: "me") {') :]
    assert sent.index("email") < sent.index("} =>") < sent.index("discount")


def test_what_is_provided_is_not_fetched_from_its_owner(supergraph: Supergraph) -> None:
    assert _services(_plan(supergraph, "{ orders { buyer { name } } }")) == ["sales"]
    assert _services(_plan(supergraph, "{ orders { buyer { address { city } } } }")) == ["sales", "people"]


def test_members_of_a_union_are_completed_from_elsewhere(supergraph: Supergraph) -> None:
    plan = _plan(supergraph, "{ found { ... on User { email } ... on Order { sentTo { city } } } }")
    assert _services(plan) == ["sales", "people"]


def test_an_interface_is_answered_by_the_subgraph_that_implements_it(supergraph: Supergraph) -> None:
    assert _services(_plan(supergraph, "{ named { name } }")) == ["people"]
    assert _services(_plan(supergraph, "{ named { ... on User { discount } } }")) == ["people", "sales"]


def test_a_value_type_is_read_wherever_it_is_met(supergraph: Supergraph) -> None:
    assert _services(_plan(supergraph, "{ orders { sentTo { street city } } }")) == ["sales"]
    assert _services(_plan(supergraph, "{ me { address { street } } }")) == ["people"]


def test_the_fields_of_a_key_are_answered_by_every_subgraph_that_has_it(supergraph: Supergraph) -> None:
    assert _services(_plan(supergraph, "{ orders { buyer { id } } }")) == ["sales"]


def test_every_key_of_v0_1_is_known() -> None:
    people = read_supergraph(V0_1).subgraphs[SubgraphName("people")]
    assert [key.text for key in people.types["User"].keys] == ["id", "email"]


def test_v0_3_has_interface_objects() -> None:
    sdl = f"""{_schema("v0.3")}{_FIELD.format(more="")}{_NEWER}
    type Query @join__type(graph: PEOPLE) @join__type(graph: SALES) {{ all: [Named] @join__field(graph: PEOPLE) }}
    interface Named @join__type(graph: PEOPLE, key: "id") @join__type(graph: SALES, key: "id", isInterfaceObject: true) {{
      id: ID!
      rank: Int @join__field(graph: SALES)
    }}
    type User implements Named @join__implements(graph: PEOPLE, interface: "Named") @join__type(graph: PEOPLE, key: "id") {{
      id: ID!
      rank: Int @join__field
    }}
    """
    plan = _plan(read_supergraph(sdl), "{ all { ... on User { rank } } }")
    assert _services(plan) == ["people", "sales"]
    assert plan.count("... on Named {") == 2


def test_v0_4_has_labels_of_overrides() -> None:
    sdl = f"""{_schema("v0.4")}{_FIELD.format(more=", overrideLabel: String")}{_NEWER}
    type Query @join__type(graph: PEOPLE) @join__type(graph: SALES) {{
      a: Int @join__field(graph: PEOPLE, overrideLabel: "x") @join__field(graph: SALES, override: "people", overrideLabel: "x")
    }}
    """
    supergraph = read_supergraph(sdl)
    assert supergraph.labels == {"x"}
    assert _services(_plan(supergraph, "{ a }")) == ["people"]
    assert _services(_plan(supergraph, "{ a }", frozenset({"x"}))) == ["sales"]


def test_v0_5_has_arguments_from_contexts() -> None:
    body = V0_5.partition("type Query")[0].replace(
        'join/v0.5", for: EXECUTION)',
        'join/v0.5", for: EXECUTION) @link(url: "https://specs.apollo.dev/context/v0.1", for: SECURITY)',
    )
    sdl = f"""{body}
    directive @context(name: String!) repeatable on INTERFACE | OBJECT | UNION
    type Query @join__type(graph: PEOPLE) @join__type(graph: SALES) {{ me: User @join__field(graph: PEOPLE) }}
    type User @join__type(graph: PEOPLE, key: "id") @join__type(graph: SALES, key: "id") @context(name: "sales__user") {{
      id: ID!
      locale: String @join__field(graph: PEOPLE) @join__field(graph: SALES, external: true)
      cart: Cart @join__field(graph: SALES)
    }}
    type Cart @join__type(graph: SALES, key: "id") {{
      id: ID!
      total: String @join__field(graph: SALES, contextArguments: [
        {{ context: "sales__user", name: "locale", type: "String", selection: "{{ locale }}" }}
      ])
    }}
    """
    plan = _plan(read_supergraph(sdl), "{ me { cart { total } } }")
    assert _services(plan)[0] == "people"
    assert "locale" in plan
    assert any(line.startswith("total(locale: $") for line in plan)
