"""The specifications that composition knows: federation itself, and those whose directives reach the supergraph.

Source: https://specs.apollo.dev (link v1.0, join v0.3 to v0.5, tag v0.3, inaccessible v0.2, authenticated v0.1,
requiresScopes v0.1, policy v0.1, cost v0.1, context v0.1), and the federation subgraph specification v2.0 to v2.14.
"""

from dataclasses import dataclass

SPECS = "https://specs.apollo.dev"
LINK = f"{SPECS}/link"
CORE = f"{SPECS}/core"
FEDERATION = f"{SPECS}/federation"
CONNECT = f"{SPECS}/connect"
CACHE_TAG_URL = f"{SPECS}/cacheTag/v0.1"
LATEST_FEDERATION = (2, 14)
UPGRADED_TO = (2, 4)
"""The version whose directives a Federation 1 subgraph has once it is upgraded."""
LINK_URL = f"{LINK}/v1.0"

LINK_PURPOSES = ("EXECUTION", "SECURITY")
LINK_SDL = """
directive @{link}(url: String, as: String, for: link__Purpose, import: [link__Import]) repeatable on SCHEMA
"""

CONNECT_DIRECTIVES = {
    "connect": (
        "(source: String, id: String, http: {JSON}, batch: {JSON}, errors: {JSON}, isSuccess: String, "
        "selection: String!, entity: Boolean = false) repeatable on FIELD_DEFINITION | OBJECT"
    ),
    "source": "(name: String!, http: {JSON}!, errors: {JSON}, isSuccess: String) repeatable on SCHEMA",
}
"""Composition carries connectors to routers that run them, and does not look into their arguments."""


@dataclass(frozen=True, slots=True)
class FederationDirective:
    """A directive of the federation specification.

    `definition` is what follows its name in SDL; `{...}` stands for the local name of a scalar of the specification.
    """

    name: str
    since: tuple[int, int]
    definition: str
    in_federation_1: bool = False
    older: tuple[tuple[tuple[int, int], str], ...] = ()
    """What was said before certain versions, oldest first."""

    def definition_in(self, version: tuple[int, int]) -> str:
        """What follows the name in this version of the specification."""
        return next((text for before, text in self.older if version < before), self.definition)


_AUTH_LOCATIONS = "FIELD_DEFINITION | OBJECT | INTERFACE | SCALAR | ENUM"
_TAG_LOCATIONS = (
    "FIELD_DEFINITION | OBJECT | INTERFACE | UNION | ARGUMENT_DEFINITION | SCALAR | ENUM | ENUM_VALUE | INPUT_OBJECT "
    "| INPUT_FIELD_DEFINITION"
)
_COST_LOCATIONS = "ARGUMENT_DEFINITION | ENUM | FIELD_DEFINITION | INPUT_FIELD_DEFINITION | OBJECT | SCALAR"
_LIST_SIZE_ARGS = (
    "assumedSize: Int, slicingArguments: [String!], sizedFields: [String!], requireOneSlicingArgument: Boolean = true"
)

FEDERATION_DIRECTIVES = {
    directive.name: directive
    for directive in (
        FederationDirective(
            "key", (2, 0), "(fields: {FieldSet}!, resolvable: Boolean = true) repeatable on OBJECT | INTERFACE", True
        ),
        FederationDirective("requires", (2, 0), "(fields: {FieldSet}!) on FIELD_DEFINITION", True),
        FederationDirective("provides", (2, 0), "(fields: {FieldSet}!) on FIELD_DEFINITION", True),
        FederationDirective("external", (2, 0), "(reason: String) on OBJECT | FIELD_DEFINITION", True),
        FederationDirective("extends", (2, 0), " on OBJECT | INTERFACE", True),
        FederationDirective(
            "tag",
            (2, 0),
            f"(name: String!) repeatable on {_TAG_LOCATIONS} | SCHEMA",
            True,
            (((2, 3), f"(name: String!) repeatable on {_TAG_LOCATIONS}"),),
        ),
        FederationDirective("inaccessible", (2, 0), f" on {_TAG_LOCATIONS}"),
        FederationDirective(
            "shareable",
            (2, 0),
            " repeatable on OBJECT | FIELD_DEFINITION",
            older=(((2, 2), " on OBJECT | FIELD_DEFINITION"),),
        ),
        FederationDirective(
            "override",
            (2, 0),
            "(from: String!, label: String) on FIELD_DEFINITION",
            older=(((2, 7), "(from: String!) on FIELD_DEFINITION"),),
        ),
        FederationDirective("composeDirective", (2, 1), "(name: String) repeatable on SCHEMA"),
        FederationDirective("interfaceObject", (2, 3), " on OBJECT"),
        FederationDirective("authenticated", (2, 5), f" on {_AUTH_LOCATIONS}"),
        FederationDirective("requiresScopes", (2, 5), f"(scopes: [[{{Scope}}!]!]!) on {_AUTH_LOCATIONS}"),
        FederationDirective("policy", (2, 6), f"(policies: [[{{Policy}}!]!]!) on {_AUTH_LOCATIONS}"),
        FederationDirective("context", (2, 8), "(name: String!) repeatable on INTERFACE | OBJECT | UNION"),
        FederationDirective("fromContext", (2, 8), "(field: {ContextFieldValue}) on ARGUMENT_DEFINITION"),
        FederationDirective("cost", (2, 9), f"(weight: Int!) on {_COST_LOCATIONS}"),
        FederationDirective("listSize", (2, 9), f"({_LIST_SIZE_ARGS}) on FIELD_DEFINITION"),
        FederationDirective("cacheTag", (2, 12), "(format: String!) repeatable on OBJECT | FIELD_DEFINITION"),
    )
}
GRAPHQL_DIRECTIVES = frozenset({"skip", "include", "deprecated", "specifiedBy", "oneOf", "defer", "stream"})
"""GraphQL's own, which a subgraph may define again without saying anything by it."""
FEDERATION_SCALARS = ("FieldSet", "Scope", "Policy", "ContextFieldValue")
FEDERATION_MACHINERY_TYPES = frozenset({"_Any", "_Service", "_Entity"})
FEDERATION_MACHINERY_FIELDS = frozenset({"_service", "_entities"})


