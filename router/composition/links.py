"""`@link`: which specifications a schema uses, and under which names.

Source: https://specs.apollo.dev/link/v1.0
"""

import re
from collections.abc import Iterator, Sequence

from graphql import DirectiveNode
from graphql.utilities import value_from_ast_untyped

from router.composition import specs
from router.composition.errors import CompositionError, CompositionFailed, SourceLocation
from router.composition.model import Feature

_URL = re.compile(r"^(?P<identity>.+/(?P<name>[^/]+))/v(?P<major>\d+)\.(?P<minor>\d+)/?$")
_NAME = re.compile(r"^[_A-Za-z][_0-9A-Za-z]*$")


def read_links(applied: Sequence[DirectiveNode], subgraph: str) -> tuple[str, tuple[Feature, ...]]:
    """The name that `@link` itself goes by in this schema, and every feature linked to.

    Raises:
        CompositionFailed: a link has no url, a malformed import, or an unknown federation version.
    """
    link_name = _own_name(applied)
    errors: list[CompositionError] = []
    features: list[Feature] = []
    for node in applied:
        if node.name.value != link_name:
            continue
        try:
            feature = _feature(node, subgraph)
        except CompositionFailed as failure:
            errors.extend(failure.errors)
            continue
        if feature is None:
            continue
        if any(feature.identity == other.identity for other in features):
            errors.append(
                _error("INVALID_LINK_DIRECTIVE_USAGE", f"duplicate @link to {feature.identity}", node, subgraph)
            )
            continue
        clash = _clash(feature, features)
        if clash:
            errors.append(_error("INVALID_LINK_DIRECTIVE_USAGE", clash, node, subgraph))
            continue
        features.append(feature)
    if errors:
        raise CompositionFailed(errors)
    return link_name, tuple(features)


def _clash(feature: Feature, others: Sequence[Feature]) -> str | None:
    """Why the feature's names cannot stand beside those of the others, None where they can."""
    same = next((other for other in others if other.namespace == feature.namespace), None)
    if same is not None:
        return f'cannot link {feature.identity} as "{feature.namespace}", which already names {same.identity}: rename it by "as"'
    taken = {alias: (other.identity, name) for other in others for name, alias in other.imports.items()}
    for name, alias in feature.imports.items():
        if alias in taken:
            identity, element = taken[alias]
            return f'cannot import "{name}" of {feature.identity} as "{alias}", which already names "{element}" of {identity}'
        taken[alias] = (feature.identity, name)
    return None


def _own_name(applied: Sequence[DirectiveNode]) -> str:
    """`@link` may rename itself, by a link to its own specification."""
    for node in applied:
        args = {arg.name.value: value_from_ast_untyped(arg.value) for arg in node.arguments or ()}
        url = args.get("url")
        if isinstance(url, str) and url.startswith(specs.LINK + "/"):
            alias = args.get("as")
            return alias if isinstance(alias, str) else "link"
    return "link"


def _feature(node: DirectiveNode, subgraph: str) -> Feature | None:
    args = {arg.name.value: value_from_ast_untyped(arg.value) for arg in node.arguments or ()}
    url = args.get("url")
    match = _URL.match(url) if isinstance(url, str) else None
    if match is None or not isinstance(url, str):
        if isinstance(url, str) and url.startswith((f"{specs.FEDERATION}/v", f"{specs.LINK}/v")):
            version_text = url.rpartition("/")[2]
            raise _failed(
                "INVALID_LINK_IDENTIFIER",
                f"expected a version string (of the form v1.2), got {version_text}",
                node,
                subgraph,
            )
        # A link to something that is not a specification says nothing to composition.
        return None
    version = (int(match["major"]), int(match["minor"]))
    alias = args.get("as")
    namespace = alias if isinstance(alias, str) else match["name"]
    if alias is None and not _NAME.match(namespace):
        return None  # no name of its elements could be written
    if not _NAME.match(namespace) or "__" in namespace:
        raise _failed(
            "INVALID_LINK_DIRECTIVE_USAGE", f'"{namespace}" cannot be the namespace of a @link', node, subgraph
        )
    identity = match["identity"]
    imports = dict(_imports(args.get("import"), node, subgraph))
    if identity == specs.FEDERATION:
        _check_federation(version, imports, node, subgraph)
    elif identity == specs.LINK and version != (1, 0):
        raise _failed("UNKNOWN_LINK_VERSION", f'"{url}" is not a known version of @link', node, subgraph)
    purpose = args.get("for")
    if purpose is not None and purpose not in specs.LINK_PURPOSES:
        raise _failed("INVALID_GRAPHQL", f'invalid value for "@link(for:)": {purpose}', node, subgraph)
    return Feature(
        identity=identity,
        name=match["name"],
        version=version,
        url=url,
        namespace=namespace,
        imports=imports,
        purpose=purpose if isinstance(purpose, str) else None,
        at=location(node, subgraph),
    )


def _imports(value: object, node: DirectiveNode, subgraph: str) -> Iterator[tuple[str, str]]:
    if value is None:
        return
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            name, alias = item.get("name"), item.get("as", item.get("name"))
        else:
            name = alias = item
        if not isinstance(name, str) or not isinstance(alias, str):
            raise _failed(
                "INVALID_LINK_DIRECTIVE_USAGE",
                "each item of a @link's import is a name, or an object {name: ..., as: ...}",
                node,
                subgraph,
            )
        if name.startswith("@") != alias.startswith("@"):
            raise _failed(
                "INVALID_LINK_DIRECTIVE_USAGE",
                f'"{name}" cannot be imported as "{alias}": both or neither must name a directive',
                node,
                subgraph,
            )
        yield name, alias


def _check_federation(version: tuple[int, int], imports: dict[str, str], node: DirectiveNode, subgraph: str) -> None:
    if not (2, 0) <= version <= specs.LATEST_FEDERATION:
        raise _failed(
            "UNKNOWN_FEDERATION_LINK_VERSION",
            f"federation v{version[0]}.{version[1]} is not known; the latest is v2.{specs.LATEST_FEDERATION[1]}",
            node,
            subgraph,
        )
    for name in imports:
        directive = specs.FEDERATION_DIRECTIVES.get(name[1:]) if name.startswith("@") else None
        if not name.startswith("@") and name in specs.FEDERATION_SCALARS:
            continue
        if directive is None or directive.since > version:
            raise _failed(
                "INVALID_LINK_DIRECTIVE_USAGE",
                f'cannot import unknown element "{name}" from federation v{version[0]}.{version[1]}',
                node,
                subgraph,
            )


def location(node: object, subgraph: str) -> SourceLocation | None:
    """Where an AST node stands in its subgraph."""
    loc = getattr(node, "loc", None)
    if loc is None:
        return None
    return SourceLocation(subgraph, loc.start_token.line, loc.start_token.column)


def _error(code: str, message: str, node: DirectiveNode, subgraph: str) -> CompositionError:
    at = location(node, subgraph)
    return CompositionError(code, f"[{subgraph}] {message}", (subgraph,), (at,) if at else ())


def _failed(code: str, message: str, node: DirectiveNode, subgraph: str) -> CompositionFailed:
    return CompositionFailed([_error(code, message, node, subgraph)])
