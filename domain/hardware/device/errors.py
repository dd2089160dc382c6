"""What can go wrong with readers, besides what every command shares."""

from domain.errors import AlreadyExists, Forbidden, InvalidInput, LimitExceeded, NotFound, Unauthenticated, WrongState


class DeviceFieldInvalid(InvalidInput):
    """A field of a reader has a value that it cannot have."""

    reason = "DEVICE_FIELD_INVALID"


class DeviceClaimRefused(Forbidden):
    """The caller may not register this reader. It does not say why: unknown serial number, no or a wrong claim code,
    another owner, or another id than the factory's give the same answer.
    """

    reason = "DEVICE_CLAIM_REFUSED"

    def __init__(self) -> None:
        super().__init__(
            "This device cannot be registered with this serial number and claim code. Check both on the device; "
            "if it had another owner, that person has to remove it first."
        )


class TooManyClaims(LimitExceeded):
    """Too many refused registrations of this account; `retry_after_s` says when the next one may be made."""

    reason = "TOO_MANY_DEVICE_CLAIMS"


class DeviceLimitReached(LimitExceeded):
    """The owner's plan allows no further reader."""

    reason = "DEVICE_LIMIT_REACHED"

    def __init__(self, max_devices: int) -> None:
        super().__init__(
            f"The plan allows {max_devices} registered devices; remove one, or choose a larger plan.",
            max_devices=max_devices,
        )


class DeviceFileInvalid(InvalidInput):
    """A file of device records that cannot be imported; nothing of it was."""

    reason = "DEVICE_FILE_INVALID"


class SerialNumberTaken(AlreadyExists):
    """The owner's own reader has another serial number or another id."""

    reason = "SERIAL_NUMBER_TAKEN"


class CredentialRefused(Unauthenticated):
    """Unknown reader or wrong credential; it does not say which."""

    reason = "DEVICE_CREDENTIAL_REFUSED"

    def __init__(self) -> None:
        super().__init__("This device credential is not valid.")


class TooManyCommands(LimitExceeded):
    """The reader has not fetched the commands it was sent before."""

    reason = "TOO_MANY_COMMANDS"


class FirmwareNotFound(NotFound):
    """No firmware of this version was published."""

    reason = "FIRMWARE_NOT_FOUND"


class FirmwareNotNewer(WrongState):
    """The reader runs this version, or a newer one."""

    reason = "FIRMWARE_NOT_NEWER"


class FirmwareStepNeeded(WrongState):
    """The reader is too old for this version and has to install another one first."""

    reason = "FIRMWARE_STEP_NEEDED"


class FirmwareAlreadyPublished(AlreadyExists):
    """The version was published with other content; a published version never changes."""

    reason = "FIRMWARE_ALREADY_PUBLISHED"
