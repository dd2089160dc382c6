"""The factory: what it makes becomes known by its files, brought by its service or by somebody who keeps the registry."""

from domain.errors import Forbidden
from domain.principal import Principal, PrincipalKind, Scope

FACTORY_SERVICE = "factory"
"""Name of the factory's service in its service tokens."""


def require_factory(principal: Principal) -> None:
    """Raises: Unauthenticated: anonymous. Forbidden: neither the factory's service nor the scope registry:write."""
    principal.require_scope(Scope.REGISTRY_WRITE)
    if principal.kind is not PrincipalKind.USER and principal.subject != FACTORY_SERVICE:
        raise Forbidden(f"Only the service {FACTORY_SERVICE} imports what the factory has made.")
