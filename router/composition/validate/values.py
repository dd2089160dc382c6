"""Whether values written in SDL fit the types of the arguments that they are for."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from graphql import (
    BooleanValueNode,
    DirectiveDefinitionNode,
    EnumValueNode,
    FloatValueNode,
    IntValueNode,
    ListValueNode,
    NullValueNode,
    ObjectValueNode,
    StringValueNode,
    ValueNode,
    VariableNode,
    parse,
    parse_value,
    print_ast,
)

from router.composition import specs
from router.composition.model import Applied, Field, FieldId, InputValue, TypeDef, TypeKind
from router.composition.type_refs import element, is_list, is_non_null, nullable
from router.composition.validate.report import Report

_LITERALS: Mapping[str, tuple[type[ValueNode], ...]] = {
    "Int": (IntValueNode,),
    "Float": (IntValueNode, FloatValueNode),
    "String": (StringValueNode,),
    "Boolean": (BooleanValueNode,),
    "ID": (StringValueNode, IntValueNode),
}
# What is wrong with these has a code of its own.
_CHECKED_ELSEWHERE = frozenset({"key", "requires", "provides", "link", "fromContext"})


def check_values(report: Report) -> None:
    """Report arguments of directives whose value does not fit the directive's definition."""
    definitions = {
        **_known_arguments(),
        **{
            name: {key: argument.type for key, argument in definition.args.items()}
            for name, definition in report.schema.directives.items()
        },
    }
    for where, directives in _applications(report.schema.types.values()):
        for applied in directives:
            if not applied.args or (applied.name in _CHECKED_ELSEWHERE and applied.text("resolvable") is None):
                continue
            types = definitions.get(applied.name, {})
            for name, text in applied.args:
                ref = types.get(name)
                if ref is None or (ref[:6] == "String" and text[0] == '"'):
                    continue
                if name in ("fields", "field") and applied.name in _CHECKED_ELSEWHERE:
                    continue
                if not fits(_literal(text), ref, report.schema.types):
                    report.error(
                        "INVALID_GRAPHQL",
                        f'Invalid value for "@{applied.name}({name}:)" of type "{ref}" in application of '
                        f'"@{applied.name}" to "{where}".',
                        applied.at,
                    )


def argument_error(
    types: Mapping[str, TypeDef], coordinate: FieldId, field: Field, given: Sequence[tuple[str, str]]
) -> str | None:
    """What is wrong with the arguments that a field set gives a field, None where nothing is."""
    values = dict(given)
    for name, text in given:
        argument = field.args.get(name)
        if argument is None:
            return f'Unknown argument "{name}": "{coordinate}" has no argument named "{name}"'
        if not fits(_literal(text), argument.type, types):
            return f'Invalid value {text} for argument "{coordinate}({name}:)" of type {argument.type}'
    missing = next((one.name for one in field.args.values() if one.is_required and one.name not in values), None)
    return f'Missing mandatory value for argument "{missing}" of field "{coordinate}"' if missing else None


def fits(node: ValueNode, ref: str, types: Mapping[str, TypeDef]) -> bool:
    """Whether the literal is one of the type; any literal is one of a custom scalar."""
    if isinstance(node, VariableNode):
        return False
    if isinstance(node, NullValueNode):
        return not is_non_null(ref)
    ref = nullable(ref)
    if is_list(ref):
        items = node.values if isinstance(node, ListValueNode) else (node,)
        return all(fits(item, element(ref), types) for item in items)
    literals = _LITERALS.get(ref)
    if literals is not None:
        return isinstance(node, literals)
    found = types.get(ref)
    if found is None or found.kind not in (TypeKind.ENUM, TypeKind.INPUT):
        return True
    if found.kind is TypeKind.ENUM:
        return isinstance(node, EnumValueNode) and node.value in found.values
    return isinstance(node, ObjectValueNode) and all(
        given.name.value in found.inputs and fits(given.value, found.inputs[given.name.value].type, types)
        for given in node.fields
    )


@lru_cache(maxsize=4_096)
def _literal(text: str) -> ValueNode:
    return parse_value(text, no_location=True)


@lru_cache(maxsize=1)
def _known_arguments() -> Mapping[str, Mapping[str, str]]:
    """For each directive of the federation specification, the types of its arguments; its scalars take any literal."""
    scalars = {name: name for name in specs.FEDERATION_SCALARS}
    sdl = "\n".join(
        f"directive @{name}{known.definition.format_map(scalars)}"
        for name, known in specs.FEDERATION_DIRECTIVES.items()
    )
    return {
        node.name.value: {argument.name.value: print_ast(argument.type) for argument in node.arguments or ()}
        for node in parse(sdl, no_location=True).definitions
        if isinstance(node, DirectiveDefinitionNode)
    }


def _applications(types: Iterable[TypeDef]) -> Iterator[tuple[str, tuple[Applied, ...]]]:
    for found in types:
        if found.directives:
            yield found.name, found.directives
        for field in found.fields.values():
            if field.directives:
                yield f"{found.name}.{field.name}", field.directives
            yield from _of_inputs(f"{found.name}.{field.name}", field.args)
        yield from _of_inputs(found.name, found.inputs)
        for value in found.values.values():
            if value.directives:
                yield f"{found.name}.{value.name}", value.directives


def _of_inputs(where: str, values: Mapping[str, InputValue]) -> Iterator[tuple[str, tuple[Applied, ...]]]:
    for value in values.values():
        if value.directives:
            yield f"{where}.{value.name}", value.directives
