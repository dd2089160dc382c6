"""Who may do what with a session."""

from uuid import UUID

from domain.errors import Forbidden
from domain.ids import UserId
from domain.measurement.measurement.errors import SessionForeign, SessionNotFound
from domain.measurement.measurement.models import SessionRow
from domain.principal import Principal, PrincipalKind, Scope


def user_of(principal: Principal, requested: str, scope: Scope) -> UserId:
    """The person whom a call is about.

    Raises:
        Unauthenticated, Forbidden, InvalidInput: as `Principal.acting_for`; Forbidden without the scope, and for a reader
            that wants to read: what its owner has measured elsewhere is none of its business.
    """
    _require_scope(principal, scope)
    if principal.kind is PrincipalKind.DEVICE and scope is Scope.MEASUREMENT_READ:
        raise Forbidden("A reader reads its own sessions only; lists of a person's need an access token.")
    return principal.acting_for(requested)


def require_owner(principal: Principal, row: SessionRow, scope: Scope) -> None:
    """Let in the session's person, its reader, and who may act for everybody.

    Raises:
        Unauthenticated: anonymous.
        SessionForeign: somebody else's session, or another reader's.
        Forbidden: the token lacks the scope.
    """
    _require_scope(principal, scope)
    if principal.kind is PrincipalKind.DEVICE and row.device_id != principal.subject:
        raise SessionForeign(row.id)
    try:
        principal.acting_for(row.user_id)
    except Forbidden as error:
        raise SessionForeign(row.id) from error


def parse_session_id(text: str) -> str:
    """The canonical form of a session id.

    Raises:
        SessionNotFound: no session can have such an id.
    """
    try:
        return str(UUID(text))
    except ValueError as error:
        raise SessionNotFound(text) from error


def _require_scope(principal: Principal, scope: Scope) -> None:
    principal.require_authenticated()
    # A reader's credential is bound to its reader; it carries no scopes.
    if principal.kind is not PrincipalKind.DEVICE:
        principal.require_scope(scope)
