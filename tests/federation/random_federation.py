"""Random federations of subgraphs that share types in every way, from a seed, and random operations over them.

What `random_graph` does not make: sibling type conditions above one type with response keys that mean different things,
several requirements into one object, interface objects with requirements, interfaces with keys, entities that are null or
fail where others need them, lists of lists, defaults of arguments and inputs, and whole subgraphs that fail.
"""

import random
from collections.abc import Iterator, Mapping
from typing import Any

from graphql import (
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    OverlappingFieldsCanBeMergedRule,
    get_named_type,
    is_leaf_type,
    parse,
    validate,
)

from router.composition import Subgraph, compose
from tests.federation.graph import Computed, Federation, Universe

_LINK = """extend schema @link(url: "https://specs.apollo.dev/federation/v2.3",
  import: ["@key", "@requires", "@external", "@shareable", "@interfaceObject", "@provides"])"""
_LEAVES = ("Int", "String", "Int!", "String!", "[Int]", "[[Int!]]")


class Failure(Exception):
    """What a field of the universe fails with."""


def _fails(_of: Mapping[str, Any], _arguments: Mapping[str, Any]) -> Any:
    raise Failure("this field fails")


class RandomFederation:
    """A federation of three subgraphs.

    Subgraph `a` has the roots, a union and an interface with a key over object types that lead to entities; `b` and `c` add
    fields to the entities, some of which require others.

    Args:
        faults: how often a value is null or fails.
        lost: how often an entity is known by reference only, so that it is null for every subgraph that is asked for it.
    """

    def __init__(self, seed: int, *, faults: float = 0.0, lost: float = 0.0) -> None:
        self._choice = random.Random(seed)
        self._faults = faults
        self._lost = lost
        self._entities = [f"E{n}" for n in range(self._choice.randint(1, 3))]
        self._members = [f"M{n}" for n in range(self._choice.randint(2, 4))]
        self._media = [f"K{n}" for n in range(self._choice.randint(2, 3))]
        self._types: dict[str, dict[str, list[str]]] = {"a": {}, "b": {}, "c": {}}
        self._leaves: dict[str, dict[str, str]] = {}
        self._computed: dict[tuple[str, str], Computed] = {}
        self._make_entities()
        self._make_members()
        self._make_media()
        self.sdl = {name: self._sdl(name) for name in self._types}

    def federation(self) -> Federation:
        parts = [Subgraph(name, f"http://{name}", sdl) for name, sdl in self.sdl.items()]
        return Federation(compose(parts).supergraph_sdl, self._universe())

    # -- subgraphs -------------------------------------------------------------------------------------------------

    def _make_entities(self) -> None:
        for name in self._entities:
            leaves = self._leaves[name] = {}
            for at in "abc":
                fields = ["id: ID!"]
                for n in range(self._choice.randint(1, 2)):
                    type_text = self._choice.choice(_LEAVES)
                    leaves[f"{at}{n}"] = type_text
                    fields.append(f"{at}{n}: {type_text}")
                fields.append(f"{at}w(w: Int = {self._choice.randint(2, 9)}, of: In = {{n: 1}}): String")
                fields += [f"{at}r: {self._reference()}"] if self._choice.random() < 0.7 else []
                self._types[at][name] = fields
            self._types["a"][name] += ["dim: Dim"]
            self._require(name, "b")
            self._require(name, "c")

    def _reference(self) -> str:
        target = self._choice.choice(self._entities)
        return self._choice.choice([target, f"[{target}]", f"[{target}!]", f"[[{target}]]"])

    def _require(self, name: str, at: str) -> None:
        """Several fields of one subgraph that require others, some of them below one object."""
        leaves = self._leaves[name]
        options = [f"dim {{ {part} }}" for part in ("x", "y", "x y", "deep { u }", "deep { v } x")]
        options += [leaf for leaf in leaves if leaf[0] != at]
        external: set[str] = set()
        for n in range(self._choice.randint(1, 3)):
            wanted = self._choice.sample(options, self._choice.randint(1, min(2, len(options))))
            if sum("dim" in each for each in wanted) > 1:
                wanted = wanted[:1]
            external |= {each.split(" ")[0] for each in wanted}
            text = " ".join(wanted)
            self._types[at][name].append(f'{at}q{n}: String @requires(fields: "{text}")')
            needed = frozenset(leaf for leaf in wanted if leaves.get(leaf, "").endswith("!"))
            self._computed[name, f"{at}q{n}"] = _reading(text, needed)
        for each in sorted(external):
            self._types[at][name].append(f"{each}: {'Dim' if each == 'dim' else leaves[each]} @external")

    def _make_members(self) -> None:
        for name in self._members:
            fields = [f"t: {self._choice.choice(self._entities)}", "n: Int", "s: String"]
            fields.append(f"l: [{self._choice.choice(self._entities)}]")
            fields.append(f"w: W{self._choice.randint(0, 1)}")
            self._types["a"][name] = [field for field in fields if self._choice.random() < 0.85] or ["n: Int"]
        for n in range(2):
            self._types["a"][f"W{n}"] = [f"t: {self._choice.choice(self._entities)}", "n: Int"]

    def _make_media(self) -> None:
        title = self._choice.choice(["String", "String!"])
        self._types["a"]["Media"] = ["id: ID!", f"title: {title}"]
        for name in self._media:
            self._types["a"][name] = ["id: ID!", f"title: {title}", f"t: {self._choice.choice(self._entities)}"]
        views = self._choice.choice(["Int", "Int!"])
        fields = ["id: ID!", f"title: {title} @external", f"views: {views}", "likes: Int", f"e: {self._reference()}"]
        fields.append('calc: String @requires(fields: "title")')
        self._types["b"]["Media"] = fields

    def _sdl(self, at: str) -> str:
        parts = [_LINK, "input In { n: Int = 2, m: Int }"]
        for name, fields in self._types[at].items():
            body = "{ " + " ".join(fields) + " }"
            if name in self._entities:
                parts.append(f'type {name} @key(fields: "id") {body}')
            elif name == "Media" and at == "b":
                parts.append(f'type Media @key(fields: "id") @interfaceObject {body}')
            elif name == "Media":
                parts.append(f'interface Media @key(fields: "id") {body}')
            elif name in self._media:
                parts.append(f'type {name} implements Media @key(fields: "id") {body}')
            else:
                parts.append(f"type {name} {body}")
        parts.append("type Dim @shareable { x: Int y: Int! deep: Deep } type Deep @shareable { u: Int v: String! }")
        if at == "a":
            entity = self._entities[0]
            parts.append(f"union U = {' | '.join(self._members)}")
            parts.append(f"type Query {{ us: [U] ms: [Media!] one: {entity} all: [[{entity}]] media: Media }}")
        return "\n".join(parts)

    # -- the universe ----------------------------------------------------------------------------------------------

    def _universe(self) -> Universe:
        objects = {name: [self._entity(name, n) for n in range(3)] for name in self._entities}
        values = {name: [self._plain(name, objects) for _ in range(2)] for name in (*self._members, "W0", "W1")}
        for name in self._members:
            for value in values[name]:
                for field in self._types["a"][name]:
                    if field.startswith("w: "):
                        value["w"] = self._choice.choice([*values[field[3:]], None])
        media = [self._medium(name, n, objects) for name in self._media for n in range(2)]
        for name, found in objects.items():
            for value in found:
                for at in "abc":
                    for field in self._types[at][name]:
                        if field.startswith(f"{at}r: "):
                            value[f"{at}r"] = self._pick(field[4:], objects)
        first = objects[self._entities[0]]
        roots = {
            "us": [value for name in self._members for value in values[name]] + [None],
            "ms": media,
            "one": self._choice.choice([*first, None]),
            "all": [[first[0], None], None, [first[1], first[2]]],
            "media": self._choice.choice([*media, None]),
        }
        entities = [*(value for found in objects.values() for value in found), *media]
        lost = [e for e in entities if self._choice.random() < self._lost]
        return Universe(roots, [e for e in entities if e not in lost])

    def _entity(self, name: str, n: int) -> dict[str, Any]:
        value: dict[str, Any] = {"__typename": name, "id": f"{name}-{n}"}
        for leaf, type_text in self._leaves[name].items():
            value[leaf] = self._faulty(self._leaf(type_text))
        for at in "abc":
            value[f"{at}w"] = lambda of, a, at=at: f"{of['id']} {at} {a.get('w')} {sorted((a.get('of') or {}).items())}"
        deep = {"__typename": "Deep", "u": self._number(), "v": self._faulty(f"v{n}")}
        dim = {
            "__typename": "Dim",
            "x": self._number(),
            "y": self._faulty(n),
            "deep": self._choice.choice([deep, None]),
        }
        value["dim"] = self._choice.choice([dim, dim, None])
        for (owner, field), computed in self._computed.items():
            if owner == name:
                value[field] = computed
        return value

    def _medium(self, name: str, n: int, objects: Mapping[str, list[Any]]) -> dict[str, Any]:
        value: dict[str, Any] = {"__typename": name, "id": f"{name}-{n}", "title": f"title of {name}-{n}"}
        value |= {"views": self._faulty(self._choice.randint(0, 9)), "likes": self._number()}
        for field in self._types["a"][name]:
            if field.startswith("t: "):
                value["t"] = self._choice.choice([*objects[field[3:]], None])
        for field in self._types["b"]["Media"]:
            if field.startswith("e: "):
                value["e"] = self._pick(field[3:], objects)
        value["calc"] = _reading("title", frozenset({"title"}))
        return value

    def _plain(self, name: str, objects: Mapping[str, list[Any]]) -> dict[str, Any]:
        value: dict[str, Any] = {"__typename": name, "n": self._number(), "s": self._choice.choice("xyz")}
        for field in self._types["a"][name]:
            key, _, type_text = field.partition(": ")
            if type_text.strip("[]!") in objects:
                value[key] = self._pick(type_text, objects)
        return value

    def _pick(self, type_text: str, objects: Mapping[str, list[Any]]) -> Any:
        targets = objects[type_text.strip("[]!")]
        if type_text.startswith("[["):
            return [[self._choice.choice(targets), None], None, [self._choice.choice(targets)]]
        if type_text.startswith("["):
            absent = [] if "!" in type_text else [None]
            return [self._choice.choice(targets), *absent, self._choice.choice(targets)]
        return self._choice.choice([*targets, None])

    def _leaf(self, type_text: str) -> Any:
        if type_text.startswith("[["):
            return [[self._choice.randint(0, 99)], None, []]
        if type_text.startswith("["):
            return [self._choice.randint(0, 99), None]
        plain = self._choice.randint(0, 99) if "Int" in type_text else self._choice.choice("pqr")
        return plain if type_text.endswith("!") else self._choice.choice([plain, plain, None])

    def _number(self) -> int | None:
        return self._choice.choice([self._choice.randint(0, 99), None])

    def _faulty(self, value: Any) -> Any:
        roll = self._choice.random()
        if roll < self._faults / 2:
            return None
        return _fails if roll < self._faults else value


