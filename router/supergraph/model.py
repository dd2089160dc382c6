"""The supergraph as the planner asks about it: what each subgraph knows of each type, and how fields may be reached.

The reader (`read.py`) turns the join directives into one `SubgraphType` per (type, subgraph). Everything is frozen;
a reload builds a new `Supergraph` and drops the old one whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NewType

from graphql import DocumentNode, GraphQLSchema

from router.supergraph.selection import Selection

SubgraphName = NewType("SubgraphName", str)


class Kind(Enum):
    OBJECT = "object"
    INTERFACE = "interface"
    UNION = "union"
    LEAF = "leaf"
    INPUT = "input"


@dataclass(frozen=True, slots=True)
class ContextArgument:
    """An argument that the router fills from an ancestor object (`@fromContext`)."""

    name: str
    type_text: str
    context: str
    selection: Selection


@dataclass(frozen=True, slots=True)
class SubgraphField:
    """A field as one subgraph defines it.

    type_text: its type in that subgraph, e.g. `[Product!]!`; type_name: the innermost name.
    external: the subgraph names the field, but answers it only where a key or `@provides` says so.
    override_label: with a label, the field is here only while the label is active (or inactive, see `unless_label`).
    """

    name: str
    type_text: str
    type_name: str
    external: bool = False
    requires: Selection | None = None
    provides: Selection | None = None
    override_label: str | None = None
    unless_label: str | None = None
    context_arguments: tuple[ContextArgument, ...] = ()

    @property
    def needs_more(self) -> bool:
        """Whether values of other fields have to be fetched before this one can be asked for."""
        return self.requires is not None or bool(self.context_arguments)


@dataclass(frozen=True, slots=True)
class Key:
    selection: Selection
    text: str
    resolvable: bool


@dataclass(frozen=True, slots=True)
class SubgraphType:
    """A type as one subgraph knows it.

    kind: OBJECT also for an interface that the subgraph treats as an object (`interface_object`).
    possible: the object types that an abstract type can have in this subgraph, sorted.
    """

    name: str
    kind: Kind
    fields: Mapping[str, SubgraphField]
    keys: tuple[Key, ...]
    possible: tuple[str, ...]
    interface_object: bool = False
    extension: bool = False


@dataclass(frozen=True, slots=True)
class Subgraph:
    name: SubgraphName
    url: str
    types: Mapping[str, SubgraphType]


@dataclass(frozen=True, slots=True)
class Access:
    """What a type or field asks of the caller before it is fetched.

    scopes and policies: any one inner group must be held whole.
    """

    authenticated: bool = False
    scopes: tuple[frozenset[str], ...] = ()
    policies: tuple[frozenset[str], ...] = ()

    @property
    def is_open(self) -> bool:
        return not (self.authenticated or self.scopes or self.policies)


@dataclass(frozen=True, slots=True)
class Cost:
    """Demand control: `@cost` and `@listSize` of one field."""

    weight: int | None = None
    assumed_size: int | None = None
    slicing_arguments: tuple[str, ...] = ()
    sized_fields: tuple[str, ...] = ()
    require_one_slicing_argument: bool = False


@dataclass(frozen=True, slots=True)
class Supergraph:
    """Everything that planning and execution need to know.

    possible: for each abstract type, the object types it can have anywhere; for an object type, itself.
    interfaces: for each object or interface type, the interfaces it implements anywhere.
    access, costs: by type name or `Type.field`; absent means open, or the default cost.
    contexts: for each context name, the types that set it.
    """

    subgraphs: Mapping[SubgraphName, Subgraph]
    kinds: Mapping[str, Kind]
    possible: Mapping[str, tuple[str, ...]]
    interfaces: Mapping[str, frozenset[str]]
    root_types: Mapping[str, str]
    api_schema: GraphQLSchema
    document: DocumentNode
    access: Mapping[str, Access] = field(default_factory=dict)
    costs: Mapping[str, Cost] = field(default_factory=dict)
    contexts: Mapping[str, frozenset[str]] = field(default_factory=dict)
    labels: frozenset[str] = frozenset()

    def is_subtype(self, type_name: str, of: str) -> bool:
        """Whether every object of the first type is one of the second."""
        if type_name == of:
            return True
        if of in self.interfaces.get(type_name, frozenset()):
            return True
        return self.kinds.get(of) is Kind.UNION and type_name in self.possible.get(of, ())

    def overlaps(self, first: str, second: str) -> bool:
        """Whether some object is of both types."""
        return not set(self.possible.get(first, ())).isdisjoint(self.possible.get(second, ()))
