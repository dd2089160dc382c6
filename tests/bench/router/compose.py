"""How much CPU composing and reading large supergraphs takes: `python -m tests.bench.router.compose`.

50 subgraphs of 100 types each, with keys between them, descriptions, arguments and tags (1.6 MB of SDL). All figures are
CPU seconds of this process, so that a busy machine does not change them much; graphql-core's parser is the yardstick.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import typer
from graphql import parse

from router.composition import Subgraph, compose
from router.sdl import parse_sdl
from router.supergraph.read import read_supergraph

T = TypeVar("T")

_LINK = (
    'extend schema @link(url: "https://specs.apollo.dev/federation/v2.9", '
    'import: ["@key", "@shareable", "@tag", "@requires", "@external"])'
)


def subgraphs(count: int, types: int) -> list[Subgraph]:
    """Subgraphs in a ring: each extends every third type of the next one."""
    return [Subgraph(f"sub{at:02}", f"http://sub{at:02}", _sdl(at, count, types)) for at in range(count)]


def _sdl(at: int, count: int, types: int) -> str:
    parts = [_LINK, "type Query {"]
    parts += [f"  s{at}q{j}(id: ID!, first: Int = 10): S{at}T{j}" for j in range(types // 4)]
    parts.append("}")
    for j in range(types):
        following = f"S{(at + 1) % count}T{j}"
        parts += [f'"""Type {j} of {at}"""', f'type S{at}T{j} @key(fields: "id") {{', "  id: ID!"]
        parts += [f'  "field {k}"\n  f{k}(a: Int): String @tag(name: "t{k % 3}")' for k in range(4)]
        parts.append(f"  sibling: [S{at}T{(j + 1) % types}!]!")
        parts.append(f"  next: {following}\n}}" if j % 3 == 0 else "}")
        if j % 3 == 0:
            parts.append(f'type {following} @key(fields: "id") {{ id: ID! x{at}: Int }}')
    return "\n".join(parts)


def _timed(what: str, action: Callable[[], T]) -> T:
    before = time.process_time()
    result = action()
    typer.echo(f"{what:44} {time.process_time() - before:6.2f} s")
    return result


def main(count: int = 50, types: int = 100) -> None:
    """Prints one line a step."""
    composed_of = subgraphs(count, types)
    typer.echo(f"{count} subgraphs of {types} types, {sum(len(one.sdl) for one in composed_of) / 1e6:.1f} MB of SDL")
    _timed("graphql-core: parse the subgraphs", lambda: [parse(one.sdl) for one in composed_of])
    _timed("parse the subgraphs", lambda: [parse_sdl(one.sdl) for one in composed_of])
    supergraph = _timed("compose", lambda: compose(composed_of)).supergraph_sdl
    typer.echo(f"supergraph of {len(supergraph) / 1e6:.1f} MB")
    _timed("graphql-core: parse the supergraph", lambda: parse(supergraph, no_location=True))
    _timed("parse the supergraph", lambda: parse_sdl(supergraph, no_location=True))
    _timed("read the supergraph, with its API schema", lambda: read_supergraph(supergraph))


if __name__ == "__main__":
    typer.run(main)
