"""What can go wrong with readers, besides what every command shares."""

from domain.errors import AlreadyExists, InvalidInput, LimitExceeded, NotFound, Unauthenticated, WrongState


class DeviceFieldInvalid(InvalidInput):
    """A field of a reader has a value that it cannot have."""

    reason = "DEVICE_FIELD_INVALID"


class DeviceBelongsToAnother(AlreadyExists):
    """The id is registered, by somebody else."""

    reason = "DEVICE_ALREADY_REGISTERED"


class SerialNumberTaken(AlreadyExists):
    """The serial number stands on another reader, or this reader has another serial number."""

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