_NOT_NULL = {"y": "dim", "v": "deep"}
"""Fields below an object that cannot be null, and the object that is null without them."""


def _reading(text: str, needed: frozenset[str]) -> Computed:
    """A field that shows what it requires as text. It fails without what is needed, as it does in the router."""
    tokens = text.replace("{", " { ").replace("}", " } ").split()
    return Computed(lambda of: _read(of, tokens, needed))


def _read(of: Mapping[str, Any], tokens: list[str], needed: frozenset[str]) -> str:
    parts: list[str] = []
    for name, below in _parts(tokens):
        value = _completed(of, name)
        if value is None and name in needed:
            raise Failure(f"{name} is missing")
        if not below:
            parts.append(f"{name}{'!' if name in needed else ''}={value}")
        elif value is None or any(_completed(value, n) is None for n, _ in _parts(below) if _NOT_NULL.get(n) == name):
            parts.append(f"{name}(null)")
        else:
            parts.append(f"{name}({_read(value, below, frozenset())})")
    return " ".join(parts)


def _completed(of: Mapping[str, Any], name: str) -> Any:
    """A field's value as GraphQL has it: null when it fails."""
    value = of.get(name)
    try:
        return value(of, {}) if callable(value) else value
    except Failure:
        return None


def _parts(tokens: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The fields of a selection, each with the tokens of what is below it."""
    position = 0
    while position < len(tokens):
        name, below = tokens[position], list[str]()
        position += 1
        if position < len(tokens) and tokens[position] == "{":
            depth, start = 1, position + 1
            position += 1
            while depth:
                depth += {"{": 1, "}": -1}.get(tokens[position], 0)
                position += 1
            below = tokens[start : position - 1]
        yield name, below


# -- operations --------------------------------------------------------------------------------------------------------


_BY_CHANCE = [OverlappingFieldsCanBeMergedRule]


def random_operation(schema: GraphQLSchema, seed: int, *, depth: int = 4) -> str | None:
    """A valid operation whose response keys clash where the specification lets them; None when none was found."""
    choice = random.Random(seed)
    for _ in range(20):
        query = _Operation(schema, choice).selection(schema.type_map["Query"], depth)
        # Most fall by the one rule that chance breaks: the others need not look at those.
        if query and not validate(schema, parsed := parse(query), _BY_CHANCE, 1) and not validate(schema, parsed):
            return query
    return None


class _Operation:
    def __init__(self, schema: GraphQLSchema, choice: random.Random) -> None:
        self._schema = schema
        self._choice = choice
        self._chance = choice.uniform(0.25, 0.6)

    def selection(self, output: GraphQLNamedType, depth: int) -> str:
        parts: list[str] = []
        if isinstance(output, GraphQLObjectType | GraphQLInterfaceType):
            parts += self._fields(output, depth)
        if isinstance(output, GraphQLInterfaceType | GraphQLUnionType):
            for member in self._schema.get_possible_types(output):
                if self._choice.random() < 0.8 and (inner := self.selection(member, depth)):
                    parts.append(f"... on {member.name} {inner}")
            if self._choice.random() < 0.3:
                parts.append("__typename")
        self._choice.shuffle(parts)
        return f"{{ {' '.join(parts)} }}" if parts else ""

    def _fields(self, output: GraphQLObjectType | GraphQLInterfaceType, depth: int) -> Iterator[str]:
        for name, field in output.fields.items():
            if self._choice.random() > self._chance:
                continue
            named = get_named_type(field.type)
            arguments = ""
            if field.args and self._choice.random() < 0.7:
                arguments = f"(w: {self._choice.randint(1, 3)}, of: {{m: {self._choice.randint(1, 2)}}})"
            # One response key has one shape: then siblings may use it for different fields.
            key = name
            if self._choice.random() < 0.6:
                shape = str(field.type).replace("!", "_").replace("[", "L").replace("]", "")
                key = f"{'v' if is_leaf_type(named) else 'o'}{self._choice.randint(0, 1)}{shape}"
            head = f"{key}: {name}{arguments}" if key != name else f"{name}{arguments}"
            if is_leaf_type(named):
                yield head
            elif depth > 1 and (inner := self.selection(named, depth - 1)):
                yield f"{head} {inner}"
