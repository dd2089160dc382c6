"""Whether hiding what is `@inaccessible` leaves a valid API. Source: https://specs.apollo.dev/inaccessible/v0.2"""

from collections.abc import Iterator, Mapping

from graphql import EnumValueNode, ListValueNode, ObjectValueNode, ValueNode, parse_const_value

from router.composition.errors import CompositionError
from router.composition.model import Applied, Field, InputValue, TypeDef, TypeKind
from router.composition.type_refs import named


def check_inaccessible(types: Mapping[str, TypeDef], hidden: str) -> Iterator[CompositionError]:
    """An error for each visible element that needs a hidden one.

    Args:
        hidden: the name of `@inaccessible` in these types.
    """
    check = _Check(types, hidden)
    for found in types.values():
        if check.is_hidden(found.directives):
            if found.name == "Query":
                yield _error(
                    "QUERY_ROOT_TYPE_INACCESSIBLE",
                    'Type "Query" is @inaccessible but is the root query type, which must be in the API schema.',
                )
            continue
        yield from check.children(found)
        for field in found.fields.values():
            yield from check.field(found, field)
        for value in found.inputs.values():
            yield from check.input(f"{found.name}.{value.name}", value, what="Input field", of="type")


class _Check:
    def __init__(self, types: Mapping[str, TypeDef], hidden: str) -> None:
        self._types = types
        self._hidden = hidden

    def is_hidden(self, directives: tuple[Applied, ...]) -> bool:
        return any(applied.name == self._hidden for applied in directives)

    def _is_hidden_type(self, name: str) -> bool:
        found = self._types.get(name)
        return found is not None and self.is_hidden(found.directives)

    def children(self, found: TypeDef) -> Iterator[CompositionError]:
        match found.kind:
            case TypeKind.UNION:
                what, hidden = "members", [self._is_hidden_type(member) for member in found.members]
            case TypeKind.ENUM:
                what, hidden = "values", [self.is_hidden(value.directives) for value in found.values.values()]
            case TypeKind.INPUT:
                what, hidden = "fields", [self.is_hidden(value.directives) for value in found.inputs.values()]
            case TypeKind.OBJECT | TypeKind.INTERFACE:
                what, hidden = "fields", [self.is_hidden(field.directives) for field in found.fields.values()]
            case TypeKind.SCALAR:
                return
        if hidden and all(hidden):
            yield _error(
                "ONLY_INACCESSIBLE_CHILDREN",
                f'Type "{found.name}" is in the API schema but all of its {what} are @inaccessible.',
            )

    def field(self, parent: TypeDef, field: Field) -> Iterator[CompositionError]:
        coordinate = f"{parent.name}.{field.name}"
        interfaces = [
            self._types[name].fields[field.name]
            for name in parent.interfaces
            if name in self._types
            and not self._is_hidden_type(name)
            and field.name in self._types[name].fields
            and not self.is_hidden(self._types[name].fields[field.name].directives)
        ]
        if self.is_hidden(field.directives):
            if interfaces:
                yield _error(
                    "IMPLEMENTED_BY_INACCESSIBLE",
                    f'Field "{coordinate}" is @inaccessible but implements an interface field which is in the API '
                    "schema.",
                )
            return
        if self._is_hidden_type(named(field.type)):
            yield self._referenced(named(field.type), coordinate)
        for argument in field.args.values():
            at = f"{coordinate}({argument.name}:)"
            if self.is_hidden(argument.directives) and any(
                argument.name in one.args and not self.is_hidden(one.args[argument.name].directives)
                for one in interfaces
            ):
                yield _error(
                    "IMPLEMENTED_BY_INACCESSIBLE",
                    f'Argument "{at}" is @inaccessible but implements an interface argument which is in the API schema.',
                )
            yield from self.input(at, argument, what="Argument", of="field")

    def input(self, at: str, value: InputValue, *, what: str, of: str) -> Iterator[CompositionError]:
        if self.is_hidden(value.directives):
            if value.is_required:
                yield _error(
                    "REQUIRED_INACCESSIBLE",
                    f'{what} "{at}" is @inaccessible but is a required {what.lower()} of its {of}.',
                )
            return
        if self._is_hidden_type(named(value.type)):
            yield self._referenced(named(value.type), at)
        if value.default is not None:
            for used in self._hidden_in_default(parse_const_value(value.default), named(value.type)):
                yield _error(
                    "DEFAULT_VALUE_USES_INACCESSIBLE",
                    f'"{used}" is @inaccessible but is used in the default value of "{at}", which is in the API schema.',
                )

    def _hidden_in_default(self, value: ValueNode, type_name: str) -> Iterator[str]:
        found = self._types.get(type_name)
        if found is None:
            return
        if isinstance(value, ListValueNode):
            for item in value.values:
                yield from self._hidden_in_default(item, type_name)
        elif isinstance(value, EnumValueNode) and found.kind is TypeKind.ENUM:
            enum_value = found.values.get(value.value)
            if enum_value is not None and self.is_hidden(enum_value.directives):
                yield f"{type_name}.{value.value}"
        elif isinstance(value, ObjectValueNode):
            for given in value.fields:
                field = found.inputs.get(given.name.value)
                if field is None:
                    continue
                if self.is_hidden(field.directives):
                    yield f"{type_name}.{field.name}"
                yield from self._hidden_in_default(given.value, named(field.type))

    def _referenced(self, hidden: str, by: str) -> CompositionError:
        return _error(
            "REFERENCED_INACCESSIBLE",
            f'Type "{hidden}" is @inaccessible but is referenced by "{by}", which is in the API schema.',
        )


def _error(code: str, message: str) -> CompositionError:
    return CompositionError(code, message)
