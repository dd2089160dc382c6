"""What join v0.1 leaves unsaid: a subgraph other than a type's owner also has the fields of its keys, and names the fields
that it provides or requires, though `@join__field` tells of the owner alone."""

from collections.abc import Mapping
from dataclasses import replace

from router.supergraph.model import SubgraphField, SubgraphType
from router.supergraph.selection import Field, Fragment, Selection

Fields = Mapping[str, Mapping[str, SubgraphField]]
"""The fields of each type that has an owner, as the supergraph defines them."""


def with_unsaid_fields(types: Mapping[str, SubgraphType], owned: Fields) -> dict[str, SubgraphType]:
    """The types of one subgraph, completed. What is provided or required is external, what is in a key is not."""
    unsaid = _Unsaid(types, owned)
    for view in types.values():
        for key in view.keys if view.name in owned else ():
            unsaid.add(view.name, key.selection, external=False)
    for view in types.values():
        for field in view.fields.values():
            if field.requires is not None:
                unsaid.add(view.name, field.requires, external=True)
            if field.provides is not None:
                unsaid.add(field.type_name, field.provides, external=True)
    return {
        name: replace(view, fields={**view.fields, **unsaid.found[name]}) if name in unsaid.found else view
        for name, view in types.items()
    }


class _Unsaid:
    def __init__(self, types: Mapping[str, SubgraphType], owned: Fields) -> None:
        self.found: dict[str, dict[str, SubgraphField]] = {}
        self._types = types
        self._owned = owned

    def add(self, type_name: str, selection: Selection, *, external: bool) -> None:
        for item in selection.items:
            if isinstance(item, Fragment):
                self.add(item.type_condition, item.selection, external=external)
            elif isinstance(item, Field):
                field = self._field(type_name, item.name, external=external)
                if field is not None and item.selection is not None:
                    self.add(field.type_name, item.selection, external=external)

    def _field(self, type_name: str, name: str, *, external: bool) -> SubgraphField | None:
        view = self._types.get(type_name)
        if view is None:
            return None
        known = view.fields.get(name) or self.found.get(type_name, {}).get(name)
        if known is None and (base := self._owned.get(type_name, {}).get(name)) is not None:
            known = self.found.setdefault(type_name, {})[name] = replace(base, external=external)
        return known
