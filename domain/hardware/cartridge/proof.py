"""What a tag proves, and which values count for it.

A tag is a claim. The factory is the truth: a uid that it has registered has the registered values, whatever a tag says;
a tag that carries the signature of its lot has its own. Every other tag names a cartridge and its type, and nothing else
of it is used: the type's defaults apply, and the results are unverified.

Who reads a tag gets a reading of their own, so that a stranger who knows a uid reaches only what is the stranger's.
A signature proves that the tag was at hand: the first person to show it has the cartridge to themselves. From then on
readings of others with the same uid are unverified, registered or not: there is one such cartridge.
"""

from dataclasses import dataclass
from datetime import date

from domain.hardware.cartridge.models import Cartridge, CartridgeLot, Proof, RegisteredCartridge, ResolvedCartridge


@dataclass(frozen=True, slots=True)
class KnownFacts:
    """What is known beside a reading.

    Args:
        registered: the factory's row of its uid.
        lot: that of the factory's row, or else the one that the tag names.
        signed_by_another: whether another person has shown the signature.
    """

    registered: RegisteredCartridge | None
    lot: CartridgeLot | None
    signed_by_another: bool


def resolve(reading: Cartridge, known: KnownFacts) -> ResolvedCartridge:
    """The cartridge as it counts for the person of a reading."""
    registered, lot = known.registered, known.lot
    if registered is not None and lot is not None and (reading.signed or not known.signed_by_another):
        return ResolvedCartridge(
            uid=reading.uid,
            owner_user_id=reading.owner_user_id,
            proof=Proof.SIGNATURE if reading.signed else Proof.REGISTRY,
            category=lot.category,
            type_index=lot.type_index,
            legacy_code=None,
            lot_id=lot.lot_id,
            expires_on=_earlier(registered.expires_on, lot.expires_on),
            remaining_uses=min(reading.remaining_uses, registered.max_uses),
            max_uses=registered.max_uses,
            required_channels=None,
            measurement_s=None,
            alpha=registered.alpha,
            temp_coefficient=registered.temp_coefficient,
            humidity_coefficient=registered.humidity_coefficient,
        )
    trusted = reading.signed
    return ResolvedCartridge(
        uid=reading.uid,
        owner_user_id=reading.owner_user_id,
        proof=Proof.SIGNATURE if trusted else Proof.NONE,
        category=reading.category,
        type_index=reading.type_index,
        legacy_code=reading.legacy_code,
        lot_id=reading.lot_id,
        expires_on=_earlier(reading.expires_on, lot.expires_on) if trusted and lot else reading.expires_on,
        remaining_uses=reading.remaining_uses,
        max_uses=reading.max_uses,
        required_channels=reading.required_channels if trusted else None,
        measurement_s=reading.measurement_s if trusted else None,
        alpha=reading.alpha if trusted else None,
        temp_coefficient=reading.temp_coefficient if trusted else None,
        humidity_coefficient=reading.humidity_coefficient if trusted else None,
    )


def _earlier(day: date | None, other: date | None) -> date | None:
    """The earlier of two last days; None = no last day."""
    if day is None or other is None:
        return day or other
    return min(day, other)
