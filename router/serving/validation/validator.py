"""Validates documents as graphql-core does, ordinary ones in a fraction of the time, and hostile ones within bounds.

An ordinary document is proven valid in one walk that knows only what ordinary documents hold. Whatever it does not know,
errors above all, is left to graphql-core's rules, so that what is accepted, and every message, is their own. Only one of
those takes more than linear time, whether overlapping fields can be merged. It is asked last, if the fields that share a
response name are not simply equal, and may compare only so many.

Source: https://spec.graphql.org/October2021/#sec-Validation
"""

from collections.abc import Sequence

from graphql import DocumentNode, GraphQLError, GraphQLSchema, validate
from graphql.validation import (
    ASTValidationRule,
    NoSchemaIntrospectionCustomRule,
    OverlappingFieldsCanBeMergedRule,
    ValidationContext,
    specified_rules,
)

from router.errors import ClientError
from router.serving.validation.facts import SchemaFacts, Unproven
from router.serving.validation.merging import MergedFields
from router.serving.validation.proof import Proof

_MOST_ERRORS = 20
_MOST_COMPARED = 50_000
"""Of what graphql-core compares in fields that overlap, in its units: about a third of a second."""


class Validator:
    """Of one API schema.

    introspection: whether `__schema` and `__type` may be asked for; if not, no error suggests a name of the schema either.
    """

    def __init__(self, schema: GraphQLSchema, *, introspection: bool) -> None:
        self._schema = schema
        self._facts = SchemaFacts(schema)
        self._hide_suggestions = not introspection
        self._rules: list[type[ASTValidationRule]] = [
            rule for rule in specified_rules if rule is not OverlappingFieldsCanBeMergedRule
        ]
        if not introspection:
            self._rules.append(NoSchemaIntrospectionCustomRule)

    def errors(self, document: DocumentNode) -> Sequence[GraphQLError]:
        """What is wrong with the document; of many errors, the first.

        Raises:
            ClientError: too many fields overlap (`OPERATION_TOO_LARGE`).
        """
        if not self.is_plain(document):
            errors = validate(
                self._schema, document, self._rules, max_errors=_MOST_ERRORS, hide_suggestions=self._hide_suggestions
            )
            if errors:
                return errors
        merged = MergedFields(self._facts, document)
        if merged.is_equal():
            return ()
        errors = validate(self._schema, document, [_OverlappingFields], max_errors=_MOST_ERRORS)
        if errors and errors[-1].message == "Validation aborted.":
            which = "" if merged.unequal is None else f", such as {merged.unequal!r}"
            message = f"The document has too many different fields under one response name{which}."
            raise ClientError(message, code="OPERATION_TOO_LARGE")
        return errors

    def is_plain(self, document: DocumentNode) -> bool:
        """Whether it keeps all rules but that of overlapping fields, for sure; if not, it may still keep them."""
        try:
            Proof(self._facts, document).check()
        except Unproven:
            return False
        return True


class _OverlappingFields(OverlappingFieldsCanBeMergedRule):
    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self.rule_context.remaining_complexity_budget = _MOST_COMPARED
