"""What can go wrong with notifications, besides what every command shares."""

from domain.errors import Forbidden, InvalidInput, LimitExceeded, NotFound, Unavailable


class NotificationNotFound(NotFound):
    """There is none with this id that the caller may know of."""

    reason = "NOTIFICATION_NOT_FOUND"

    def __init__(self, notification_id: str) -> None:
        super().__init__("There is no such notification.", notification_id=notification_id[:64])


class InvalidNotification(InvalidInput):
    """A field breaks its rule; `field` names it. The value is not repeated: it may be health data."""

    reason = "INVALID_NOTIFICATION"

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field} {rule}.", field=field)


class MayNotSend(Forbidden):
    """People send to themselves only, and only into the app."""

    reason = "MAY_NOT_SEND"


class TooManyNotifications(LimitExceeded):
    """The person has sent themselves as many as an hour takes."""

    reason = "TOO_MANY_NOTIFICATIONS"


class PhoneCodeRefused(InvalidInput):
    """The code is wrong, used or expired, or too many wrong ones were given; which of these is not told."""

    reason = "PHONE_CODE_REFUSED"

    def __init__(self) -> None:
        super().__init__("The code is not right, or not good any more; ask for a new one.", field="code")


class PhoneCodeNotSent(Unavailable):
    """The text message with the code could not be sent."""

    reason = "PHONE_CODE_NOT_SENT"


class TooManyPhoneCodes(LimitExceeded):
    """More codes were asked for than a person, a number or a network gets."""

    reason = "TOO_MANY_PHONE_CODES"


class TemplateNotFound(NotFound):
    """There is no template with this key."""

    reason = "TEMPLATE_NOT_FOUND"

    def __init__(self, key: str) -> None:
        super().__init__("There is no template with this key.", template_key=key[:64])


class TemplateVariableMissing(InvalidInput):
    """A variable of the template was not given."""

    reason = "TEMPLATE_VARIABLE_MISSING"

    def __init__(self, name: str) -> None:
        super().__init__(f"The template needs a value for {name}.", field="data", variable=name)


class InvalidTemplate(InvalidInput):
    """A template breaks a rule; the message says which."""

    reason = "INVALID_TEMPLATE"

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field} {rule}.", field=field)
