"""The supergraph as SDL, in the join specification: same input, same text.

Source: https://specs.apollo.dev/join/v0.3 to v0.5
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from graphql.language.block_string import is_printable_as_block_string, print_block_string

from router.composition import specs
from router.composition.merge.schema import Supergraph
from router.composition.model import Applied, DirectiveDef, EnumValue, Field, InputValue, TypeDef, TypeKind
from router.composition.sdl_text import sdl_text

_JOIN_FIELD_ARGS = (
    "graph: join__Graph, requires: join__FieldSet, provides: join__FieldSet, type: String, external: Boolean, "
    "override: String, usedOverridden: Boolean"
)
_LINK_DEFINITION = (
    "directive @link(url: String, as: String, for: link__Purpose, import: [link__Import]) repeatable on SCHEMA"
)
_PURPOSES = '''enum link__Purpose {
  """
  `SECURITY` features provide metadata necessary to securely resolve fields.
  """
  SECURITY

  """
  `EXECUTION` features provide metadata necessary for operation execution.
  """
  EXECUTION
}'''


def print_supergraph(supergraph: Supergraph) -> str:
    """The supergraph SDL. Types and directives are sorted by name; members keep the order of the merge."""
    directives = {name: text for text in _directive_definitions(supergraph) for name in [_defined_name(text)]}
    types = {**_machinery_types(supergraph), **{found.name: _type(found) for found in supergraph.types.values()}}
    parts = [
        _schema(supergraph),
        *(directives[name] for name in sorted(directives, key=_alphabetical)),
        *(types[name] for name in sorted(types, key=_alphabetical)),
    ]
    return "\n\n".join(parts) + "\n"


def print_api(types: Iterable[TypeDef], directives: Iterable[DirectiveDef]) -> str:
    """Plain SDL of the types, for the schema that clients see."""
    kept = sorted(types, key=lambda found: _alphabetical(found.name))
    roots = [name for name in ("Query", "Mutation", "Subscription") if any(found.name == name for found in kept)]
    schema = "\n".join(["schema {", *(f"  {name.lower()}: {name}" for name in roots), "}"])
    return "\n\n".join([schema, *(_definition(one) for one in directives), *(_type(found) for found in kept)]) + "\n"


def _alphabetical(name: str) -> tuple[str, str]:
    return (name.lower(), name)


def _defined_name(text: str) -> str:
    """`directive @name(...` gives `name`."""
    rest = text[text.index("directive @") + len("directive @") :]
    return rest.split("(")[0].split()[0]


def _schema(supergraph: Supergraph) -> str:
    major, minor = supergraph.join_version
    links = [
        Applied("link", (("url", sdl_text(specs.LINK_URL)),)),
        Applied("link", (("url", sdl_text(f"{specs.SPECS}/join/v{major}.{minor}")), ("for", "EXECUTION"))),
        *supergraph.composed.links,
    ]
    lines = ["schema", *(f"  {applied}" for applied in (*links, *supergraph.schema_directives)), "{"]
    lines += [f"  {name.lower()}: {name}" for name in ("Query", "Mutation", "Subscription") if name in supergraph.types]
    return "\n".join([*lines, "}"])


def _directive_definitions(supergraph: Supergraph) -> Iterator[str]:
    join_field = _JOIN_FIELD_ARGS
    if supergraph.join_version >= (0, 4):
        join_field += ", overrideLabel: String"
        yield (
            "directive @join__directive(graphs: [join__Graph!], name: String!, args: join__DirectiveArguments) "
            "repeatable on SCHEMA | OBJECT | INTERFACE | FIELD_DEFINITION"
        )
    if supergraph.join_version >= (0, 5):
        join_field += ", contextArguments: [join__ContextArgument!]"
    yield "directive @join__enumValue(graph: join__Graph!) repeatable on ENUM_VALUE"
    yield f"directive @join__field({join_field}) repeatable on FIELD_DEFINITION | INPUT_FIELD_DEFINITION"
    yield "directive @join__graph(name: String!, url: String!) on ENUM_VALUE"
    yield "directive @join__implements(graph: join__Graph!, interface: String!) repeatable on OBJECT | INTERFACE"
    yield (
        "directive @join__type(graph: join__Graph!, key: join__FieldSet, extension: Boolean! = false, "
        "resolvable: Boolean! = true, isInterfaceObject: Boolean! = false) repeatable on "
        "OBJECT | INTERFACE | UNION | ENUM | INPUT_OBJECT | SCALAR"
    )
    yield "directive @join__unionMember(graph: join__Graph!, member: String!) repeatable on UNION"
    yield _LINK_DEFINITION
    for definition in (*supergraph.composed.definitions, *supergraph.executable_directives):
        yield definition if isinstance(definition, str) else _definition(definition)


def _machinery_types(supergraph: Supergraph) -> dict[str, str]:
    graphs = "\n".join(
        f"  {graph.enum} @join__graph(name: {sdl_text(graph.name)}, url: {sdl_text(graph.url)})"
        for graph in supergraph.graphs
    )
    types = {
        "join__Graph": f"enum join__Graph {{\n{graphs}\n}}",
        "link__Purpose": _PURPOSES,
    }
    scalars = ["join__FieldSet", "link__Import", *supergraph.composed.scalars]
    if supergraph.join_version >= (0, 4):
        scalars.append("join__DirectiveArguments")
    if supergraph.join_version >= (0, 5):
        scalars.append("join__FieldValue")
        types["join__ContextArgument"] = (
            "input join__ContextArgument {\n  name: String!\n  type: String!\n  context: String!\n"
            "  selection: join__FieldValue!\n}"
        )
    return {**types, **{scalar: f"scalar {scalar}" for scalar in scalars}}


def _type(found: TypeDef) -> str:
    description = _description(found.description, "")
    match found.kind:
        case TypeKind.SCALAR:
            return f"{description}scalar {found.name}{_stacked(found.directives, '')}"
        case TypeKind.UNION:
            return f"{description}union {found.name}{_stacked(found.directives, '')}\n = {' | '.join(found.members)}"
        case TypeKind.ENUM:
            body = [_enum_value(value) for value in found.values.values()]
        case TypeKind.INPUT:
            body = [_input_field(value) for value in found.inputs.values()]
        case TypeKind.OBJECT | TypeKind.INTERFACE:
            body = [_field(field) for field in found.fields.values()]
    implemented = f" implements {' & '.join(found.interfaces)}" if found.interfaces else ""
    head = f"{description}{found.kind.value} {found.name}{implemented}"
    opening = f"{_stacked(found.directives, '')}\n{{" if found.directives else " {"
    return f"{head}{opening}\n" + "\n".join(body) + "\n}"


def _stacked(directives: Sequence[Applied], indent: str) -> str:
    return "".join(f"\n{indent}  {applied}" for applied in directives)


def _inline(directives: Sequence[Applied]) -> str:
    return "".join(f" {applied}" for applied in directives)


def _field(field: Field) -> str:
    arguments = _arguments(field.args)
    return f"{_description(field.description, '  ')}  {field.name}{arguments}: {field.type}{_inline(field.directives)}"


def _arguments(arguments: Mapping[str, InputValue]) -> str:
    if not arguments:
        return ""
    if any(argument.description for argument in arguments.values()):
        lines = [f"{_description(one.description, '    ')}    {_input(one)}" for one in arguments.values()]
        return "(\n" + "\n".join(lines) + "\n  )"
    return f"({', '.join(_input(argument) for argument in arguments.values())})"


def _input(value: InputValue) -> str:
    default = f" = {value.default}" if value.default is not None else ""
    return f"{value.name}: {value.type}{default}{_inline(value.directives)}"


def _input_field(value: InputValue) -> str:
    return f"{_description(value.description, '  ')}  {_input(value)}"


def _enum_value(value: EnumValue) -> str:
    return f"{_description(value.description, '  ')}  {value.name}{_inline(value.directives)}"


def _definition(definition: DirectiveDef) -> str:
    repeatable = " repeatable" if definition.is_repeatable else ""
    return (
        f"{_description(definition.description, '')}directive @{definition.name}{_arguments(definition.args)}"
        f"{repeatable} on {' | '.join(definition.locations)}"
    )


def _description(text: str | None, indent: str) -> str:
    if text is None:
        return ""
    if not is_printable_as_block_string(text):
        return f"{indent}{sdl_text(text)}\n"
    return "".join(f"{indent}{line}\n" if line else "\n" for line in print_block_string(text).split("\n"))
