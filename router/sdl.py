"""Reads SDL several times as fast as graphql-core's parser, into the same nodes.

Supergraphs and the subgraphs of a composition are long documents of few shapes: half a million tokens, most of them
names seen before. One regular expression cuts the text into tokens, names and type references become nodes once for each
distinct text, and nodes get their attributes at a stroke. Whatever is not plain SDL (an error above all, but also an
operation or an escape in a string) is left to graphql-core, so that what is accepted, and every message, is its own.

Source: https://spec.graphql.org/October2021/#sec-Document-Syntax
"""

import re
from bisect import bisect_right
from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

from graphql import DirectiveLocation, DocumentNode, Source, parse
from graphql.language import ast
from graphql.language.block_string import dedent_block_string_lines

T = TypeVar("T")

EXECUTABLE_LOCATIONS = frozenset(
    {
        "QUERY",
        "MUTATION",
        "SUBSCRIPTION",
        "FIELD",
        "FRAGMENT_DEFINITION",
        "FRAGMENT_SPREAD",
        "INLINE_FRAGMENT",
        "VARIABLE_DEFINITION",
    }
)
"""Where a directive may stand in an operation. A directive for nothing else is none of the clients' business."""

_IGNORED = r"(?:[\s,\ufeff]|#[^\n\r]*)*"
_NAME = r"[A-Za-z_][A-Za-z_0-9]*"
_STRING = r'"(?!"")[^"\\\n\r]*"'
# A directive is one token with its arguments, as the same ones stand at many fields. The definition of one starts alike.
_DIRECTIVE = rf'directive[ \t]+@{_NAME}|@{_NAME}(?:\((?:[^()"#]++|{_STRING})*+\))?'
_TOKENS = re.compile(
    _IGNORED
    + rf'(?:({_DIRECTIVE}|{_NAME}|[{{}}()\[\]:=!|&@]|"""(?:[^"\\]|"(?!""))*"""|{_STRING}'
    + r"|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![A-Za-z_0-9.])|(?s:.+))|$)"
)
_LINE_END = re.compile(r"\r\n|[\n\r]")
# Nothing is left: what is no token takes the rest of the text with it, so that nothing can end as it should.
_END = ""
_AFTER_NAME = frozenset({"]", "!"})
_NOT_ENUM_VALUES = frozenset({"true", "false", "null"})
_LOCATIONS = frozenset(place.name for place in DirectiveLocation)
_EXTENSIONS: dict[type[ast.Node], type[ast.Node]] = {
    ast.ScalarTypeDefinitionNode: ast.ScalarTypeExtensionNode,
    ast.ObjectTypeDefinitionNode: ast.ObjectTypeExtensionNode,
    ast.InterfaceTypeDefinitionNode: ast.InterfaceTypeExtensionNode,
    ast.UnionTypeDefinitionNode: ast.UnionTypeExtensionNode,
    ast.EnumTypeDefinitionNode: ast.EnumTypeExtensionNode,
    ast.InputObjectTypeDefinitionNode: ast.InputObjectTypeExtensionNode,
}


def parse_sdl(sdl: str, *, no_location: bool = False) -> DocumentNode:
    """The document, as `graphql.parse` gives it; only definitions, members and directives have a place in the text.

    Raises:
        GraphQLSyntaxError: the text is no GraphQL document.
    """
    try:
        return _Parser(sdl, with_places=not no_location).document()
    except (_Unusual, IndexError, ValueError):  # the latter two where the text ends too soon
        return parse(sdl, no_location=no_location)


class _Unusual(Exception):
    """Something that this parser leaves to graphql-core's."""


class _Text:
    """The text of a document, and where its tokens are; found out when first asked for."""

    def __init__(self, sdl: str) -> None:
        self.source = Source(sdl)

    @cached_property
    def starts(self) -> list[int]:
        return [match.start(1) for match in _TOKENS.finditer(self.source.body)]

    @cached_property
    def lines(self) -> list[int]:
        return [0, *(match.end() for match in _LINE_END.finditer(self.source.body))]


class _Place:
    """What a node's `loc` has to offer: where it starts."""

    __slots__ = ("_index", "_text")

    def __init__(self, text: _Text, index: int) -> None:
        self._text = text
        self._index = index

    @property
    def source(self) -> Source:
        return self._text.source

    @property
    def start(self) -> int:
        return self._text.starts[self._index]

    @property
    def start_token(self) -> "_Place":
        return self

    @property
    def line(self) -> int:
        return bisect_right(self._text.lines, self.start)

    @property
    def column(self) -> int:
        return self.start - self._text.lines[self.line - 1] + 1


