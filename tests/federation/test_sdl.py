"""The quick SDL reader against graphql-core's parser: the same nodes, the same places, and the same refusals."""

from collections.abc import Iterator
from random import Random

import pytest
from graphql import DocumentNode, GraphQLSyntaxError, Node, parse

from router.sdl import parse_sdl
from tests.federation.composition.case_files import read_cases
from tests.federation.shop import SHOP

EVERYTHING = '''"""About the "schema\'"""
schema @link(url: "https://example.org", import: ["@a", {name: "@b", as: "@c"}]) { query: Q, mutation: M }
extend schema @tag(name: "x")
# a comment, with a , comma
"""

    An indented
      description
"""
type Q implements & A & B @d(i: -1, f: 1.5e3, s: "", t: true, n: null, e: E, l: [[1], []], o: {}) {
  "one line" f("arg" a: [Int!]! = [1, 2] @x, b: In = {c: RED}): [[Q!]]! @y @y(z: 1)
}
type M interface A implements B { f: Q } interface B { f: Q }
union U @u = | Q | M  enum E @e { "v" RED @deprecated GREEN } input In @oneOf { c: E = RED, d: In }
scalar S @specifiedBy(url: "https://example.org") directive @d(i: Int, f: Float = 1.0) repeatable on | OBJECT | FIELD
extend type Q @z extend interface B @z { g: Int } extend union U = S2 extend enum E { BLUE } extend input In { e: Int }
extend scalar S @x
'''
APPLIED = [
    "directive: directive @a (x: 2) f(a: Int, b: Int): directive",
    '@a(s: """(""" t: ")") @ b',
    'g(a: Int, b: Int): Int @a(x: [1, # one\n 2]) @a(l: [{o: ")("}, E])',
    'h(a: Int @b(x: 1), b: Int): Int @a(s: "(" l: []) i(a: Int @b(x: 1), b: Float): Int @a(s: "(" l: [])',
]
DEFINED = [
    "directive @ a on FIELD",
    "directive\n@b on FIELD",
    "directive  @c (x: [Int] = [1] @b) on FIELD",
    "enum E { directive @b }",
]
DESCRIPTIONS = ["", " ", "\t", "a", " a ", "\t a\t", "\na", " a\n", "a\n  b", "\r", "a\rb", "\x0b", "\u3000"]
PIECES = [
    '"',
    '"""',
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "!",
    "@",
    "$",
    "0",
    "01",
    "-",
    "1.",
    "é",
    "\\",
    "#",
    "&",
    "|",
    "=",
    ":",
    "true",
    "null",
    "...",
    "\ufeff",
    '""',
    "1e5",
    ".5",
    "type",
]
PIECES += ["", " extend ", "\n", "query { a }"]


def texts() -> Iterator[str]:
    yield EVERYTHING
    yield from DEFINED
    yield from (f"type Q {{ a: Int {fields} }}" for fields in APPLIED)
    yield " ".join(f'"""{description}""" scalar S' for description in DESCRIPTIONS)
    yield SHOP
    for case in read_cases():
        yield from (subgraph.sdl for subgraph in case.subgraphs)


def outcome(sdl: str, *, quick: bool) -> DocumentNode | str:
    try:
        return parse_sdl(sdl, no_location=True) if quick else parse(sdl, no_location=True)
    except GraphQLSyntaxError as error:
        return error.message


def test_the_nodes_are_those_of_graphql_core() -> None:
    for sdl in texts():
        assert outcome(sdl, quick=True) == outcome(sdl, quick=False), sdl


@pytest.mark.parametrize("seed", range(4))
def test_broken_documents_are_read_or_refused_alike(seed: int) -> None:
    random = Random(seed)
    documents = [sdl[:1200] for sdl in texts()]
    for _ in range(400):
        sdl = random.choice(documents)
        at = random.randrange(len(sdl) + 1)
        broken = sdl[:at] + random.choice(PIECES) + sdl[at + random.choice((0, 0, 1, 3)) :]
        assert outcome(broken, quick=True) == outcome(broken, quick=False), broken


@pytest.mark.parametrize("broken", ["[I nt]", "I nt", "[Int!", "[Int]]", "[[Int]", "Int!!", "[]", "[Int @a]", "Int]"])
def test_a_type_reference_is_read_or_refused_alike(broken: str) -> None:
    for sdl in (f"type Q {{ a: {broken} }}", f"type Q {{ a(b: {broken} = 1, c: Int): Int }}"):
        assert outcome(sdl, quick=True) == outcome(sdl, quick=False), sdl


def test_definitions_and_their_parts_are_where_graphql_core_says() -> None:
    ours, theirs = parse_sdl(EVERYTHING), parse(EVERYTHING)
    compared = [(one.loc, other.loc) for one, other in zip(walk(ours), walk(theirs), strict=True) if one.loc]
    assert len(compared) > 40
    for one, other in compared:
        assert one is not None
        assert other is not None
        assert (one.start, one.start_token.line, one.start_token.column) == (
            other.start,
            other.start_token.line,
            other.start_token.column,
        )


def walk(node: Node) -> Iterator[Node]:
    yield node
    for key in node.keys:
        value = getattr(node, key)
        for child in value if isinstance(value, tuple) else (value,):
            if isinstance(child, Node):
                yield from walk(child)
