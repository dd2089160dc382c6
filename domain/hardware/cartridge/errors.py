"""What can go wrong with cartridges; what is wrong with tags stands in `nfc_tag`."""

from domain.errors import AppError, Forbidden, InvalidInput, NotFound, WrongState
from domain.hardware.cartridge.models import Refusal


class CartridgeNotFound(NotFound):
    """This person has never read this cartridge."""

    reason = Refusal.UNKNOWN.value

    def __init__(self, uid: str) -> None:
        super().__init__(f"No cartridge {uid[:64]} has been read.", cartridge_uid=uid[:64])


class CartridgeTypeNotFound(NotFound):
    """The registry has no such type or category."""

    reason = Refusal.TYPE_UNKNOWN.value


class CartridgeExpired(WrongState):
    reason = Refusal.EXPIRED.value


class CartridgeUsedUp(WrongState):
    reason = Refusal.USED_UP.value


class CartridgeTypeInactive(WrongState):
    reason = Refusal.TYPE_INACTIVE.value


class CartridgeTypeUnregistered(WrongState):
    reason = Refusal.TYPE_UNKNOWN.value


class CartridgeTypeMismatch(InvalidInput):
    """The call names another type than the cartridge's tag."""

    reason = Refusal.TYPE_MISMATCH.value


class CartridgeBelongsToAnother(Forbidden):
    """The tag is signed, and another person has shown it before."""

    reason = "CARTRIDGE_BELONGS_TO_ANOTHER"

    def __init__(self, uid: str) -> None:
        super().__init__(
            "Another person uses this cartridge; take one of your own, or ask the support to release it.",
            cartridge_uid=uid,
        )


class SessionNotRecorded(NotFound):
    """No use of this cartridge is recorded for this session of the caller."""

    reason = "SESSION_NOT_RECORDED"

    def __init__(self, session_id: str) -> None:
        super().__init__(
            "This session has not used this cartridge: a use is recorded when the session is started.",
            session_id=session_id[:64],
        )


class LotFileInvalid(InvalidInput):
    """A lot file that cannot be imported; nothing of it was."""

    reason = "LOT_FILE_INVALID"


class RegistryEntryInvalid(InvalidInput):
    """A category or type that cannot be registered as it is."""

    reason = "REGISTRY_ENTRY_INVALID"


def refused(refusal: Refusal, uid: str) -> AppError:
    """The error for a cartridge that may not be used."""
    match refusal:
        case Refusal.UNKNOWN:
            return CartridgeNotFound(uid)
        case Refusal.EXPIRED:
            return CartridgeExpired(refusal.message(), cartridge_uid=uid)
        case Refusal.USED_UP:
            return CartridgeUsedUp(refusal.message(), cartridge_uid=uid)
        case Refusal.TYPE_UNKNOWN:
            return CartridgeTypeUnregistered(refusal.message(), cartridge_uid=uid)
        case Refusal.TYPE_INACTIVE:
            return CartridgeTypeInactive(refusal.message(), cartridge_uid=uid)
        case Refusal.TYPE_MISMATCH:
            return CartridgeTypeMismatch(refusal.message(), cartridge_uid=uid)
