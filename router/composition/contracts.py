"""Contracts: the part of an API that carries, or does not carry, certain tags.

A contract hides by `@inaccessible`, so the supergraph keeps everything that the router needs to resolve what is left
(keys, required fields), and only the API shrinks.

Source: https://www.apollographql.com/docs/graphos/platform/schema-management/delivery/contracts/overview
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from router.composition.merge.composed import with_inaccessible
from router.composition.merge.schema import Supergraph
from router.composition.model import ROOT_TYPES, Applied, TypeDef, TypeKind
from router.composition.type_refs import named

Directives = tuple[Applied, ...]


@dataclass(frozen=True, slots=True)
class Contract:
    include: frozenset[str]
    exclude: frozenset[str]
    tag: str = "tag"
    """The name of `@tag` in the supergraph."""
    inaccessible: str = "inaccessible"
    """The name of `@inaccessible` in the supergraph."""

    def tags(self, directives: Directives) -> set[str]:
        return {applied.string("name") or "" for applied in directives if applied.name == self.tag}

    def is_excluded(self, directives: Directives) -> bool:
        return not self.exclude.isdisjoint(self.tags(directives))

    def is_included(self, directives: Directives) -> bool:
        return not self.include.isdisjoint(self.tags(directives))

    def is_hidden(self, directives: Directives) -> bool:
        return any(applied.name == self.inaccessible for applied in directives)

    def hide(self, directives: Directives) -> Directives:
        return directives if self.is_hidden(directives) else (*directives, Applied(self.inaccessible))


def with_contract(supergraph: Supergraph, include: frozenset[str], exclude: frozenset[str]) -> Supergraph:
    """The supergraph whose API is what the tags leave of it."""
    composed = with_inaccessible(supergraph.composed)
    contract = Contract(include, exclude, composed.names.get("tag", "tag"), composed.names["inaccessible"])
    return replace(supergraph, types=apply_contract(supergraph.types, contract), composed=composed)


def apply_contract(types: Mapping[str, TypeDef], contract: Contract) -> dict[str, TypeDef]:
    """The types, with `@inaccessible` on everything that the contract leaves out."""
    filtered = {name: _exclude(found, contract) for name, found in types.items()}
    if contract.include:
        filtered = {name: _include(found, contract) for name, found in filtered.items()}
    filtered = _close(filtered, contract)
    return _hide_unreachable(filtered, contract)


def _exclude(found: TypeDef, contract: Contract) -> TypeDef:
    """What carries an excluded tag is hidden."""
    return _hide_where(found, contract, contract.is_excluded)


def _include(found: TypeDef, contract: Contract) -> TypeDef:
    """An untagged type shows only its tagged members; a tagged one shows all. Arguments are never filtered here."""
    if contract.is_included(found.directives) or found.kind is TypeKind.SCALAR:
        return found
    if found.kind is TypeKind.UNION:
        return replace(found, directives=contract.hide(found.directives))
    return _hide_where(found, contract, lambda own: not contract.is_included(own), members_only=True)


def _hide_where(
    found: TypeDef, contract: Contract, is_out: Callable[[Directives], bool], *, members_only: bool = False
) -> TypeDef:
    def hidden(directives: Directives) -> Directives:
        return contract.hide(directives) if is_out(directives) else directives

    fields = {name: replace(field, directives=hidden(field.directives)) for name, field in found.fields.items()}
    if not members_only:
        fields = {
            name: replace(
                field,
                args={
                    key: replace(argument, directives=hidden(argument.directives))
                    for key, argument in field.args.items()
                },
            )
            for name, field in fields.items()
        }
    return replace(
        found,
        directives=found.directives if members_only else hidden(found.directives),
        fields=fields,
        inputs={name: replace(value, directives=hidden(value.directives)) for name, value in found.inputs.items()},
        values={name: replace(value, directives=hidden(value.directives)) for name, value in found.values.items()},
    )


def _close(types: dict[str, TypeDef], contract: Contract) -> dict[str, TypeDef]:
    """Hide, until nothing changes, what cannot stay without what is hidden: types whose members are all hidden, and
    fields and arguments of hidden types."""
    while True:
        gone = {name for name, found in types.items() if contract.is_hidden(found.directives)}
        closed = {name: _close_one(found, gone, contract) for name, found in types.items()}
        if closed == types:
            return closed
        types = closed


def _close_one(found: TypeDef, gone: Collection[str], contract: Contract) -> TypeDef:
    def hidden_if(is_out: bool, directives: Directives) -> Directives:
        return contract.hide(directives) if is_out else directives

    fields = {
        name: replace(
            field,
            args={
                key: replace(argument, directives=hidden_if(named(argument.type) in gone, argument.directives))
                for key, argument in field.args.items()
            },
            directives=hidden_if(named(field.type) in gone, field.directives),
        )
        for name, field in found.fields.items()
    }
    inputs = {
        name: replace(value, directives=hidden_if(named(value.type) in gone, value.directives))
        for name, value in found.inputs.items()
    }
    own = (*(field.directives for field in fields.values()), *(value.directives for value in inputs.values()))
    values = tuple(value.directives for value in found.values.values())
    parts = [contract.is_hidden(directives) for directives in (*own, *values)]
    if found.kind is TypeKind.UNION:
        parts = [member in gone for member in found.members]
    is_empty = bool(parts) and all(parts) and found.name != "Query"
    return replace(found, directives=hidden_if(is_empty, found.directives), fields=fields, inputs=inputs)


def _hide_unreachable(types: Mapping[str, TypeDef], contract: Contract) -> dict[str, TypeDef]:
    """Types that no visible root field leads to are of no use to clients of the contract."""
    reached: set[str] = set()
    pending = [name for name in ROOT_TYPES if name in types and not contract.is_hidden(types[name].directives)]
    while pending:
        name = pending.pop()
        if name in reached or name not in types or contract.is_hidden(types[name].directives):
            continue
        reached.add(name)
        pending.extend(_leads_to(types[name], types, contract))
    return {
        name: found if name in reached else replace(found, directives=contract.hide(found.directives))
        for name, found in types.items()
    }


def _leads_to(found: TypeDef, types: Mapping[str, TypeDef], contract: Contract) -> Iterator[str]:
    for field in found.fields.values():
        if contract.is_hidden(field.directives):
            continue
        yield named(field.type)
        yield from (
            named(argument.type) for argument in field.args.values() if not contract.is_hidden(argument.directives)
        )
    yield from (named(value.type) for value in found.inputs.values() if not contract.is_hidden(value.directives))
    yield from found.members
    yield from found.interfaces
    if found.kind is TypeKind.INTERFACE:
        yield from (other.name for other in types.values() if found.name in other.interfaces)
