"""Documents are accepted and refused as by all of graphql-core's rules, ordinary ones without asking them."""

import re
import time
from collections.abc import Sequence

import pytest
from graphql import DocumentNode, GraphQLError, GraphQLSyntaxError, build_schema, parse, validate
from graphql.validation import NoSchemaIntrospectionCustomRule, specified_rules
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.errors import ClientError
from router.serving.validation.validator import Validator

SCHEMA = build_schema(
    """
    directive @defer(if: Boolean! = true, label: String) on FRAGMENT_SPREAD | INLINE_FRAGMENT
    directive @tag(name: String!) repeatable on FIELD
    scalar Any
    enum Colour { RED GREEN }
    input Size { height: Int! width: Int = 1 colours: [Colour!] inner: Size any: Any }
    input Choice @oneOf { id: ID size: Size }
    interface Node { id: ID! peer(n: Int): Node peers: [Node!]! colour: Colour }
    type Cat implements Node { id: ID! peer(n: Int): Cat peers: [Cat!]! colour: Colour lives: Int! name: String }
    type Dog implements Node { id: ID! peer(n: Int): Dog peers: [Dog!]! colour: Colour lives: String name: String! }
    type Stone { weight(unit: String! = "kg", round: Boolean): Float name: String }
    union Thing = Cat | Dog | Stone
    type Query {
      node(id: ID!): Node
      nodes(ids: [ID!]!, first: Int = 10): [Node!]!
      things(of: [Size], choice: Choice, any: Any, colour: Colour = RED): [Thing]
      cat: Cat
      dog(n: Int!): Dog
      strict(n: Int! = 5): Int
    }
    type Mutation { paint(colour: Colour!, size: Size): Thing }
    type Subscription { cats: Cat dogs: Dog }
    """
)
PLAIN = (
    "{ cat { id name lives } }",
    "query Q { a : cat { id } b : cat { x : id x : id } cat { peer ( n : 1 ) { id } peer ( n : 1 ) { name } } }",
    "query Q ( $id : ID! , $n : Int = 3 ) { node ( id : $id ) { id peer ( n : $n ) { id } } strict ( n : $n ) }",
    "query Q ( $ids : [ID!]! , $id : ID! ) { nodes ( ids : $ids ) { id } other : nodes ( ids : [ $id , 1 ] ) { id } }",
    '{ things { ... on Cat { name lives } ... on Stone { weight ( unit : "g" ) } ... on Node { id } __typename } }',
    "query Q ( $c : Boolean! ) { cat { ...F ... @skip ( if : $c ) { id } } dog ( n : 1 ) { ...F @include ( if : true ) } } fragment F on Node { id ...G } fragment G on Node { peers { id } }",
    "query Q ( $h : Int! , $s : Size ) { things ( of : [ { height : $h , colours : [ RED ] } , $s ] ) { __typename } }",
    "{ things ( of : { height : 1 , inner : { height : 2 } } , colour : GREEN , any : 3 ) { __typename } }",
    "mutation M ( $c : Colour! ) { paint ( colour : $c , size : null ) { ... on Dog { name } } }",
    '{ nodes ( ids : [ "a" ] ) { ... on Cat { same : id } ... on Dog { same : id } } }',
)
"""Valid, and of nothing but what ordinary documents hold. Tokens stand apart, so that they can be changed."""
UNUSUAL = (
    "query A { cat { id } } query B { cat { name } }",
    "subscription S { cats { id } }",
    "{ __schema { types { name } } }",
    "query Q ( $id : ID! ) { things ( choice : { id : $id } , any : { a : $id , b : [ $id ] } ) { __typename } }",
    '{ cat { ... @defer ( label : "a" ) { id } name @tag ( name : "x" ) @tag ( name : "y" ) } }',
    "{ nodes ( ids : [ ] ) { ... on Cat { v : name } ... on Dog { v : lives } } }",
    "{ nodes ( ids : [ ] ) { ... on Cat { peer ( n : 1 ) { id } } ... on Dog { peer ( n : 2 ) { id } } } }",
)
WORDS = (
    *(
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        ":",
        "...",
        "on",
        "$n",
        "$id",
        "$ids",
        "$c",
        "$s",
        "$h",
        "@skip",
        "@include",
        "@tag",
    ),
    *("@defer", "@no", "if", "n", "id", "ids", "of", "any", "choice", "unit", "1", "1.5", '"a"', "true", "null", "RED"),
    *(
        "Cat",
        "Dog",
        "Node",
        "Stone",
        "Thing",
        "Size",
        "Int",
        "Int!",
        "[ID!]",
        "ID",
        "Any",
        "Query",
        "Nothing",
        "...F",
        "...G",
    ),
    *(
        "name",
        "lives",
        "weight",
        "peer",
        "peers",
        "colour",
        "colours",
        "height",
        "inner",
        "same",
        "x",
        "__typename",
        "=",
        ",",
    ),
    *(
        "@skip ( if : $c )",
        "@include ( if : true )",
        "( n : 1 )",
        "( n : $n )",
        "{ id }",
        "__schema { types { name } }",
    ),
    *(
        "fragment F on Cat { name }",
        "query B { cat { id } }",
        "x : name",
        "( $n : Int )",
        "lives : name",
        "type X { a : Int }",
    ),
)
VALIDATORS = {introspection: Validator(SCHEMA, introspection=introspection) for introspection in (True, False)}


