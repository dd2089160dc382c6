"""One field's value never stands for another's: sibling types, requirements into one object, interface objects, and missing inputs."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from router.composition import Subgraph, compose
from router.errors import ClientError
from tests.federation.graph import Computed, Federation, Universe

FEDERATION = 'extend schema @link(url: "https://specs.apollo.dev/federation/v2.3", import: ["@key", "@requires", "@external", "@shareable", "@interfaceObject", "@provides"])'


def federation(subgraphs: Mapping[str, str], roots: Mapping[str, Any], entities: Sequence[Any] = ()) -> Federation:
    """A router over subgraphs given by their SDL."""
    parts = [Subgraph(name, f"http://{name}", f"{FEDERATION}\n{sdl}") for name, sdl in subgraphs.items()]
    return Federation(compose(parts).supergraph_sdl, Universe(roots, entities))


async def assert_as_the_monolith(given: Federation, query: str, variables: Mapping[str, Any] | None = None) -> None:
    expected = given.monolith(query, variables)
    answer = await given.ask(query, variables)
    assert answer["data"] == expected["data"], given.plan(query, variables)
    assert not answer.get("errors"), answer["errors"]
    assert not expected["errors"]


def sent_representations(given: Federation, subgraph: str) -> list[Any]:
    """What a subgraph was sent to look entities up by, in the order of the requests."""
    found: list[Any] = []
    for sent in given.sent:
        if sent.subgraph == subgraph:
            for name, value in sorted(sent.variables.items()):
                if name.startswith("representations"):
                    found.extend(value)
    return found


# --- W1: one response name under sibling types

T_HERE = "type Query { l: [U] } union U = A | B type A { t: T } type B { t: T } type T { id: ID! x: String y: String }"


def _t(n: int) -> dict[str, Any]:
    return {
        "__typename": "T",
        "id": f"t{n}",
        "x": f"x{n}",
        "y": f"y{n}",
        "thumbnail": lambda of, a: f"{of['id']}@{a['width']}",
    }


def _siblings() -> tuple[dict[str, Any], list[Any]]:
    ts = [_t(n) for n in range(3)]
    u = [{"__typename": "A", "id": "a", "t": ts[0]}, {"__typename": "B", "id": "b", "t": ts[1]}]
    u += [{"__typename": "A", "id": "c", "t": ts[2]}, {"__typename": "B", "id": "d", "t": ts[2]}]
    return {"l": u}, [*ts, *u]


ONE = {"a": T_HERE}
TWO = {
    "a": 'type Query { l: [U] } union U = A | B type A { t: T } type B { t: T } type T @key(fields: "id") { id: ID! }',
    "b": 'type T @key(fields: "id") { id: ID! x: String y: String thumbnail(width: Int!): String }',
}


@pytest.mark.parametrize("subgraphs", [ONE, TWO], ids=["one subgraph", "two subgraphs"])
@pytest.mark.parametrize(
    "query",
    [
        "{ l { ... on A { t { v: x } } ... on B { t { v: y } } } }",
        "{ l { ... on B { t { v: y } } ... on A { t { v: x } } __typename } }",
        "{ l { ... on A { t { x y } } ... on B { t { x: y y: x } } } }",
        "{ l { ... on A { t { id v: x } } ... on B { t { id: id v: y x } } } }",
        "{ l { ... on A { s: t { v: x } t { v: y } } ... on B { t { v: x } s: t { v: y } } } }",
        "{ l { ... on A { t { _0_x: x v: x } } ... on B { t { _0_x: y v: y } } } }",
    ],
)
async def test_one_response_name_under_sibling_types_keeps_its_own_field(subgraphs: dict[str, str], query: str) -> None:
    await assert_as_the_monolith(federation(subgraphs, *_siblings()), query)


async def test_one_response_name_under_sibling_types_keeps_its_own_arguments() -> None:
    query = "{ l { ... on A { t { u: thumbnail(width: 100) } } ... on B { t { u: thumbnail(width: 200) } } } }"
    await assert_as_the_monolith(federation(TWO, *_siblings()), query)
    query = """query ($w: Int!) {
      l { ... on A { t { u: thumbnail(width: $w) } } ... on B { t { u: thumbnail(width: 200) } } } }"""
    await assert_as_the_monolith(federation(TWO, *_siblings()), query, {"w": 7})


DEEP = {
    "a": "type Query { l: [U] } union U = A | B type A { w: W } type B { w: V } type W { t: T } type V { t: T } "
    'type T @key(fields: "id") { id: ID! }',
    "b": 'type T @key(fields: "id") { id: ID! x: String y: String n: T }',
}


async def test_a_clash_further_down_below_different_types_is_seen() -> None:
    ts = [_t(n) for n in range(2)]
    ts[0]["n"], ts[1]["n"] = ts[1], ts[0]
    roots = {
        "l": [
            {"__typename": "A", "w": {"__typename": "W", "t": ts[0]}},
            {"__typename": "B", "w": {"__typename": "V", "t": ts[0]}},
        ]
    }
    given = federation(DEEP, roots, ts)
    await assert_as_the_monolith(given, "{ l { ... on A { w { t { v: x } } } ... on B { w { t { v: y } } } } }")
    await assert_as_the_monolith(
        given, "{ l { ... on A { w { t { n { v: x } } } } ... on B { w { t { n { v: y x } } } } } }"
    )


INTERFACE = {
    "a": "type Query { l: [I] } interface I { t: T } type A implements I { t: T } type B implements I { t: T } "
    'type C implements I { t: T } type T @key(fields: "id") { id: ID! }',
    "b": TWO["b"],
}


@pytest.mark.parametrize(
    "query",
    [
        "{ l { t { id } ... on A { t { v: x } } ... on B { t { v: y } } } }",
        "{ l { ... on A { t { v: x } } t { y } ... on B { t { v: y } } __typename } }",
        "{ l { t { w: x } ... on A { t { v: x } } ... on B { t { v: y id } } ... on C { t { v: x } } } }",
    ],
)
async def test_what_is_asked_of_the_interface_too_comes_with_each_type(query: str) -> None:
    ts = [_t(n) for n in range(3)]
    roots = {
        "l": [{"__typename": name, "t": ts[n]} for n, name in enumerate("ABC")] + [{"__typename": "B", "t": ts[0]}]
    }
    await assert_as_the_monolith(federation(INTERFACE, roots, ts), query)


MEDIA = {
    "a": 'type Query { all: [Media] } interface Media @key(fields: "id") { id: ID! title: String! } '
    'type M0 implements Media @key(fields: "id") { id: ID! title: String! } '
    'type M1 implements Media @key(fields: "id") { id: ID! title: String! }',
    "b": 'type Media @key(fields: "id") @interfaceObject { id: ID! title: String! @external views: Int likes: Int '
    'rank: Int! calc: String! @requires(fields: "title") }',
}


def _media(**changed: Any) -> Federation:
    calc = Computed(lambda of: f"calc {of['title']}" if of["title"] is not None else None)
    media = [
        {
            "__typename": f"M{n % 2}",
            "id": f"m{n}",
            "title": f"title {n}",
            "views": n,
            "likes": 10 + n,
            "rank": n,
            "calc": calc,
        }
        for n in range(4)
    ]
    for value in media:
        value.update(changed)
    return federation(MEDIA, {"all": media}, media)


@pytest.mark.parametrize(
    "query",
    [
        "{ all { ... on M0 { b: views } ... on M1 { b: likes } } }",
        "{ all { ... on M0 { v: views } ... on M1 { v: likes views } } }",
        "{ all { id views ... on M1 { calc } } }",
        "{ all { id ... on M0 { views } ... on M1 { calc likes } } }",
        "{ all { ... on M0 { calc } views } }",
        "{ all { calc ... on M1 { b: calc views } } }",
    ],
)
async def test_fields_of_an_interface_object_are_fetched_for_the_types_that_they_are_asked_of(query: str) -> None:
    await assert_as_the_monolith(_media(), query)


async def test_a_type_is_not_asked_for_what_only_its_sibling_is_asked_for() -> None:
    """A field that cannot be null and fails for one type must not null what the other was asked for."""
    given = _media()
    for value in given.universe.entities:
        if value["__typename"] == "M1":
            value["rank"] = None
    answer = await given.ask("{ all { id views ... on M0 { rank } } }")
    assert "errors" not in answer
    assert [each["views"] for each in answer["data"]["all"]] == [0, 1, 2, 3]


async def test_alike_fields_of_an_interface_object_are_one_request() -> None:
    given = _media()
    await given.ask("{ all { id views likes } }")
    assert [sent.subgraph for sent in given.sent] == ["a", "b"]
    given.sent.clear()
    await given.ask("{ all { id views ... on M1 { likes } } }")
    assert [sent.subgraph for sent in given.sent] == ["a", "b"]


async def test_an_operation_that_multiplies_by_what_is_kept_apart_is_refused() -> None:
    """Each level repeats what is below it for each of its types."""
    members = [f"M{n}" for n in range(6)]
    fields = "{ i: I a: Int b: Int }"
    types = " ".join(f"type {m} implements I {fields}" for m in members)
    given = federation({"a": f"type Query {{ i: I }} interface I {fields} {types}"}, {"i": None})
    inner = "{ i { __typename } }"
    for depth in range(12):
        apart = " ".join(f"... on {m} {{ i {{ x{depth}: {'ab'[n % 2]} }} }}" for n, m in enumerate(members))
        inner = f"{{ i {inner} {apart} }}"
    with pytest.raises(ClientError) as refused:
        await given.ask(f"{{ i {inner} }}")
    assert refused.value.code == "OPERATION_TOO_LARGE"


# --- W2: requirements into one object

BOX = {
    "a": 'type Query { es: [E] } type E @key(fields: "id") { id: ID! dim: Dim } type Dim { x: Int y: Int z: Deep } '
    "type Deep { u: Int v(of: Int): Int }",
    "b": 'type E @key(fields: "id") { id: ID! dim: Dim @external p: String @requires(fields: "dim { x }") '
    'q: String @requires(fields: "dim { y }") pq: String @requires(fields: "dim { y x }") '
    'd: String @requires(fields: "dim { z { u } }") f: String @requires(fields: "dim { z { u v(of: 1) } }") '
    'g: String @requires(fields: "dim { z { v(of: 2) } }") } '
    "type Dim @external { x: Int y: Int z: Deep } type Deep @external { u: Int v(of: Int): Int }",
}


def _boxes() -> Federation:
    def deep(n: int) -> dict[str, Any]:
        return {"__typename": "Deep", "u": n, "v": lambda of, a: 100 * a["of"] + of["u"]}

    def v(of: Mapping[str, Any], argument: int) -> Any:
        known = of["dim"]["z"]["v"]
        return known(of["dim"]["z"], {"of": argument}) if callable(known) else known

    made = {
        "p": Computed(lambda of: f"p {of['dim']['x']}"),
        "q": Computed(lambda of: f"q {of['dim']['y']}"),
        "pq": Computed(lambda of: f"pq {of['dim']['x']} {of['dim']['y']}"),
        "d": Computed(lambda of: f"d {of['dim']['z']['u']}"),
        "f": Computed(lambda of: f"f {of['dim']['z']['u']} {v(of, 1)}"),
        "g": Computed(lambda of: f"g {v(of, 2)}"),
    }
    es = [
        {"__typename": "E", "id": f"e{n}", "dim": {"__typename": "Dim", "x": n, "y": 10 + n, "z": deep(n)}, **made}
        for n in range(2)
    ]
    return federation(BOX, {"es": es}, es)


@pytest.mark.parametrize(
    "query",
    [
        "{ es { p q } }",
        "{ es { q p } }",
        "{ es { pq p } }",
        "{ es { dim { x y } p q } }",
        "{ es { dim { x: y } p q } }",
        "{ es { p d q f } }",
        "{ es { f g } }",
        "{ es { g p f dim { z { v(of: 3) u } } } }",
    ],
)
async def test_requirements_into_one_object_are_all_sent(query: str) -> None:
    await assert_as_the_monolith(_boxes(), query)


# --- W4: entities below union siblings

SHELF = {
    "a": "type Query { p: [PQ] } union PQ = P | Q type P { t: T } type Q { t: T } "
    'type T @key(fields: "id") { id: ID! title: String! }',
    "b": 'type T @key(fields: "id") { id: ID! title: String! @external calc: String! @requires(fields: "title") views: Int }',
}


async def test_an_entity_below_a_sibling_is_sent_what_its_own_fields_need() -> None:
    calc = Computed(lambda of: f"calc {of['title']}")
    ts = [{"__typename": "T", "id": f"t{n}", "title": f"title {n}", "views": n, "calc": calc} for n in range(3)]
    roots = {
        "p": [{"__typename": name, "t": ts[n]} for n, name in enumerate("PQP")] + [{"__typename": "Q", "t": ts[0]}]
    }
    given = federation(SHELF, roots, ts)
    await assert_as_the_monolith(given, "{ p { ... on P { t { views } } ... on Q { t { calc } } } }")
    for representation in sent_representations(given, "b"):
        assert representation.get("title", "") is not None


# --- W5: what a field needs is missing

ITEMS = {
    "a": 'type Query { items: [Item] } type Item @key(fields: "id") { id: ID! title: String! box: Box! note: String } '
    "type Box { w: Int! h: Int }",
    "b": 'type Item @key(fields: "id") { id: ID! title: String! @external box: Box! @external note: String @external '
    'calc: String @requires(fields: "title") size: Int @requires(fields: "box { w h }") '
    'noted: String @requires(fields: "note") views: Int } type Box @external { w: Int! h: Int }',
}


def _items(*changes: Mapping[str, Any]) -> Federation:
    made = {
        "calc": Computed(lambda of: f"calc {of['title']}"),
        "size": Computed(lambda of: of["box"]["w"] * (of["box"]["h"] or 1)),
        "noted": Computed(lambda of: f"noted {of['note']}"),
    }
    items = [
        {
            "__typename": "Item",
            "id": f"i{n}",
            "title": f"title {n}",
            "box": {"__typename": "Box", "w": n, "h": 2},
            "note": None,
            "views": n,
            **made,
            **change,
        }
        for n, change in enumerate(changes)
    ]
    return federation(ITEMS, {"items": items}, items)


async def test_an_object_without_what_a_field_needs_is_not_asked_for_it_and_an_error_names_the_field() -> None:
    given = _items({}, {"title": None}, {})
    answer = await given.ask("{ items { id views calc } }")
    assert answer["data"]["items"] in (
        [
            {"id": "i0", "views": 0, "calc": "calc title 0"},
            None,
            {"id": "i2", "views": 2, "calc": "calc title 2"},
        ],
        [
            {"id": "i0", "views": 0, "calc": "calc title 0"},
            {"id": "i1", "views": 1, "calc": None},
            {"id": "i2", "views": 2, "calc": "calc title 2"},
        ],
    )
    assert any(error["path"][:2] == ["items", 1] for error in answer["errors"])
    for representation in sent_representations(given, "b"):
        assert representation.get("title", "") is not None


@pytest.mark.parametrize("asked", ["size", "views size", "size views", "size calc views"])
async def test_what_is_missing_deep_inside_a_requirement_is_seen(asked: str) -> None:
    given = _items(
        {}, {"box": {"__typename": "Box", "w": None, "h": 1}}, {"box": {"__typename": "Box", "w": 3, "h": None}}
    )
    answer = await given.ask(f"{{ items {{ id {asked} }} }}")
    sizes = [each and each["size"] for each in answer["data"]["items"]]
    assert sizes == [0, None, 3]  # a missing value that may be null is sent as null
    assert any(error["path"][:2] == ["items", 1] for error in answer["errors"])


async def test_what_may_be_null_is_sent_as_null() -> None:
    await assert_as_the_monolith(_items({}, {"note": "n"}), "{ items { noted views } }")


async def test_fields_that_need_nothing_are_answered_although_another_ones_input_is_missing() -> None:
    given = _media()
    given.universe.entities[1]["title"] = None
    answer = await given.ask("{ all { views ... on M1 { calc } } }")
    # `title` cannot be null for the client either, but nobody asked for it.
    assert [each and each["views"] for each in answer["data"]["all"]][::2] == [0, 2]
    assert any(error["path"][:2] == ["all", 1] for error in answer["errors"])


async def test_a_failed_input_is_told_at_the_field_that_needs_it() -> None:
    """An input that comes from a third subgraph, which cannot be reached."""
    from router.execution.errors import SubgraphFailure  # noqa: PLC0415 - for this test alone

    subgraphs = {
        "a": 'type Query { items: [Item] } type Item @key(fields: "id") { id: ID! }',
        "c": 'type Item @key(fields: "id") { id: ID! title: String! }',
        "b": 'type Item @key(fields: "id") { id: ID! title: String! @external calc: String @requires(fields: "title") views: Int }',
    }
    calc = Computed(lambda of: f"calc {of['title']}")
    items = [{"__typename": "Item", "id": f"i{n}", "title": f"t{n}", "views": n, "calc": calc} for n in range(2)]
    given = federation(subgraphs, {"items": items}, items)
    given.broken["c"] = SubgraphFailure("away", code="SERVICE_UNAVAILABLE")
    answer = await given.ask("{ items { views calc } }")
    assert answer["data"] == {"items": [{"views": 0, "calc": None}, {"views": 1, "calc": None}]}
    paths = [error["path"] for error in answer["errors"]]
    assert ["items", 0, "calc"] in paths
    assert ["items", 1, "calc"] in paths
    assert all("title" not in representation for representation in sent_representations(given, "b"))
