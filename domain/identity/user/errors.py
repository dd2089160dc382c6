"""What can go wrong with profiles."""

from typing import ClassVar

from domain.errors import InvalidInput, NotFound


class InvalidProfile(InvalidInput):
    """A field breaks its rule; `field` names it. The value is not repeated: it may be health data."""

    reason: ClassVar[str] = "INVALID_PROFILE"

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field} {rule}.", field=field)


class ProfileNotFound(NotFound):
    reason: ClassVar[str] = "PROFILE_NOT_FOUND"

    def __init__(self, user_id: str) -> None:
        super().__init__(f"There is no profile of user {user_id}.", user_id=user_id)