def expected(document: DocumentNode, *, introspection: bool = True) -> list[GraphQLError]:
    rules = specified_rules if introspection else (*specified_rules, NoSchemaIntrospectionCustomRule)
    return validate(SCHEMA, document, rules, hide_suggestions=not introspection)


def agree(document: DocumentNode, *, introspection: bool = True) -> None:
    """The document is refused if graphql-core's rules refuse it, and with messages of theirs."""
    validator = VALIDATORS[introspection]
    theirs = {
        (error.message, tuple(error.locations or ())) for error in expected(document, introspection=introspection)
    }
    ours = {(error.message, tuple(error.locations or ())) for error in validator.errors(document)}
    assert bool(ours) == bool(theirs)
    assert ours <= theirs
    if validator.is_plain(document):
        assert all("conflict because" in message for message, _ in theirs)


@st.composite
def changed(draw: st.DrawFn) -> str:
    """A document with some tokens left out, exchanged, doubled or put in."""
    tokens = draw(st.sampled_from(PLAIN + UNUSUAL)).split()
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(tokens) - 1))
        word = draw(st.sampled_from(WORDS) | st.sampled_from(tokens))
        tokens[place : place + draw(st.integers(0, 1))] = draw(
            st.sampled_from(([word], [word], [], [tokens[place]] * 2))
        )
        if not tokens:
            return "{"
    return " ".join(tokens)


@pytest.mark.parametrize("document", PLAIN)
def test_an_ordinary_document_is_proven_valid(document: str) -> None:
    assert expected(parse(document)) == []
    assert VALIDATORS[True].is_plain(parse(document))
    assert not VALIDATORS[True].errors(parse(document))


@pytest.mark.parametrize("document", UNUSUAL)
def test_an_unusual_document_is_left_to_the_rules(document: str) -> None:
    assert expected(parse(document)) == []
    assert not VALIDATORS[True].errors(parse(document))


@settings(max_examples=500, deadline=None)
@given(changed(), st.booleans())
@example("query Q ( $n : Int ) { strict ( n : $n ) dog ( n : $n ) { id } }", True)
@example("query Q ( $c : Boolean ) { cat { id @skip ( if : $c ) } }", True)
@example("{ cat { ...F } } fragment F on Cat { peer { ...F } }", True)
@example("{ cat { ... on Dog { name } } }", True)
@example("query Q ( $s : Size , $s : Size ) { things ( of : [ $s ] ) { __typename } }", True)
@example("query Q ( $s : [Size!] ) { things ( of : [ $s ] ) { __typename } }", True)
@example("{ things ( of : { height : 1 , height : 1 } ) { __typename } }", True)
@example('{ __type ( name : "Cat" ) { name } }', False)
def test_changed_documents_are_accepted_and_refused_as_by_all_rules(text: str, introspection: bool) -> None:
    try:
        document = parse(text)
    except GraphQLSyntaxError:
        return
    agree(document, introspection=introspection)


