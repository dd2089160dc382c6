"""`@override`: which subgraph's field yields to which other subgraph's."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from router.composition.errors import CompositionError, Hint
from router.composition.model import Applied, Field, FieldId, SubgraphSchema, TypeKind

_LABEL = re.compile(r"^[a-zA-Z][a-zA-Z0-9_\-:./]*$")
_PERCENT = re.compile(r"^percent\((\d{1,2}(\.\d{1,8})?|100)\)$")


@dataclass(frozen=True, slots=True)
class Override:
    """The field in `source` yields to the one in `target`: always, or while `label` is on."""

    source: str
    target: str
    label: str | None
    is_effective: bool = True
    """False where the source has no such field, so that nothing changes hands."""


@dataclass(frozen=True, slots=True)
class Overrides:
    by_field: Mapping[FieldId, tuple[Override, ...]]

    def leaving(self, coordinate: FieldId, subgraph: str) -> Override | None:
        """The override that takes the field away from the subgraph."""
        overrides = self.by_field.get(coordinate, ())
        return next((found for found in overrides if found.is_effective and found.source == subgraph), None)

    def arriving(self, coordinate: FieldId, subgraph: str) -> Override | None:
        """The override that brings the field to the subgraph."""
        return next((found for found in self.by_field.get(coordinate, ()) if found.target == subgraph), None)

    def is_gone(self, coordinate: FieldId, subgraph: str) -> bool:
        """Whether the subgraph never resolves the field any more."""
        found = self.leaving(coordinate, subgraph)
        return found is not None and found.label is None

    @property
    def labels(self) -> frozenset[str]:
        return frozenset(found.label for every in self.by_field.values() for found in every if found.label is not None)


@dataclass(slots=True)
class _Findings:
    errors: list[CompositionError]
    hints: list[Hint]

    def error(self, code: str, message: str, schema: SubgraphSchema, applied: Applied) -> None:
        at = (applied.at,) if applied.at else ()
        self.errors.append(CompositionError(code, message, (schema.name,), at))


def read_overrides(
    subgraphs: Sequence[SubgraphSchema],
) -> tuple[Overrides, tuple[CompositionError, ...], tuple[Hint, ...]]:
    """Every override between the subgraphs, what is wrong with them, and what could be tidied up."""
    findings = _Findings([], [])
    by_name = {schema.name: schema for schema in subgraphs}
    by_field: dict[FieldId, tuple[Override, ...]] = {}
    for schema in subgraphs:
        for parent in schema.types.values():
            for field in parent.fields.values():
                applied = field.applied("override")
                if applied is None:
                    continue
                coordinate = FieldId(parent.name, field.name)
                if parent.kind is TypeKind.INTERFACE:
                    findings.error(
                        "OVERRIDE_ON_INTERFACE",
                        f'@override cannot be used on field "{coordinate}" on subgraph "{schema.name}": '
                        "@override is not supported on interface type fields.",
                        schema,
                        applied,
                    )
                    continue
                override = _read(schema, coordinate, field, applied, by_name, findings)
                if override is not None:
                    by_field[coordinate] = (*by_field.get(coordinate, ()), override)
    return Overrides(by_field), tuple(findings.errors), tuple(findings.hints)


def _read(
    schema: SubgraphSchema,
    coordinate: FieldId,
    field: Field,
    applied: Applied,
    by_name: Mapping[str, SubgraphSchema],
    findings: _Findings,
) -> Override | None:
    origin = applied.string("from") or ""
    label = applied.string("label")
    if origin == schema.name:
        findings.error(
            "OVERRIDE_FROM_SELF_ERROR",
            f'Source and destination subgraphs "{origin}" are the same for overridden field "{coordinate}"',
            schema,
            applied,
        )
        return None
    collision = next((name for name in ("external", "provides", "requires") if field.has(name)), None)
    parent = schema.types[coordinate.type]
    if collision is None and parent.has("external"):
        collision = "external"
    if collision is not None:
        findings.error(
            "OVERRIDE_COLLISION_WITH_ANOTHER_DIRECTIVE",
            f'@override cannot be used on field "{coordinate}" on subgraph "{schema.name}" since "{coordinate}" on '
            f'"{schema.name}" is marked with directive "@{collision}"',
            schema,
            applied,
        )
        return None
    if label is not None and not (_LABEL.match(label) or _PERCENT.match(label)):
        findings.error(
            "OVERRIDE_LABEL_INVALID",
            f'Invalid @override label "{label}" on field "{coordinate}" on subgraph "{schema.name}": labels must start '
            "with a letter and after that may contain alphanumerics, underscores, minuses, colons, periods, or slashes. "
            'Alternatively, labels may be of the form "percent(x)" where x is a float between 0-100 inclusive.',
            schema,
            applied,
        )
    source = by_name.get(origin)
    if source is None:
        findings.hints.append(
            Hint(
                "FROM_SUBGRAPH_DOES_NOT_EXIST",
                f'Source subgraph "{origin}" for field "{coordinate}" on subgraph "{schema.name}" does not exist.',
                (schema.name,),
            )
        )
        return Override(origin, schema.name, None, is_effective=False)
    return _against_source(schema, coordinate, applied, source, label, findings)


def _against_source(
    schema: SubgraphSchema,
    coordinate: FieldId,
    applied: Applied,
    source: SubgraphSchema,
    label: str | None,
    findings: _Findings,
) -> Override | None:
    overridden = source.field(coordinate)
    if source.types.get(coordinate.type) is not None and source.types[coordinate.type].is_interface_object:
        findings.error(
            "OVERRIDE_COLLISION_WITH_ANOTHER_DIRECTIVE",
            f'@override is not yet supported on fields of object types with @interfaceObject: "{coordinate}" on '
            f'subgraph "{source.name}".',
            schema,
            applied,
        )
        return None
    if overridden is None:
        findings.hints.append(
            Hint(
                "OVERRIDE_DIRECTIVE_CAN_BE_REMOVED",
                f'Field "{coordinate}" on subgraph "{schema.name}" no longer exists in the from subgraph. '
                "The @override directive can be removed.",
                (schema.name,),
            )
        )
        return Override(source.name, schema.name, None, is_effective=False)
    if overridden.has("override"):
        findings.error(
            "OVERRIDE_SOURCE_HAS_OVERRIDE",
            f'Field "{coordinate}" on subgraph "{schema.name}" is also marked with directive @override in subgraph '
            f'"{source.name}". Only one @override directive is allowed per field.',
            schema,
            applied,
        )
        return None
    blocked = next((name for name in ("provides", "requires") if overridden.has(name)), None)
    if blocked is not None:
        findings.error(
            "OVERRIDE_COLLISION_WITH_ANOTHER_DIRECTIVE",
            f'@override cannot be used on field "{coordinate}" on subgraph "{schema.name}" since "{coordinate}" on '
            f'"{source.name}" is marked with directive "@{blocked}"',
            schema,
            applied,
        )
        return None
    if overridden.has("external"):
        findings.hints.append(
            Hint(
                "OVERRIDE_DIRECTIVE_CAN_BE_REMOVED",
                f'Field "{coordinate}" on subgraph "{schema.name}" is not resolved anymore by the from subgraph (it is '
                'marked "@external" there). The @override directive can be removed.',
                (schema.name,),
            )
        )
    if label is None and not overridden.has("external"):
        findings.hints.append(
            Hint(
                "OVERRIDDEN_FIELD_CAN_BE_REMOVED",
                f'Field "{coordinate}" on subgraph "{source.name}" is overridden. Consider removing it, or marking it '
                "@external where keys, requirements, provisions or interfaces of that subgraph still name it.",
                (source.name,),
            )
        )
    elif label is not None:
        findings.hints.append(
            Hint(
                "OVERRIDE_MIGRATION_IN_PROGRESS",
                f'Field "{coordinate}" is currently being migrated with progressive @override. Once the migration is '
                f'complete, remove the field from subgraph "{source.name}".',
                (source.name, schema.name),
            )
        )
    return Override(source.name, schema.name, label)
