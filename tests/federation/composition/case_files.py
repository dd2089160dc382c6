"""Reads the recorded composition cases.

A case file holds cases of one topic. A line `#prelude` gives SDL that opens each subgraph not marked `bare`:

    #prelude extend schema @link(...)
    #case not shareable
    #errors INVALID_FIELD_SHARING
    #subgraph a
    type Query { t: Int }
    #subgraph b
    type Query { t: Int }

A case that composes has, in place of `#errors`, a last part `#supergraph`: the links and the merged types, as printed.
"""

from dataclasses import dataclass
from pathlib import Path

from router.composition import Subgraph

CASES = Path(__file__).parent / "cases"


@dataclass(frozen=True, slots=True)
class Case:
    topic: str
    name: str
    subgraphs: tuple[Subgraph, ...]
    errors: tuple[str, ...]
    supergraph: str | None

    def __str__(self) -> str:
        return f"{self.topic}: {self.name}"


def read_cases() -> list[Case]:
    """Every recorded case, by file and in order."""
    return [case for path in sorted(CASES.glob("*.graphql")) for case in _read_file(path)]


def _read_file(path: Path) -> list[Case]:
    head, *blocks = path.read_text(encoding="utf-8").split("#case ")
    prelude = head.partition("#prelude ")[2].strip()
    return [_read_case(path.stem, prelude, block) for block in blocks]


def _read_case(topic: str, prelude: str, block: str) -> Case:
    inputs, _, supergraph = block.partition("#supergraph\n")
    head, *parts = inputs.split("#subgraph ")
    name, _, rest = head.partition("\n")
    errors = tuple(rest.removeprefix("#errors ").split()) if rest.startswith("#errors ") else ()
    return Case(
        topic=topic,
        name=name.strip(),
        subgraphs=tuple(_read_subgraph(prelude, part) for part in parts),
        errors=errors,
        supergraph=supergraph.strip() if supergraph else None,
    )


def _read_subgraph(prelude: str, part: str) -> Subgraph:
    title, _, sdl = part.partition("\n")
    name, _, mark = title.strip().partition(" ")
    return Subgraph(name, f"http://{name}", sdl if mark == "bare" else f"{prelude}\n{sdl}")


def essence(supergraph_sdl: str) -> str:
    """The part of a supergraph that a case records: its links, and its types without the join specification's own."""
    parts = supergraph_sdl.strip().split("\n\n")
    own = (
        "directive @join__",
        "directive @link",
        "scalar join__",
        "scalar link__",
        "input join__",
        "enum join__",
        "enum link__",
    )
    kept: list[str] = []
    is_open = False
    for part in parts:
        # link__Purpose is the one machinery type with blank lines inside.
        if is_open:
            is_open = not part.endswith("}")
            continue
        if part.startswith(own):
            is_open = part.startswith("enum link__") and not part.endswith("}")
            continue
        kept.append(part)
    return "\n\n".join(kept)