_LEAVES = st.sampled_from(("id", "x: id", "colour", "x: colour", "name", "lives", "x: name", "x: lives", "__typename"))
_HEADS = st.sampled_from(
    (
        *(
            "peer",
            "peer(n: 1)",
            "peer(n: 2)",
            "peer(n: $n)",
            "peers",
            "x: peer",
            "y: peers",
            "y: peer",
            "...",
            "... on Cat",
        ),
        *("... on Dog", "... on Node"),
    )
)


def _nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(inner, min_size=1, max_size=4).map(" ".join)
    return st.tuples(_HEADS, several).map(lambda parts: f"{parts[0]} {{ {parts[1]} }}")


_SELECTIONS = st.lists(st.recursive(_LEAVES | st.just("...F"), _nested, max_leaves=8), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(_SELECTIONS, _SELECTIONS)
@example(["... on Cat { x: lives }", "... on Dog { x: lives }"], ["id"])
@example(["... on Cat { peer { x: id } }", "... on Dog { peer { x: name } }"], ["id"])
@example(["peer { id }", "peer(n: 1) { id }"], ["id"])
@example(["...F", "peer { x: colour }"], ["peer { x: id }"])
def test_overlapping_fields_are_accepted_and_refused_as_by_the_rule(
    selections: list[str], others: Sequence[str]
) -> None:
    fragment = " ".join(others).replace("...F", "id")
    text = f"query Q($n: Int) {{ node(id: 1) {{ {' '.join(selections)} ...F k: peer(n: $n) {{ id }} }} }}"
    agree(parse(f"{text} fragment F on Node {{ {fragment} }}"))


FRIENDS = "peers { id } "
REPEATED = {
    "fields": "{ cat { " + "name " * 14_000 + "} }",
    "objects": "{ cat { " + FRIENDS * 2_500 + "} }",
    "nested": "{ cat { " + "peers { peers { peers { id } } } " * 1_000 + "} }",
    "fragments": "{ cat { "
    + " ".join(f"...F{n}" for n in range(500))
    + " } } "
    + " ".join(f"fragment F{n} on Cat {{ name {FRIENDS} }}" for n in range(500)),
    "chain": "{ cat { ...F0 } } "
    + " ".join(f"fragment F{n} on Cat {{ {FRIENDS * 50} ...F{n + 1} }}" for n in range(40))
    + " fragment F40 on Cat { id }",
    "types": "{ things { " + "... on Cat { name colour } ... on Stone { name } " * 600 + "} }",
}


@pytest.mark.parametrize("text", REPEATED.values(), ids=REPEATED)
def test_equal_fields_side_by_side_take_no_comparisons(text: str) -> None:
    """Compared pair by pair, they are too many."""
    assert not VALIDATORS[True].errors(parse(text))


DIFFERENT = {
    "arguments": "{ cat { " + " ".join(f"peer(n: {n}) {{ id }}" for n in range(900)) + " } }",
    "names": "{ cat { " + "x: id x: name " * 900 + "} }",
}


@pytest.mark.parametrize("text", DIFFERENT.values(), ids=DIFFERENT)
def test_too_many_different_fields_under_one_name_are_refused(text: str) -> None:
    with pytest.raises(ClientError, match=re.escape("too many different fields under one response name")) as refusal:
        VALIDATORS[True].errors(parse(text))
    assert refusal.value.code == "OPERATION_TOO_LARGE"


def test_a_fragment_bomb_beside_the_operation_is_refused() -> None:
    """Each operation is validated, not only the one that is asked for, whose size is limited before."""
    bomb = " ".join(
        f"fragment F{n} on Cat {{ a: peer {{ ...F{n + 1} }} b: peer {{ ...F{n + 1} }} }}" for n in range(20)
    )
    text = f"query A {{ cat {{ id }} }} query B {{ cat {{ ...F0 }} }} {bomb} fragment F20 on Cat {{ id }}"
    started = time.process_time()
    assert not VALIDATORS[True].errors(parse(text))
    assert time.process_time() - started < 10
