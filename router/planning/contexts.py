"""Values of `@fromContext` arguments: where a fetch reads them in the answer so far, and how it sends them.

The value of such an argument comes from the nearest object around the entity whose type sets the context. Entities of one
fetch may stand below different objects, so a fetch reads one value for each of its entities, and asks for those with
other values under another alias of `_entities`, with variables of their own.

Source: Apollo Federation 2.8, "Saving and referencing data with contexts".
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from graphql import NameNode, VariableNode

from router.planning.fetch_graph import ContextRead, Items, Path
from router.supergraph.model import ContextArgument
from router.supergraph.selection import Field, Selection, print_arguments


@dataclass(frozen=True, slots=True)
class ContextLevel:
    """Objects around an entity that may hold the value: their path, and what is read of each type that sets the context."""

    path: Path
    reads: tuple[tuple[str, Items], ...]


@dataclass(frozen=True, slots=True)
class ContextVariable:
    """An argument's value. levels: where to look, the nearest first; nowhere found means null."""

    name: str
    type_text: str
    levels: tuple[ContextLevel, ...]


@dataclass(frozen=True, slots=True)
class Contextual:
    """What a fetch with contextual arguments sends besides its representations.

    representations: the name of the variable with them; title: the operation's name, with a space before it.
    definitions: of the client's variables that it uses.
    """

    variables: tuple[ContextVariable, ...]
    representations: str
    title: str
    definitions: tuple[str, ...]

    def operation(self, selection: str, groups: int) -> str:
        """The operation for so many groups of entities, each with values of its own; `selection`: of one entity.

        With several groups the n-th has the alias `_e<n>`, and `_<n>` after each of its variables' names.
        """
        definitions = list(self.definitions)
        bodies: list[str] = []
        for suffix, alias in group_names(groups):
            definitions.append(f"${self.representations}{suffix}:[_Any!]!")
            body = selection
            for variable in self.variables:
                definitions.append(f"${variable.name}{suffix}:{variable.type_text}")
                body = re.sub(rf"\${variable.name}\b", f"${variable.name}{suffix}", body)
            name = "_entities" if groups == 1 else f"{alias}:_entities"
            bodies.append(f"{name}(representations:${self.representations}{suffix}){body}")
        return f"query{self.title}({','.join(definitions)}){{{' '.join(bodies)}}}"


def group_names(groups: int) -> Iterator[tuple[str, str]]:
    """For each group, what follows its variables' names, and the alias of its entities."""
    if groups == 1:
        yield "", "_entities"
        return
    for number in range(groups):
        yield f"_{number}", f"_e{number}"


def freeze(read: ContextRead) -> ContextVariable:
    nearest_first = sorted(read.levels.items(), key=lambda level: -len(level[0]))
    return ContextVariable(
        read.name,
        read.type_text,
        tuple(ContextLevel(path, tuple(sorted(reads.items(), key=lambda r: r[0]))) for path, reads in nearest_first),
    )


class Contexts:
    """The contextual variables of one operation. One path, context and selection is one variable, whoever asks."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._prefix: str | None = None
        self._reads: dict[tuple[Path, str, str, str], ContextRead] = {}

    def read(self, path: Path, argument: ContextArgument) -> ContextRead:
        key = (path, argument.context, str(argument.selection), argument.type_text)
        if (known := self._reads.get(key)) is not None:
            return known
        return self._reads.setdefault(key, ContextRead(f"{self._free_prefix()}{len(self._reads)}", argument.type_text))

    def _free_prefix(self) -> str:
        """A name that occurs nowhere in the operation: neither as a variable nor inside a string."""
        if self._prefix is None:
            text = str(self._selection)
            self._prefix = "contextual_"
            while self._prefix in text:
                self._prefix = f"_{self._prefix}"
        return self._prefix


def with_arguments(item: Field, values: dict[str, str]) -> Field:
    """The field with further arguments, each taken from a variable."""
    arguments = (
        *item.arguments,
        *((name, VariableNode(name=NameNode(value=variable))) for name, variable in values.items()),
    )
    return Field(item.key, item.name, arguments, print_arguments(arguments), item.selection)
