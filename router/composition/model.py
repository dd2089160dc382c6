"""The values that the stages of composition pass on: one schema, of a subgraph or of the supergraph.

Types, default values and directive arguments are kept as SDL text in graphql-core's printed form: two subgraphs agree on
a default exactly when the texts are equal, and printing the supergraph is concatenation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from graphql import parse_const_value
from graphql.utilities import value_from_ast_untyped

from router.composition.errors import SourceLocation

ROOT_TYPES = ("Query", "Mutation", "Subscription")
BUILT_IN_SCALARS = frozenset({"Int", "Float", "String", "Boolean", "ID"})


class TypeKind(Enum):
    SCALAR = "scalar"
    OBJECT = "type"
    INTERFACE = "interface"
    UNION = "union"
    ENUM = "enum"
    INPUT = "input"


class FieldId(NamedTuple):
    """A field's coordinate, printed `Type.field`."""

    type: str
    field: str

    def __str__(self) -> str:
        return f"{self.type}.{self.field}"


@lru_cache(maxsize=20_000)
def _untyped(text: str) -> object:
    value: object = value_from_ast_untyped(parse_const_value(text, no_location=True))
    return value


@dataclass(frozen=True, slots=True)
class Applied:
    """One application of a directive. Directives of known specifications carry their canonical name without `@`."""

    name: str
    args: tuple[tuple[str, str], ...] = ()
    at: SourceLocation | None = field(default=None, compare=False)
    extension: int = field(default=0, compare=False)
    """Which `extend` of the type it stands on, counted from 1; 0 stands for the definition."""

    def text(self, name: str) -> str | None:
        """The argument as SDL text, or None where it was not given."""
        return next((text for key, text in self.args if key == name), None)

    def value(self, name: str) -> object:
        """The argument as a Python value (enum values as strings); None where it was not given."""
        text = self.text(name)
        return None if text is None else _untyped(text)

    def string(self, name: str) -> str | None:
        """The argument where it is a string, else None."""
        text = self.text(name)
        if text is None or not text.startswith('"'):
            return None
        value = _untyped(text)
        return value if isinstance(value, str) else None

    def __str__(self) -> str:
        if not self.args:
            return f"@{self.name}"
        return f"@{self.name}({', '.join(f'{name}: {text}' for name, text in self.args)})"


@dataclass(frozen=True, slots=True)
class InputValue:
    """An argument, or a field of an input object."""

    name: str
    type: str
    default: str | None = None
    description: str | None = None
    directives: tuple[Applied, ...] = ()
    at: SourceLocation | None = field(default=None, compare=False)

    @property
    def is_required(self) -> bool:
        return self.type.endswith("!") and self.default is None


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    type: str
    args: Mapping[str, InputValue] = field(default_factory=dict)
    description: str | None = None
    directives: tuple[Applied, ...] = ()
    at: SourceLocation | None = field(default=None, compare=False)

    def has(self, directive: str) -> bool:
        return any(applied.name == directive for applied in self.directives)

    def applied(self, directive: str) -> Applied | None:
        return next((applied for applied in self.directives if applied.name == directive), None)


@dataclass(frozen=True, slots=True)
class EnumValue:
    name: str
    description: str | None = None
    directives: tuple[Applied, ...] = ()
    at: SourceLocation | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class TypeDef:
    """A type of any kind; the members that its kind has no use for stay empty."""

    name: str
    kind: TypeKind
    description: str | None = None
    directives: tuple[Applied, ...] = ()
    fields: Mapping[str, Field] = field(default_factory=dict)
    inputs: Mapping[str, InputValue] = field(default_factory=dict)
    values: Mapping[str, EnumValue] = field(default_factory=dict)
    members: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    is_extension: bool = False
    """True where the subgraph only extends the type: `extend type` without a base, or `@extends`."""
    has_base: bool = True
    """False where the SDL has only `extend`s of the type."""
    at: SourceLocation | None = field(default=None, compare=False)

    def has(self, directive: str) -> bool:
        return any(applied.name == directive for applied in self.directives)

    def all_applied(self, directive: str) -> tuple[Applied, ...]:
        return tuple(applied for applied in self.directives if applied.name == directive)

    @property
    def is_composite(self) -> bool:
        return self.kind in (TypeKind.OBJECT, TypeKind.INTERFACE, TypeKind.UNION)

    @property
    def is_interface_object(self) -> bool:
        return self.kind is TypeKind.OBJECT and self.has("interfaceObject")


@dataclass(frozen=True, slots=True)
class DirectiveDef:
    name: str
    args: Mapping[str, InputValue] = field(default_factory=dict)
    locations: tuple[str, ...] = ()
    is_repeatable: bool = False
    description: str | None = None
    at: SourceLocation | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Feature:
    """A specification that a schema links to: `https://specs.apollo.dev/tag/v0.3` is identity, name `tag`, (0, 3)."""

    identity: str
    name: str
    version: tuple[int, int]
    url: str
    namespace: str
    imports: Mapping[str, str] = field(default_factory=dict)
    """Element as the specification names it (`@key`, `FieldSet`) to its name in this schema, both with their `@`."""
    purpose: str | None = None
    at: SourceLocation | None = field(default=None, compare=False)

    def local(self, directive: str) -> str:
        """The schema's name for the feature's directive, without `@`."""
        imported = self.imports.get(f"@{directive}")
        if imported is not None:
            return imported[1:]
        return self.namespace if directive == self.name else f"{self.namespace}__{directive}"


@dataclass(frozen=True, slots=True)
class SubgraphSchema:
    """A subgraph as composition sees it: no federation machinery, root types under their default names."""

    name: str
    graph: str
    """The name of the subgraph in the `join__Graph` enum."""
    url: str
    federation: tuple[int, int]
    """The federation version linked to, (1, 0) where there is no link."""
    types: Mapping[str, TypeDef]
    directives: Mapping[str, DirectiveDef]
    features: tuple[Feature, ...] = ()
    schema_directives: tuple[Applied, ...] = ()
    local_names: Mapping[str, str] = field(default_factory=dict)
    """Canonical directive name to the name used in this subgraph's SDL, for messages and for the supergraph."""

    @property
    def is_federation_2(self) -> bool:
        return self.federation >= (2, 0)

    def field(self, coordinate: FieldId) -> Field | None:
        parent = self.types.get(coordinate.type)
        return parent.fields.get(coordinate.field) if parent else None

    def possible_types(self, name: str) -> tuple[str, ...]:
        """The object types that a value of the type can have in this subgraph, in order of definition."""
        found = self.types.get(name)
        if found is None:
            return ()
        if found.kind is TypeKind.UNION:
            return found.members
        if found.kind is TypeKind.INTERFACE:
            return tuple(
                other.name
                for other in self.types.values()
                if other.kind is TypeKind.OBJECT and name in other.interfaces
            )
        return (name,)
