import pytest

from domain.errors import Forbidden, InvalidInput, Unauthenticated
from domain.ids import UserId
from domain.principal import (
    ANONYMOUS,
    DEVELOPMENT,
    ROLE_SCOPES,
    Principal,
    PrincipalKind,
    Role,
    Scope,
    service_principal,
)


def _user(user_id: str = "u1", role: Role = Role.USER, scopes: frozenset[str] | None = None) -> Principal:
    granted = frozenset(s.value for s in ROLE_SCOPES[role]) if scopes is None else scopes
    return Principal(PrincipalKind.USER, user_id, role, granted)


_DEVICE = Principal(PrincipalKind.DEVICE, "d1", owner=UserId("u1"))
_SERVICE = service_principal("measurement")
_BEHALF = service_principal("measurement", on_behalf_of=UserId("u1"))


@pytest.mark.parametrize("caller", [_user(), _DEVICE, _BEHALF])
def test_who_names_nobody_acts_for_the_person_behind_the_call(caller: Principal) -> None:
    assert caller.acting_for("") == "u1"
    assert caller.acting_for("u1") == "u1"


@pytest.mark.parametrize("caller", [_user(), _user(role=Role.DOCTOR), _user(role=Role.TECHNICIAN), _DEVICE])
def test_nobody_acts_for_a_stranger(caller: Principal) -> None:
    with pytest.raises(Forbidden):
        caller.acting_for("u2")


@pytest.mark.parametrize("caller", [_user(role=Role.ADMIN), _SERVICE, _BEHALF, DEVELOPMENT])
def test_administrators_and_the_trusted_act_for_everybody(caller: Principal) -> None:
    assert caller.acting_for("u2") == "u2"


@pytest.mark.parametrize("caller", [_SERVICE, DEVELOPMENT, Principal(PrincipalKind.DEVICE, "d1")])
def test_a_call_with_nobody_behind_it_must_name_the_user(caller: Principal) -> None:
    with pytest.raises(InvalidInput) as refusal:
        caller.acting_for("")
    assert refusal.value.details == {"field": "user_id"}


def test_a_device_without_an_owner_acts_for_nobody() -> None:
    with pytest.raises(Forbidden):
        Principal(PrincipalKind.DEVICE, "d1").acting_for("u1")


@pytest.mark.parametrize("requested", ["", "u1"])
def test_an_anonymous_caller_is_asked_to_sign_in(requested: str) -> None:
    with pytest.raises(Unauthenticated):
        ANONYMOUS.acting_for(requested)
    with pytest.raises(Unauthenticated):
        ANONYMOUS.require_scope(Scope.PROFILE_READ)


def test_a_device_id_is_no_user_id() -> None:
    with pytest.raises(Forbidden):
        _DEVICE.acting_for("d1")


def test_a_token_is_good_for_its_scopes_only() -> None:
    narrow = _user(role=Role.ADMIN, scopes=frozenset({"profile:read"}))
    narrow.require_scope(Scope.PROFILE_READ)
    with pytest.raises(Forbidden) as refusal:
        narrow.require_scope(Scope.PROFILE_WRITE)
    assert refusal.value.details == {"scope": "profile:write"}


@pytest.mark.parametrize("caller", [_SERVICE, DEVELOPMENT])
def test_the_trusted_need_no_scopes(caller: Principal) -> None:
    for scope in Scope:
        caller.require_scope(scope)


def test_roles_grow_from_user_to_administrator() -> None:
    for role in Role:
        assert ROLE_SCOPES[Role.USER] <= ROLE_SCOPES[role] <= ROLE_SCOPES[Role.ADMIN] == frozenset(Scope)
    assert Scope.CALIBRATION_FACTORY not in ROLE_SCOPES[Role.DOCTOR]
