"""What a tag says, of either version, as it is stored; and which of it is out of range."""

from dataclasses import dataclass
from datetime import date

from domain.hardware.cartridge.nfc_tag import TagInvalid, TagV2
from domain.hardware.ranges import alpha_fault, channels_fault, coefficient_fault, expiry_fault, uses_fault


@dataclass(frozen=True, slots=True)
class TagContent:
    """What a tag says, of either version, with the type that it names.

    Args:
        signed: whether the tag carries a signature that holds under the key of its lot.
    """

    version: int
    uid: str
    category: int
    type_index: int
    legacy_code: int | None
    remaining_uses: int
    max_uses: int
    lot_id: str = ""
    expires_on: date | None = None
    required_channels: int | None = None
    measurement_s: int | None = None
    flags: int = 0
    alpha: float | None = None
    temp_coefficient: float | None = None
    humidity_coefficient: float | None = None
    extended_calibration: bytes = b""
    signed: bool = False

    @property
    def fixed(self) -> dict[str, object]:
        """What the maker writes once: columns of `Cartridge` that readers never change on a tag."""
        return {
            "tag_version": self.version,
            "category": self.category,
            "type_index": self.type_index,
            "legacy_code": self.legacy_code,
            "lot_id": self.lot_id,
            "expires_on": self.expires_on,
            "max_uses": self.max_uses,
            "required_channels": self.required_channels,
            "measurement_s": self.measurement_s,
            "alpha": self.alpha,
            "temp_coefficient": self.temp_coefficient,
            "humidity_coefficient": self.humidity_coefficient,
        }


def content_of(tag: TagV2, *, signed: bool) -> TagContent:
    """The content of a version 2 tag.

    Raises:
        TagInvalid: a number or a date that no cartridge has.
    """
    faults = {
        "alpha": alpha_fault(tag.alpha),
        "temp_coefficient": coefficient_fault("temp_coefficient", tag.temp_coefficient),
        "humidity_coefficient": coefficient_fault("humidity_coefficient", tag.humidity_coefficient),
        "max_uses": uses_fault("max_uses", tag.max_uses),
        "expiry_date": expiry_fault(tag.expires_on),
        "required_channels": channels_fault(tag.required_channels),
    }
    for field, fault in faults.items():
        if fault is not None:
            raise TagInvalid(f"The tag is out of range: {fault}.", field=field)
    return TagContent(
        version=2,
        uid=tag.cartridge_uid,
        category=tag.category,
        type_index=tag.type_index,
        legacy_code=tag.legacy_code or None,
        lot_id=tag.lot_id,
        expires_on=tag.expires_on,
        remaining_uses=tag.remaining_uses,
        max_uses=tag.max_uses,
        required_channels=tag.required_channels,
        measurement_s=tag.measurement_s,
        flags=tag.flags,
        alpha=tag.alpha,
        temp_coefficient=tag.temp_coefficient,
        humidity_coefficient=tag.humidity_coefficient,
        extended_calibration=tag.extended_calibration,
        signed=signed,
    )
