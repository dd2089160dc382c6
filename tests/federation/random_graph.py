"""Random supergraphs with a universe of objects, from a seed. Every field can be reached by construction."""

import random
from dataclasses import dataclass, field
from typing import Any

from tests.federation.graph import Computed, Federation, Universe


@dataclass
class _Field:
    name: str
    type_text: str
    joins: dict[str, str]  # subgraph -> further arguments of @join__field


@dataclass
class _Type:
    name: str
    keys: dict[str, list[str]]  # subgraph -> its keys
    fields: list[_Field] = field(default_factory=list)


def _requiring(names: list[str]) -> Any:
    return Computed(lambda of: "+".join(str(of[name]) for name in names))


class RandomGraph:
    """A few subgraphs, entity types spread over them by one or two keys, references, a union, an interface, a value type."""

    def __init__(self, seed: int) -> None:
        self._choice = random.Random(seed)
        self._subgraphs = [f"S{n}" for n in range(self._choice.randint(2, 4))]
        self._types = [self._entity(f"T{n}") for n in range(self._choice.randint(2, 4))]
        self._computed: dict[tuple[str, str], Computed] = {}
        for each in self._types:
            self._add_leaves(each)
        for each in self._types:
            self._add_references(each)
        for each in self._types:
            self._add_required(each)
            self._add_values(each)

    def federation(self) -> Federation:
        return Federation(self.sdl(), self.universe())

    # -- the supergraph --------------------------------------------------------------------------------------------

    def _some(self, of: list[str]) -> list[str]:
        return sorted(self._choice.sample(of, self._choice.randint(1, len(of))))

    def _entity(self, name: str) -> _Type:
        """The first subgraph of a type has both keys, so that those with either one can be reached from it and back."""
        homes = self._some(self._subgraphs)
        self._choice.shuffle(homes)
        keys = {home: self._choice.choice([["id"], ["code"], ["id", "code"]]) for home in homes}
        keys[homes[0]] = ["id", "code"]
        return _Type(name, keys)

    def _add_leaves(self, each: _Type) -> None:
        homes = sorted(each.keys)
        for key in ("id", "code"):
            each.fields.append(_Field(key, "String!", {home: "" for home in homes if key in each.keys[home]}))
        for n in range(self._choice.randint(1, 4)):
            type_text = self._choice.choice(["Int", "String", "[String]", "Int!"])
            each.fields.append(_Field(f"leaf{n}{each.name}", type_text, dict.fromkeys(self._some(homes), "")))

    def _add_references(self, each: _Type) -> None:
        for n in range(self._choice.randint(1, 3)):
            home = self._choice.choice(sorted(each.keys))
            targets = [t for t in self._types if home in t.keys]
            target = self._choice.choice(targets)
            type_text = self._choice.choice(
                [target.name, f"[{target.name}]", f"[{target.name}!]!", f"[[{target.name}]]"]
            )
            join = ""
            elsewhere = [f for f in target.fields if f.name.startswith("leaf") and home not in f.joins]
            if elsewhere and self._choice.random() < 0.5:
                provided = self._choice.choice(elsewhere)
                provided.joins[home] = ", external: true"
                join = f', provides: "{provided.name}"'
            each.fields.append(_Field(f"ref{n}{each.name}", type_text, {home: join}))

    def _add_required(self, each: _Type) -> None:
        homes = sorted(each.keys)
        if len(homes) == 1:
            return
        home = self._choice.choice(homes)
        wanted = [f for f in each.fields if f.name.startswith("leaf") and ("external" in f.joins.get(home, "external"))]
        wanted = [f for f in wanted if any("external" not in join for join in f.joins.values())]
        if not wanted:
            return
        names = sorted(f.name for f in self._choice.sample(wanted, self._choice.randint(1, len(wanted))))
        for required in wanted:
            if required.name in names:
                required.joins[home] = ", external: true"
        each.fields.append(_Field("made", "String", {home: f', requires: "{" ".join(names)}"'}))
        self._computed[each.name, "made"] = _requiring(names)
        others = [h for h in homes if h != home]
        other = self._choice.choice(others)
        each.fields[-1].joins[other] = ", external: true"
        each.fields.append(_Field("remade", "String", {other: ', requires: "made"'}))
        made = self._computed[each.name, "made"]
        self._computed[each.name, "remade"] = Computed(
            lambda of: f"re {made.function(of) if isinstance(of['made'], Computed) else of['made']}"
        )

    def _add_values(self, each: _Type) -> None:
        homes = self._some(sorted(each.keys))
        each.fields.append(_Field("value", f"{each.name}Value", dict.fromkeys(homes, "")))

    def sdl(self) -> str:
        names = "\n".join(f'  {s} @join__graph(name: "{s.lower()}", url: "")' for s in self._subgraphs)
        everywhere = " ".join(f"@join__type(graph: {s})" for s in self._subgraphs)
        parts = [
            'schema @link(url: "https://specs.apollo.dev/join/v0.3", for: EXECUTION) { query: Query }',
            f"enum join__Graph {{\n{names}\n}}",
            f"type Query {everywhere} {{\n{self._roots()}\n}}",
            *(self._print(each) for each in self._types),
            *(self._print_value(each) for each in self._types),
            self._print_union(),
            "interface Named " + everywhere + " { id: String! }",
        ]
        return "\n".join(parts)

    def _roots(self) -> str:
        lines = []
        for each in self._types:
            home = min(each.keys)
            lines.append(f"  all{each.name}: [{each.name}] @join__field(graph: {home})")
        lines.append(f"  any: [Any] @join__field(graph: {self._union_home})")
        lines.append(f"  named: [Named!] @join__field(graph: {self._named_home})")
        return "\n".join(lines)

    @property
    def _union_home(self) -> str:
        return min(self._types[0].keys)

    def _in_union(self) -> list[_Type]:
        return [each for each in self._types if self._union_home in each.keys]

    @property
    def _named_home(self) -> str:
        return next(home for home, keys in sorted(self._types[-1].keys.items()) if "id" in keys)

    def _is_named_in(self, each: _Type, home: str) -> bool:
        return "id" in each.keys.get(home, [])

    def _print(self, each: _Type) -> str:
        joins = [
            f'@join__type(graph: {home}, key: "{key}")' for home, keys in sorted(each.keys.items()) for key in keys
        ]
        joins += [
            f'@join__implements(graph: {home}, interface: "Named")'
            for home in sorted(each.keys)
            if self._is_named_in(each, home)
        ]
        lines = [
            f"  {f.name}: {f.type_text} "
            + " ".join(f"@join__field(graph: {s}{more})" for s, more in sorted(f.joins.items()))
            for f in each.fields
        ]
        return f"type {each.name} implements Named {' '.join(joins)} {{\n" + "\n".join(lines) + "\n}"

    def _print_value(self, each: _Type) -> str:
        homes = sorted(each.fields[-1].joins)
        joins = " ".join(f"@join__type(graph: {home})" for home in homes)
        own = "\n".join(f"  of{home}: Int @join__field(graph: {home})" for home in homes)
        return f"type {each.name}Value {joins} {{\n  shared: Int\n{own}\n}}"

    def _print_union(self) -> str:
        members = [each.name for each in self._in_union()]
        joins = " ".join(f'@join__unionMember(graph: {self._union_home}, member: "{m}")' for m in members)
        return f"union Any @join__type(graph: {self._union_home}) {joins} = {' | '.join(members)}"

    # -- the universe ----------------------------------------------------------------------------------------------

    def universe(self) -> Universe:
        objects: dict[str, list[dict[str, Any]]] = {
            each.name: [{"__typename": each.name, "id": f"{each.name}-{n}", "code": f"c{n}"} for n in range(3)]
            for each in self._types
        }
        for each in self._types:
            for value in objects[each.name]:
                for f in each.fields:
                    if f.name not in value:
                        value[f.name] = self._value(each, f, objects)
        everything = [value for values in objects.values() for value in values]
        in_union = {each.name for each in self._in_union()}
        named = {each.name for each in self._types if self._is_named_in(each, self._named_home)}
        roots: dict[str, Any] = {f"all{name}": values for name, values in objects.items()}
        roots["any"] = [value for value in everything if value["__typename"] in in_union]
        roots["named"] = [value for value in everything if value["__typename"] in named]
        return Universe(roots, everything)

    def _value(self, each: _Type, f: _Field, objects: dict[str, list[dict[str, Any]]]) -> Any:
        if (computed := self._computed.get((each.name, f.name))) is not None:
            return computed
        if f.name == "value":
            value: dict[str, Any] = {"__typename": f"{each.name}Value", "shared": self._choice.randint(0, 9)}
            value.update({f"of{home}": self._choice.randint(0, 9) for home in f.joins})
            return self._choice.choice([value, value, None])
        if f.name.startswith("leaf"):
            optional = [] if f.type_text.endswith("!") else [None]
            plain: Any = self._choice.randint(0, 99) if "Int" in f.type_text else self._choice.choice("xyz")
            return self._choice.choice([[plain, None, plain] if "[" in f.type_text else plain, *optional])
        targets = objects[f.type_text.strip("[]!")]
        if f.type_text.startswith("[["):
            return [[self._choice.choice(targets), None], None, [self._choice.choice(targets)]]
        if f.type_text.startswith("["):
            absent = [] if "!" in f.type_text else [None]
            return [self._choice.choice(targets), *absent, self._choice.choice(targets)]
        return self._choice.choice([*targets, None])
