"""What can go wrong on the reader's side of the wire. Every error here names the part and the value at fault."""


class DeviceError(Exception):
    """Base of all errors that this package raises on purpose."""


class TagError(DeviceError):
    """The bytes of an NFC tag are not a cartridge tag."""


class TagTooShort(TagError):
    """Fewer bytes were read than the tag's version needs."""

    def __init__(self, *, version: int, needed: int, got: int) -> None:
        super().__init__(f"a version {version} tag needs at least {needed} bytes, got {got}")
        self.version = version
        self.needed = needed
        self.got = got


class TagChecksumMismatch(TagError):
    """The stored CRC-32 does not match the bytes before it: misread, damaged or forged."""

    def __init__(self, *, stored: int, computed: int) -> None:
        super().__init__(f"tag checksum is {stored:#010x}, its contents give {computed:#010x}")
        self.stored = stored
        self.computed = computed


class TagVersionUnsupported(TagError):
    """No codec for this tag version."""

    def __init__(self, version: int) -> None:
        super().__init__(f"tag version {version} is not supported (known: 1, 2)")
        self.version = version


class TagFieldInvalid(TagError):
    """A field of the tag holds a value that the format forbids."""

    def __init__(self, field: str, value: object, rule: str) -> None:
        super().__init__(f"tag field {field} is {value!r}: {rule}")
        self.field = field
        self.value = value
        self.rule = rule


class FrameInvalid(DeviceError):
    """A measurement frame holds a value that no reader may send."""

    def __init__(self, field: str, value: object, rule: str) -> None:
        super().__init__(f"frame field {field} is {value!r}: {rule}")
        self.field = field
        self.value = value
        self.rule = rule


class PacketError(DeviceError):
    """The bytes are not a measurement packet."""


class PacketTruncated(PacketError):
    """The bytes end before the packet does."""

    def __init__(self, *, needed: int, got: int) -> None:
        super().__init__(f"packet needs {needed} bytes, got {got}")
        self.needed = needed
        self.got = got


class PacketTooLong(PacketError):
    """Bytes follow the end of the packet."""

    def __init__(self, *, expected: int, got: int) -> None:
        super().__init__(f"packet ends after {expected} bytes, got {got}")
        self.expected = expected
        self.got = got


class PacketHeaderInvalid(PacketError):
    """Magic, version or flags are not those of this format."""

    def __init__(self, field: str, value: object, rule: str) -> None:
        super().__init__(f"packet header field {field} is {value!r}: {rule}")
        self.field = field
        self.value = value
        self.rule = rule


class PacketChecksumMismatch(PacketError):
    """The stored CRC-32 does not match the packet's bytes."""

    def __init__(self, *, stored: int, computed: int) -> None:
        super().__init__(f"packet checksum is {stored:#010x}, its contents give {computed:#010x}")
        self.stored = stored
        self.computed = computed
