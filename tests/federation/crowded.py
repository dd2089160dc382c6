"""Supergraphs in which very many plans answer the same: every type in every subgraph, every field in several."""

from typing import Any

from tests.federation.graph import Federation, Universe


def crowded(*, subgraphs: int, types: int, fields: int, seed: int = 1) -> Federation:
    """Each field is in about half of the subgraphs; `next` leads to an interface that all types implement."""
    names = [f"S{n}" for n in range(subgraphs)]
    everywhere = " ".join(f"@join__type(graph: {s})" for s in names)
    keys = " ".join(f'@join__type(graph: {s}, key: "id") @join__type(graph: {s}, key: "code")' for s in names)
    implements = " ".join(f'@join__implements(graph: {s}, interface: "Node")' for s in names)
    shared = "id: ID! code: ID! next: Node"
    parts = [
        'schema @link(url: "https://specs.apollo.dev/join/v0.3", for: EXECUTION) { query: Query }',
        "enum join__Graph {" + " ".join(f'{s} @join__graph(name: "{s}", url: "")' for s in names) + "}",
        f"type Query {everywhere} {{ nodes: [Node!] }}",
        f"interface Node {everywhere} {{ {shared} }}",
    ]
    for number in range(types):
        lines = []
        for at in range(fields):
            homes = [s for place, s in enumerate(names) if (place * 7 + at * 5 + number * 3 + seed) % 11 < 5]
            joins = " ".join(f"@join__field(graph: {s})" for s in homes or names[:1])
            lines.append(f"f{at}: String {joins}")
        parts.append(f"type T{number} implements Node {keys} {implements} {{ {shared} {' '.join(lines)} }}")
    objects: list[dict[str, Any]] = [
        {"__typename": f"T{n}", "id": f"{n}", "code": f"c{n}", **{f"f{at}": f"{n}.{at}" for at in range(fields)}}
        for n in range(types)
    ]
    for each, after in zip(objects, [*objects[1:], objects[0]], strict=True):
        each["next"] = after
    return Federation("\n".join(parts), Universe({"nodes": objects}, objects))


def deep(*, types: int, fields: int, depth: int) -> str:
    """Every field of every type, so many levels deep; the types are named in another order at each level."""

    def below(level: int) -> str:
        inner = f"next {{ {below(level - 1)} }}" if level > 1 else ""
        chosen = [(n + level) % types for n in range(types)]
        return " ".join(
            f"... on T{n} {{ {' '.join(f'f{at}' for at in range(fields))} {inner if n == chosen[0] else ''} }}"
            for n in chosen
        )

    return f"{{ nodes {{ {below(depth)} }} }}"