def _is_name(word: str) -> bool:
    return word.isidentifier() and word.isascii()


_new = object.__new__
_set = object.__setattr__


def _node(kind: type[T], attributes: dict[str, object]) -> T:
    """A node with the attributes: frozen dataclasses would set each of them by a call of its own."""
    node = _new(kind)
    _set(node, "__dict__", attributes)
    return node


def _read_string(word: str) -> ast.StringValueNode:
    if len(word) < 2:
        raise _Unusual
    is_block = word[:3] == '"""'
    value = word[3:-3] if is_block else word[1:-1]
    if is_block and (_LINE_END.search(value) or not value.strip(" \t")):
        value = "\n".join(dedent_block_string_lines(_LINE_END.split(value)))
    return _node(ast.StringValueNode, {"loc": None, "value": value, "block": is_block})


class _Parser:
    def __init__(self, sdl: str, *, with_places: bool) -> None:
        self._tokens: list[str] = _TOKENS.findall(sdl)
        self._text = _Text(sdl) if with_places else None
        self._at = 0
        self._names: dict[str, ast.NameNode] = {}
        self._types: dict[str, ast.TypeNode] = {}
        self._directive_arguments: dict[str, tuple[ast.ArgumentNode, ...]] = {}
        self._strings: dict[str, ast.StringValueNode] = {}
        self._applied: dict[str, ast.DirectiveNode] = {}
        self._field_arguments: dict[tuple[str, ...], tuple[ast.InputValueDefinitionNode, ...]] = {}

    def document(self) -> DocumentNode:
        end = self._tokens.index(_END)
        if not end:
            raise _Unusual
        definitions = []
        while self._at < end:
            definitions.append(self._definition())
        return _node(DocumentNode, {"loc": None, "definitions": tuple(definitions), "token_count": end})

    # -- definitions -----------------------------------------------------------------------------------------------

    def _definition(self) -> ast.DefinitionNode:
        place = self._place()
        description = self._description()
        keyword = self._next()
        if keyword == "extend":
            if description is not None:
                raise _Unusual
            keyword = self._next()
            if keyword == "schema":
                return self._schema(ast.SchemaExtensionNode, {"loc": place})  # type: ignore[arg-type]  # one too
            attributes: dict[str, object] = {"loc": place, "name": None}
            return self._type(_EXTENSIONS, keyword, attributes)
        if keyword == "schema":
            return self._schema(ast.SchemaDefinitionNode, {"loc": place, "description": description})
        if keyword.startswith("directive"):
            return self._directive_definition(self._named_after(keyword, "directive"), place, description)
        return self._type(None, keyword, {"loc": place, "name": None, "description": description})

    def _schema(self, kind: type[ast.DefinitionNode], attributes: dict[str, object]) -> ast.DefinitionNode:
        attributes["directives"] = self._directives()
        operations = self._block("{", "}", self._operation_type)
        if operations is None and (kind is ast.SchemaDefinitionNode or attributes["directives"] is None):
            raise _Unusual
        attributes["operation_types"] = operations
        return _node(kind, attributes)

    def _operation_type(self) -> ast.OperationTypeDefinitionNode:
        place = self._place()
        operation = self._next()
        if operation not in ("query", "mutation", "subscription"):
            raise _Unusual
        self._expect(":")
        return _node(
            ast.OperationTypeDefinitionNode,
            {"loc": place, "operation": ast.OperationType(operation), "type": self._named_type()},
        )

    def _directive_definition(
        self, name: ast.NameNode, place: _Place | None, description: ast.StringValueNode | None
    ) -> ast.DirectiveDefinitionNode:
        arguments = self._block("(", ")", self._input_value)
        is_repeatable = self._skip("repeatable")
        self._expect("on")
        self._skip("|")
        locations = [self._name()]
        while self._skip("|"):
            locations.append(self._name())
        if not all(location.value in _LOCATIONS for location in locations):
            raise _Unusual
        return _node(
            ast.DirectiveDefinitionNode,
            {
                "loc": place,
                "name": name,
                "locations": tuple(locations),
                "description": description,
                "arguments": arguments,
                "directives": None,
                "repeatable": is_repeatable,
            },
        )

    def _type(
        self, extensions: dict[type[ast.Node], type[ast.Node]] | None, keyword: str, attributes: dict[str, object]
    ) -> ast.DefinitionNode:
        attributes["name"] = self._name()
        kind: type[ast.DefinitionNode]
        interfaces = self._interfaces() if keyword in ("type", "interface") else None
        attributes["directives"] = self._directives()
        if keyword in ("type", "interface"):
            kind = ast.ObjectTypeDefinitionNode if keyword == "type" else ast.InterfaceTypeDefinitionNode
            attributes["interfaces"] = interfaces
            attributes["fields"] = self._block("{", "}", self._field)
        elif keyword == "input":
            kind = ast.InputObjectTypeDefinitionNode
            attributes["fields"] = self._block("{", "}", self._input_value)
        elif keyword == "enum":
            kind = ast.EnumTypeDefinitionNode
            attributes["values"] = self._block("{", "}", self._enum_value)
        elif keyword == "union":
            kind = ast.UnionTypeDefinitionNode
            attributes["types"] = self._members()
        elif keyword == "scalar":
            kind = ast.ScalarTypeDefinitionNode
        else:
            raise _Unusual
        if extensions is None:
            return _node(kind, attributes)
        if not any(attributes.get(key) for key in ("directives", "interfaces", "fields", "values", "types")):
            raise _Unusual
        return _node(extensions[kind], attributes)  # type: ignore[return-value]  # extensions are definitions too

    def _interfaces(self) -> tuple[ast.NamedTypeNode, ...] | None:
        if not self._skip("implements"):
            return None
        self._skip("&")
        found = [self._named_type()]
        while self._skip("&"):
            found.append(self._named_type())
        return tuple(found)

    def _members(self) -> tuple[ast.NamedTypeNode, ...] | None:
        if not self._skip("="):
            return None
        self._skip("|")
        found = [self._named_type()]
        while self._skip("|"):
            found.append(self._named_type())
        return tuple(found)

    def _field(self) -> ast.FieldDefinitionNode:
        place = self._place()
        description = self._description()
        name = self._name()
        arguments = self._arguments()
        self._expect(":")
        return _node(
            ast.FieldDefinitionNode,
            {
                "loc": place,
                "name": name,
                "type": self._type_reference(),
                "description": description,
                "arguments": arguments,
                "directives": self._directives(),
            },
        )

    def _input_value(self) -> ast.InputValueDefinitionNode:
        place = self._place()
        description = self._description()
        name = self._name()
        self._expect(":")
        return _node(
            ast.InputValueDefinitionNode,
            {
                "loc": place,
                "name": name,
                "type": self._type_reference(),
                "description": description,
                "default_value": self._value() if self._skip("=") else None,
                "directives": self._directives(),
            },
        )

    def _enum_value(self) -> ast.EnumValueDefinitionNode:
        place = self._place()
        description = self._description()
        name = self._name()
        if name.value in _NOT_ENUM_VALUES:
            raise _Unusual
        return _node(
            ast.EnumValueDefinitionNode,
            {"loc": place, "name": name, "description": description, "directives": self._directives()},
        )

    # -- parts -----------------------------------------------------------------------------------------------------

    def _arguments(self) -> tuple[ast.InputValueDefinitionNode, ...] | None:
        """A field's arguments, one tuple of nodes for each distinct text where nodes have no places."""
        start = self._at
        if self._tokens[start] != "(":
            return None
        if self._text is not None:
            return self._block("(", ")", self._input_value)
        end = self._tokens.index(")", start) + 1
        words = tuple(self._tokens[start:end])
        known = self._field_arguments.get(words)
        if known is not None:
            self._at = end
            return known
        arguments = self._block("(", ")", self._input_value)
        if arguments is not None and self._at == end:
            self._field_arguments[words] = arguments
        return arguments

    def _directives(self) -> tuple[ast.DirectiveNode, ...] | None:
        word = self._tokens[self._at]
        if word[:1] != "@":
            return None
        found = []
        while word[:1] == "@":
            found.append(self._applied.get(word) or self._directive(word))
            self._at += 1
            word = self._tokens[self._at]
        return tuple(found)

    def _directive(self, word: str) -> ast.DirectiveNode:
        """The directive of one token, which more arguments must not follow, as it holds those that it has."""
        if self._tokens[self._at + 1] == "(":
            raise _Unusual
        named, opening, rest = word.partition("(")
        arguments = self._directive_arguments.get(word) if opening else None
        if opening and arguments is None:
            arguments = _Parser(opening + rest, with_places=False).directive_arguments()
            self._directive_arguments[word] = arguments
        name = self._named_after(named, "")
        node = _node(ast.DirectiveNode, {"loc": self._place(), "name": name, "arguments": arguments})
        if self._text is None:
            self._applied[word] = node
        return node

    def _named_after(self, word: str, before: str) -> ast.NameNode:
        """The name of a token such as `@tag`."""
        start, at, name = word.partition("@")
        if start.rstrip() != before or not at:
            raise _Unusual
        return self._name_node(name)

    def directive_arguments(self) -> tuple[ast.ArgumentNode, ...]:
        """Of a text that is nothing but those."""
        arguments = self._block("(", ")", self._argument)
        if arguments is None or self._tokens[self._at] != _END:
            raise _Unusual
        return arguments

    def _argument(self) -> ast.ArgumentNode:
        name = self._name()
        self._expect(":")
        return _node(ast.ArgumentNode, {"loc": None, "name": name, "value": self._value()})

    def _value(self) -> ast.ValueNode:
        word = self._next()
        first = word[0]
        if first == '"':
            return self._string(word)
        if first == "[":
            values = []
            while not self._skip("]"):
                values.append(self._value())
            return _node(ast.ListValueNode, {"loc": None, "values": tuple(values)})
        if first == "{":
            fields = []
            while not self._skip("}"):
                name = self._name()
                self._expect(":")
                fields.append(_node(ast.ObjectFieldNode, {"loc": None, "name": name, "value": self._value()}))
            return _node(ast.ObjectValueNode, {"loc": None, "fields": tuple(fields)})
        if first == "-" or first.isdigit():
            is_int = word.lstrip("-").isdigit()
            return _node(ast.IntValueNode if is_int else ast.FloatValueNode, {"loc": None, "value": word})
        if not _is_name(word):
            raise _Unusual
        if word == "null":
            return _node(ast.NullValueNode, {"loc": None})
        if word in _NOT_ENUM_VALUES:
            return _node(ast.BooleanValueNode, {"loc": None, "value": word == "true"})
        return _node(ast.EnumValueNode, {"loc": None, "value": word})

    def _description(self) -> ast.StringValueNode | None:
        word = self._tokens[self._at]
        if word[:1] != '"':  # also where the text ends
            return None
        self._at += 1
        return self._string(word)

    def _string(self, word: str) -> ast.StringValueNode:
        known = self._strings.get(word)
        if known is None:
            known = self._strings[word] = _read_string(word)
        return known

    def _type_reference(self) -> ast.TypeNode:
        tokens = self._tokens
        start = at = self._at
        while tokens[at] == "[":
            at += 1
        at += 1  # the name, or what stands in its place
        while tokens[at] in _AFTER_NAME:
            at += 1
        self._at = at
        text = "".join(tokens[start:at])
        known = self._types.get(text)
        if known is None:
            known = self._types[text] = self._read_type(text)
        return known

    def _read_type(self, text: str) -> ast.TypeNode:
        if text.endswith("!"):
            inner = self._read_type(text[:-1])
            if isinstance(inner, ast.NonNullTypeNode):
                raise _Unusual
            return _node(ast.NonNullTypeNode, {"loc": None, "type": inner})
        if text.startswith("[") and text.endswith("]"):
            return _node(ast.ListTypeNode, {"loc": None, "type": self._read_type(text[1:-1])})
        if not _is_name(text):
            raise _Unusual
        return self._named(text)

    def _named_type(self) -> ast.NamedTypeNode:
        return self._named(self._name().value)

    def _named(self, name: str) -> ast.NamedTypeNode:
        known = self._types.get(name)
        if known is None:
            known = self._types[name] = _node(ast.NamedTypeNode, {"loc": None, "name": self._name_node(name)})
        assert isinstance(known, ast.NamedTypeNode)  # noqa: S101  a name is no list
        return known

    def _name(self) -> ast.NameNode:
        return self._name_node(self._next())

    def _name_node(self, word: str) -> ast.NameNode:
        known = self._names.get(word)
        if known is None:
            if not _is_name(word):
                raise _Unusual
            known = self._names[word] = _node(ast.NameNode, {"loc": None, "value": word})
        return known

    # -- tokens ----------------------------------------------------------------------------------------------------

    def _block(self, opening: str, closing: str, part: Callable[[], T]) -> tuple[T, ...] | None:
        """One or more parts between brackets, None where there is no opening one."""
        tokens = self._tokens
        if tokens[self._at] != opening:
            return None
        self._at += 1
        parts = [part()]
        while tokens[self._at] != closing:
            parts.append(part())
        self._at += 1
        return tuple(parts)

    def _next(self) -> str:
        word = self._tokens[self._at]
        if word == _END:
            raise _Unusual
        self._at += 1
        return word

    def _skip(self, word: str) -> bool:
        if self._tokens[self._at] != word:
            return False
        self._at += 1
        return True

    def _expect(self, word: str) -> None:
        if self._tokens[self._at] != word:
            raise _Unusual
        self._at += 1

    def _place(self) -> _Place | None:
        return None if self._text is None else _Place(self._text, self._at)
