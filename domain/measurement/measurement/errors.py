"""What can be wrong with a session or a frame; each with its own stable reason."""

from domain.errors import Conflict, Forbidden, InvalidInput, NotFound, Unavailable, WrongState


class SessionNotFound(NotFound):
    """No session has this id."""

    reason = "SESSION_NOT_FOUND"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"There is no measurement session {session_id[:64]!r}.", session_id=session_id[:64])


class SessionForeign(Forbidden):
    """The session belongs to somebody else, or to another reader."""

    reason = "SESSION_FOREIGN"

    def __init__(self, session_id: str) -> None:
        super().__init__("This measurement session belongs to somebody else.", session_id=session_id)


class CalibrationUnitUnknown(WrongState):
    """The unit of the reader's calibration is not known, so its values would have none."""

    reason = "CALIBRATION_UNIT_UNKNOWN"

    def __init__(self, *, device_id: str) -> None:
        super().__init__(
            "The unit of this reader's calibration is not known; have the reader calibrated again.", device_id=device_id
        )


class SessionEnded(WrongState):
    """The session takes no more frames."""

    reason = "SESSION_ENDED"

    def __init__(self, session_id: str) -> None:
        super().__init__("This measurement session has ended; start a new one.", session_id=session_id)


class SessionNotEnded(WrongState):
    """The session has no result yet."""

    reason = "SESSION_NOT_ENDED"

    def __init__(self, session_id: str) -> None:
        super().__init__("This measurement session has not ended; end it first.", session_id=session_id)


class SessionEmpty(WrongState):
    """The session ended without a frame, so there is nothing to export."""

    reason = "SESSION_EMPTY"

    def __init__(self, session_id: str) -> None:
        super().__init__("This measurement session ended without a frame.", session_id=session_id)


class StreamSuperseded(Conflict):
    """Another stream has taken the session over; the newest one writes."""

    reason = "STREAM_SUPERSEDED"

    def __init__(self, session_id: str) -> None:
        super().__init__("Another stream has been opened for this session.", session_id=session_id)


class SessionBusy(Unavailable):
    """The session was locked for longer than a frame can wait."""

    reason = "SESSION_BUSY"

    def __init__(self, session_id: str) -> None:
        super().__init__("This measurement session is busy; open the stream again.", session_id=session_id)


class FramesNotStored(Unavailable):
    """The database did not take the frames; those that were not answered must be sent again."""

    reason = "FRAMES_NOT_STORED"

    def __init__(self) -> None:
        super().__init__("Frames cannot be stored at the moment; open the stream again and repeat the unanswered ones.")


class FrameInvalid(InvalidInput):
    """A frame that can never be stored."""

    reason = "FRAME_INVALID"


class FrameStoredOffline(FrameInvalid):
    """A frame from before its session, where only live ones are taken."""

    reason = "FRAME_STORED_OFFLINE"

    def __init__(self) -> None:
        super().__init__(
            "The frame was measured before its session began, and this platform takes live frames only.",
            field="timestamp",
        )


class SessionChanged(InvalidInput):
    """A stream carries the frames of one session."""

    reason = "SESSION_CHANGED"

    def __init__(self) -> None:
        super().__init__(
            "Every frame of a stream must name the session of the first; open a stream for each.", field="session_id"
        )


class StartInProgress(Conflict):
    """The same start is being worked on: another call with its key came in before."""

    reason = "START_IN_PROGRESS"

    def __init__(self) -> None:
        super().__init__("This session is being started already; ask again in a moment.")


class UnverifiedRefused(WrongState):
    """Sessions on unknown readers or cartridges are refused here (`UNVERIFIED_SESSIONS=refuse`)."""

    reason = "UNVERIFIED_SESSION_REFUSED"


class DeviceForeign(Forbidden):
    """The reader is registered to another user, or the credential is another reader's."""

    reason = "DEVICE_FOREIGN"


class CartridgeMismatch(InvalidInput):
    """The request names another cartridge type than the cartridge has."""

    reason = "CARTRIDGE_TYPE_MISMATCH"


class CartridgeRefused(WrongState):
    """The cartridge may not be used; `reason` says why, for example `CARTRIDGE_EXPIRED`."""

    def __init__(self, refusal: str, message: str, *, cartridge_uid: str) -> None:
        super().__init__(message or "The cartridge cannot be used.", cartridge_uid=cartridge_uid)
        # An instance shadows the class: the registry decides which refusals there are.
        self.reason = refusal  # type: ignore[misc]  # ClassVar by declaration of AppError
