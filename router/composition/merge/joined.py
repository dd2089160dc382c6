"""`@join__directive`: applications that the supergraph keeps for routers that know them, each with its subgraphs.

They are not merged: `@cacheTag` and the connector directives mean something in their own subgraph only.
"""

from collections.abc import Iterable, Mapping, Sequence

from router.composition import specs
from router.composition.model import Applied, SubgraphSchema
from router.composition.sdl_text import sdl_text

JOINED_DIRECTIVES: Mapping[str, str] = {
    "cacheTag": "federation__cacheTag",
    "connect": "connect",
    "source": "source",
}
"""Name in the subgraphs' models to the name that `@join__directive` gives."""


def join_directives(sources: Iterable[tuple[SubgraphSchema, Sequence[Applied]]]) -> tuple[Applied, ...]:
    """One application for each distinct one, with the graphs that have it."""
    graphs: dict[tuple[str, tuple[tuple[str, str], ...]], list[str]] = {}
    for schema, directives in sources:
        for applied in directives:
            if applied.name in JOINED_DIRECTIVES:
                graphs.setdefault((JOINED_DIRECTIVES[applied.name], applied.args), []).append(schema.graph)
    return tuple(_join(name, args, members) for (name, args), members in graphs.items())


def _join(name: str, args: tuple[tuple[str, str], ...], graphs: Sequence[str]) -> Applied:
    given = [("graphs", f"[{', '.join(graphs)}]"), ("name", sdl_text(name))]
    if args:
        given.append(("args", "{" + ", ".join(f"{key}: {text}" for key, text in args) + "}"))
    return Applied("join__directive", tuple(given))


def schema_join_directives(schemas: Sequence[SubgraphSchema]) -> tuple[Applied, ...]:
    """The links to the connector specification, and the sources that subgraphs declare on their schema."""
    graphs: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for schema in schemas:
        for applied in schema.schema_directives:
            if applied.name == "link" and (applied.string("url") or "").startswith(f"{specs.CONNECT}/"):
                graphs.setdefault(applied.args, []).append(schema.graph)
    links = tuple(_join("link", args, members) for args, members in graphs.items())
    return (*links, *join_directives((schema, schema.schema_directives) for schema in schemas))


def joined_links(schemas: Sequence[SubgraphSchema]) -> tuple[Applied, ...]:
    """The `@link`s that tell a router which of the joined directives to expect."""
    links = []
    connect = [
        feature.version for schema in schemas for feature in schema.features if feature.identity == specs.CONNECT
    ]
    if connect:
        major, minor = max(*connect, (0, 3))
        links.append(f"{specs.CONNECT}/v{major}.{minor}")
    if any(applied.name == "cacheTag" for schema in schemas for applied in _all_applied(schema)):
        links.append(specs.CACHE_TAG_URL)
    return tuple(Applied("link", (("url", sdl_text(url)), ("for", "EXECUTION"))) for url in links)


def _all_applied(schema: SubgraphSchema) -> Iterable[Applied]:
    for found in schema.types.values():
        yield from found.directives
        for field in found.fields.values():
            yield from field.directives
