"""Writes the published contracts into `schema/`: subgraph SDL, the supergraph composed of them, and event schemas.

`make schema` runs it; a test runs it into another folder and compares.
"""

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import orjson

import domain
from domain.catalog import Group, built_groups
from domain.events import SEALED, DomainEvent
from router.composition import Subgraph, compose

SCHEMA = Path(__file__).parents[2] / "schema"


def subgraph_url(group: Group) -> str:
    """Where the supergraph says that a group's subgraph is; the router's configuration may say otherwise."""
    return f"http://manpasik-{group.value}:8081/{group.value}/graphql"


def subgraphs() -> list[Subgraph]:
    """The subgraphs of the built groups, in the order of the catalogue."""
    return [
        Subgraph(group.value, subgraph_url(group), import_module(f"subgraphs.{group.value}.schema").schema.as_str())
        for group in built_groups()
    ]


def event_types() -> Iterator[type[DomainEvent]]:
    """The events that the built services publish, by topic."""
    for module in pkgutil.walk_packages(domain.__path__, "domain."):
        if module.name.endswith(".events"):
            import_module(module.name)
    published = [event for event in _subclasses(DomainEvent) if event.__module__.startswith("domain.")]
    yield from sorted((event for event in published if hasattr(event, "topic")), key=lambda event: event.topic)


def wire_schema(event: type[DomainEvent]) -> dict[str, Any]:
    """The JSON Schema of an event's data as it travels: sealed fields stand below `sealed`, as its `contentSchema`."""
    schema = event.model_json_schema()
    hidden = event.health_fields
    if not hidden:
        return schema
    properties, required = schema["properties"], schema.get("required", [])
    sealed = {
        "type": "string",
        "title": "Sealed",
        "description": "Health data: base64url of a JSON object of these fields, encrypted with AES-256-GCM "
        "(domain/sealing.py, EventSealer) and bound to the event's type and id.",
        "contentEncoding": "base64url",
        "contentMediaType": "application/json",
        "contentSchema": {
            "type": "object",
            "properties": {name: value for name, value in properties.items() if name in hidden},
            "required": [name for name in required if name in hidden],
        },
    }
    return {
        **schema,
        "properties": {**{name: value for name, value in properties.items() if name not in hidden}, SEALED: sealed},
        "required": [*(name for name in required if name not in hidden), SEALED],
    }


def _subclasses(base: type[DomainEvent]) -> Iterator[type[DomainEvent]]:
    for subclass in base.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def generate(into: Path) -> None:
    """Write every contract below a folder.

    Raises:
        CompositionFailed: the subgraphs do not compose.
    """
    parts = subgraphs()
    files = {f"subgraphs/{part.name}.graphql": part.sdl for part in parts}
    files["supergraph.graphql"] = compose(parts).supergraph_sdl
    for event in event_types():
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **wire_schema(event)}
        files[f"events/{event.topic}.json"] = orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode()
    for name, text in files.items():
        path = into / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.rstrip("\n") + "\n")
    for stale in {path for path in into.rglob("*") if path.is_file()} - {into / name for name in files}:
        stale.unlink()


if __name__ == "__main__":
    generate(SCHEMA)
