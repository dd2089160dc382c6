"""What device, cartridge and calibration share: the code of a cartridge type, and the numbers of channels there are."""

from dataclasses import dataclass

from domain.errors import InvalidInput

CHANNEL_COUNTS = (88, 448, 896, 1792)
"""How many electrode channels a frame may have."""

DEFAULT_VALIDITY_DAYS = 365


@dataclass(frozen=True, slots=True)
class VersionedUnit:
    """The unit (UCUM) of a cartridge type, and which of its versions has it. Another unit is another version."""

    version: int
    unit: str


@dataclass(frozen=True, slots=True, order=True)
class CartridgeCode:
    """Names a cartridge type: category byte and index byte, each 1 to 255.

    Raises:
        InvalidInput: a number that does not fit into its byte of the tag.
    """

    category: int
    type_index: int

    def __post_init__(self) -> None:
        for field, value in (("category", self.category), ("type_index", self.type_index)):
            if not 1 <= value <= 0xFF:
                raise InvalidInput(f"{field} is {value}; it must be between 1 and 255.", field=field)

    def __str__(self) -> str:
        return f"0x{self.category:02X}/0x{self.type_index:02X}"
