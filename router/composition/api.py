"""The schema that clients see: the supergraph without what is `@inaccessible` and without federation's own elements."""

from collections.abc import Mapping
from dataclasses import replace

from graphql import GraphQLSchema, build_schema

from router.composition.merge.schema import Supergraph
from router.composition.model import Applied, Field, InputValue, TypeDef
from router.composition.printer import print_api

_KEPT = frozenset({"deprecated", "specifiedBy", "oneOf"})


def api_schema(supergraph: Supergraph) -> GraphQLSchema:
    """The API as an executable schema."""
    hidden = supergraph.composed.names.get("inaccessible", "inaccessible")
    types = _visible(supergraph.types, hidden)
    return build_schema(print_api(types.values(), supergraph.executable_directives), assume_valid=True)


def _visible(types: Mapping[str, TypeDef], hidden: str) -> dict[str, TypeDef]:
    def is_visible(directives: tuple[Applied, ...]) -> bool:
        return all(applied.name != hidden for applied in directives)

    def arguments(values: Mapping[str, InputValue]) -> dict[str, InputValue]:
        return {
            name: replace(value, directives=_kept(value.directives))
            for name, value in values.items()
            if is_visible(value.directives)
        }

    def fields(values: Mapping[str, Field]) -> dict[str, Field]:
        return {
            name: replace(value, args=arguments(value.args), directives=_kept(value.directives))
            for name, value in values.items()
            if is_visible(value.directives)
        }

    shown = {name: found for name, found in types.items() if is_visible(found.directives)}
    return {
        name: replace(
            found,
            directives=_kept(found.directives),
            fields=fields(found.fields),
            inputs=arguments(found.inputs),
            values={
                key: replace(value, directives=_kept(value.directives))
                for key, value in found.values.items()
                if is_visible(value.directives)
            },
            members=tuple(member for member in found.members if member in shown),
            interfaces=tuple(interface for interface in found.interfaces if interface in shown),
        )
        for name, found in shown.items()
    }


def _kept(directives: tuple[Applied, ...]) -> tuple[Applied, ...]:
    return tuple(applied for applied in directives if applied.name in _KEPT)