@dataclass(frozen=True, slots=True)
class CoreSpec:
    """A specification whose directives are written into the supergraph under a `@link` of their own."""

    name: str
    version: tuple[int, int]
    directives: tuple[str, ...]
    purpose: str | None = None

    @property
    def identity(self) -> str:
        return f"{SPECS}/{self.name}"

    @property
    def url(self) -> str:
        return f"{self.identity}/v{self.version[0]}.{self.version[1]}"


CORE_SPECS = (
    CoreSpec("tag", (0, 3), ("tag",)),
    CoreSpec("inaccessible", (0, 2), ("inaccessible",), "SECURITY"),
    CoreSpec("authenticated", (0, 1), ("authenticated",), "SECURITY"),
    CoreSpec("requiresScopes", (0, 1), ("requiresScopes",), "SECURITY"),
    CoreSpec("policy", (0, 1), ("policy",), "SECURITY"),
    CoreSpec("context", (0, 1), ("context",), "SECURITY"),
    CoreSpec("cost", (0, 1), ("cost", "listSize")),
)
SPEC_OF_DIRECTIVE = {directive: spec for spec in CORE_SPECS for directive in spec.directives}
SPEC_BY_IDENTITY = {spec.identity: spec for spec in CORE_SPECS}

SUPERGRAPH_DIRECTIVES = {
    "tag": f"(name: String!) repeatable on {_TAG_LOCATIONS} | SCHEMA",
    "inaccessible": f" on {_TAG_LOCATIONS}",
    "authenticated": f" on {_AUTH_LOCATIONS}",
    "requiresScopes": f"(scopes: [[requiresScopes__Scope!]!]!) on {_AUTH_LOCATIONS}",
    "policy": f"(policies: [[policy__Policy!]!]!) on {_AUTH_LOCATIONS}",
    "context": "(name: String!) repeatable on INTERFACE | OBJECT | UNION",
    "cost": f"(weight: Int!) on {_COST_LOCATIONS}",
    "listSize": f"({_LIST_SIZE_ARGS}) on FIELD_DEFINITION",
}
"""How each core directive is defined in a supergraph: what follows its name."""
SUPERGRAPH_SCALARS = {
    "requiresScopes": "requiresScopes__Scope",
    "policy": "policy__Policy",
    "context": "context__ContextFieldValue",
}


_NEEDS_FEDERATION: dict[str, dict[tuple[int, int], tuple[int, int]]] = {
    f"{SPECS}/authenticated": {(0, 1): (2, 5)},
    f"{SPECS}/cost": {(0, 1): (2, 9)},
    f"{SPECS}/cacheTag": {(0, 1): (2, 12)},
    CONNECT: {(0, 1): (2, 10), (0, 2): (2, 11), (0, 3): (2, 12), (0, 4): (2, 13)},
}


def federation_needed(identity: str, version: tuple[int, int]) -> tuple[int, int]:
    """The federation version that first knew the specification, in this version; (0, 0) where none has to."""
    return _NEEDS_FEDERATION.get(identity, {}).get(version, (0, 0))


def join_version(federation: tuple[int, int]) -> tuple[int, int]:
    """The join specification that can say everything the newest federation version among the subgraphs can."""
    if federation >= (2, 8):
        return (0, 5)
    return (0, 4) if federation >= (2, 7) else (0, 3)
