"""How a check on one subgraph says what it found."""

from dataclasses import dataclass, field

from router.composition.errors import CompositionError, SourceLocation
from router.composition.model import SubgraphSchema


@dataclass(slots=True)
class Report:
    """Collects the errors of one subgraph."""

    schema: SubgraphSchema
    errors: list[CompositionError] = field(default_factory=list)

    def error(self, code: str, message: str, at: SourceLocation | None = None) -> None:
        name = self.schema.name
        self.errors.append(CompositionError(code, f"[{name}] {message}", (name,), (at,) if at else ()))
