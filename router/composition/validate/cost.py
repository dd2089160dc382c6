"""Checks on `@cost` and `@listSize`. Source: https://specs.apollo.dev/cost/v0.1"""

from router.composition.model import Applied, Field, FieldId, TypeDef, TypeKind
from router.composition.type_refs import is_list, named, nullable
from router.composition.validate.report import Report


def check_cost(report: Report) -> None:
    """Report weights on interface fields, and list sizes that do not fit their field."""
    for found in report.schema.types.values():
        for field in found.fields.values():
            for applied in field.directives:
                if applied.name == "cost" and found.kind is TypeKind.INTERFACE:
                    report.error(
                        "COST_APPLIED_TO_INTERFACE_FIELD",
                        f'@cost cannot be applied to interface "{FieldId(found.name, field.name)}"',
                        applied.at,
                    )
                elif applied.name == "listSize":
                    _check_list_size(report, found, field, applied)


def _check_list_size(report: Report, parent: TypeDef, field: Field, applied: Applied) -> None:
    coordinate = FieldId(parent.name, field.name)
    sized = applied.value("sizedFields")
    if not is_list(nullable(field.type)) and not sized:
        report.error("LIST_SIZE_APPLIED_TO_NON_LIST", f'"{coordinate}" is not a list', applied.at)
    assumed = applied.value("assumedSize")
    if isinstance(assumed, int) and assumed < 0:
        report.error("LIST_SIZE_INVALID_ASSUMED_SIZE", f'Assumed size of "{coordinate}" cannot be negative', applied.at)
    for name in _names(applied, "slicingArguments"):
        argument = field.args.get(name)
        if argument is None:
            report.error(
                "LIST_SIZE_INVALID_SLICING_ARGUMENT",
                f'Slicing argument "{name}" is not an argument of "{coordinate}"',
                applied.at,
            )
        elif nullable(argument.type) != "Int":
            report.error(
                "LIST_SIZE_INVALID_SLICING_ARGUMENT",
                f'Slicing argument "{coordinate}({name}:)" must be Int or Int!',
                applied.at,
            )
    _check_sized_fields(report, coordinate, field, applied)


def _check_sized_fields(report: Report, coordinate: FieldId, field: Field, applied: Applied) -> None:
    target = report.schema.types.get(named(field.type))
    for name in _names(applied, "sizedFields"):
        if target is None or not target.fields:
            report.error(
                "LIST_SIZE_INVALID_SIZED_FIELD",
                f'Sized fields cannot be used because "{field.type}" is not a composite type',
                applied.at,
            )
            return
        sized = target.fields.get(name)
        if sized is None:
            report.error(
                "LIST_SIZE_INVALID_SIZED_FIELD",
                f'Sized field "{name}" is not a field on type "{target.name}" of "{coordinate}"',
                applied.at,
            )
        elif not is_list(nullable(sized.type)):
            report.error(
                "LIST_SIZE_APPLIED_TO_NON_LIST", f'Sized field "{target.name}.{name}" is not a list', applied.at
            )


def _names(applied: Applied, argument: str) -> list[str]:
    value = applied.value(argument)
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []
