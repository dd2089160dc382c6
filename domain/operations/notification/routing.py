"""Which way a notification goes: at once, later, or not at all, and why. Pure; every rule about it stands here.

- A type that the person has switched off is not sent and not listed; a health alert is listed in any case.
- Offers need the preference and the marketing consent, and are not sent between 21:00 and 08:00 (Act on Promotion of
  Information and Communications Network Utilization and Information Protection, article 50 (3), Republic of Korea).
- A channel that the person has switched off is not used, also when it is asked for.
- Quiet hours hold back what rings (push, mail, text message), unless it is urgent. The app's list is silent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import assert_never

from domain.operations.notification.models import Channel, NotificationType, Preferences, Priority
from domain.operations.notification.quiet_hours import QuietHours

NO_OFFERS = QuietHours(21 * 60, 8 * 60)

OUTSIDE_CHANNELS = (Channel.PUSH, Channel.EMAIL, Channel.SMS)


@dataclass(frozen=True, slots=True)
class Now:
    """Send it."""


@dataclass(frozen=True, slots=True)
class Later:
    """Look again at this moment."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Never:
    """Do not send it; `reason` is stable."""

    reason: str


Route = Now | Later | Never


@dataclass(frozen=True, slots=True)
class Recipient:
    """What a decision needs to know of the person.

    Args:
        agreed_to_marketing: None while it is not known.
    """

    preferences: Preferences
    zone: tzinfo
    agreed_to_marketing: bool | None


def channels_of(asked: Channel | None, preferences: Preferences) -> Sequence[Channel]:
    """The channels besides the app's list that a notification is meant for: the one asked for, or those enabled."""
    match asked:
        case None:
            return tuple(channel for channel in OUTSIDE_CHANNELS if is_enabled(channel, preferences))
        case Channel.IN_APP:
            return ()
        case _:
            return (asked,)


def is_enabled(channel: Channel, preferences: Preferences) -> bool:
    """Whether the person wants to be reached this way."""
    match channel:
        case Channel.IN_APP:
            return True
        case Channel.PUSH:
            return preferences.push_enabled
        case Channel.EMAIL:
            return preferences.email_enabled
        case Channel.SMS:
            return preferences.sms_enabled
        case _:
            assert_never(channel)


def wants(kind: NotificationType, preferences: Preferences) -> bool:
    """Whether the person wants messages of this type."""
    match kind:
        case NotificationType.MEASUREMENT:
            return preferences.measurement_alerts
        case NotificationType.HEALTH_ALERT:
            return preferences.health_alerts
        case NotificationType.APPOINTMENT:
            return preferences.appointment_reminders
        case NotificationType.COMMUNITY:
            return preferences.community_updates
        case NotificationType.PROMOTION:
            return preferences.promotions
        case NotificationType.PRESCRIPTION | NotificationType.SYSTEM:
            return True
        case _:
            assert_never(kind)


def route(kind: NotificationType, priority: Priority, channel: Channel, to: Recipient, *, at: datetime) -> Route:
    """What to do at this moment on one channel."""
    if refusal := _refusal(kind, channel, to):
        return Never(refusal)
    if channel is Channel.IN_APP:
        return Now()
    ends = [NO_OFFERS.over_at(at, to.zone)] if kind is NotificationType.PROMOTION else []
    if to.preferences.quiet_hours is not None and priority is not Priority.URGENT:
        ends.append(to.preferences.quiet_hours.over_at(at, to.zone))
    held = [end for end in ends if end is not None]
    return Later(max(held)) if held else Now()


def _refusal(kind: NotificationType, channel: Channel, to: Recipient) -> str | None:
    kept_in_any_case = kind is NotificationType.HEALTH_ALERT and channel is Channel.IN_APP
    if not wants(kind, to.preferences) and not kept_in_any_case:
        return "TYPE_OFF"
    if kind is NotificationType.PROMOTION and not to.agreed_to_marketing:
        return "NO_MARKETING_CONSENT"
    if not is_enabled(channel, to.preferences):
        return "CHANNEL_OFF"
    return None
