"""Delivers notifications by push, mail and text message: the worker behind the table of deliveries.

A worker claims due deliveries (SKIP LOCKED) with a lease and commits; then it asks user-service and the provider without
holding a session; then it records the outcome, and with an arrival `notification.sent`, in one transaction (in one for all
of a batch that lead nowhere). Any number of
instances work side by side. A process that dies between the provider's answer and the record leaves a lease that runs out:
the message is sent once more, and no more than that per death. The second one replaces the first on a phone (its collapse
key) and in a mailbox (its Message-ID); a text message may be read twice.

Whether and when a channel is used is decided at each attempt (`routing`), so that preferences of now hold, and not those of
the moment in which the notification was made.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.errors import TimedOut, Unavailable
from domain.messaging import Outbox
from domain.operations.notification import discretion
from domain.operations.notification.models import (
    Channel,
    Delivery,
    DeliveryState,
    Message,
    Notification,
    NotificationType,
    Preferences,
    Priority,
    PushToken,
)
from domain.operations.notification.ports import (
    Accepted,
    Contact,
    Contacts,
    NotNow,
    Outcome,
    Providers,
    Refused,
    Unregistered,
)
from domain.operations.notification.preference_service import PreferenceService
from domain.operations.notification.repository import DeliveryRepository, NotificationRepository, PushTokenRepository
from domain.operations.notification.routing import Later, Never, Now, Recipient, route
from domain.operations.notification.sealed_content import open_message
from domain.operations.notification.sending import sent_event
from domain.operations.notification.voice import Voice, zone_of
from domain.sealing import SealBroken, Sealer
from domain.sessions import Sessions

BATCH = 20
LEASE = timedelta(seconds=120)
"""Longer than a batch can take: its deliveries are attempted at once, each within the time-outs of its providers."""

MAX_TRIES = 8
GIVE_UP_AFTER = timedelta(hours=72)
"""A message that quiet hours and outages have held back for so long is news no more."""

_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 3600.0
_CONTACTS_PAUSE = timedelta(seconds=15)
_MAX_REASON = 200

_log = structlog.get_logger("notification deliveries")


@dataclass(frozen=True, slots=True)
class Skip:
    """The channel leads nowhere for this person."""

    reason: str


Step = Outcome | Later | Skip


@dataclass(frozen=True, slots=True)
class _Job:
    """A claimed delivery with all that an attempt needs from the database."""

    delivery: Delivery
    message: Message
    preferences: Preferences
    phone: str
    tokens: Sequence[PushToken]


class DeliveryWorker:
    """Attempts what is due."""

    def __init__(
        self,
        clock: Clock,
        *,
        sealer: Sealer,
        sessions: Sessions,
        contacts: Contacts,
        preferences: PreferenceService,
        providers: Providers,
    ) -> None:
        self._clock = clock
        self._sealer = sealer
        self._sessions = sessions
        self._contacts = contacts
        self._preferences = preferences
        self._providers = providers

    async def deliver_due(self) -> int:
        """Attempt one batch of deliveries and answer how many there were."""
        jobs = await self._claim()
        if not jobs:
            return 0
        people = {job.message.row.user_id for job in jobs}
        try:
            contacts = await self._contacts.find(people)
        except (Unavailable, TimedOut) as error:
            _log.info("deliveries wait for user-service", count=len(jobs), error=error.reason)
            await self._wait_for_contacts(jobs)
            return len(jobs)
        attempts = (self._attempt(job, contacts.get(job.message.row.user_id)) for job in jobs)
        # Each to its end, also when the record of another one fails: what a provider has taken should be recorded.
        ended = await asyncio.gather(*attempts, return_exceptions=True)
        if skipped := [outcome for outcome in ended if isinstance(outcome, tuple)]:
            async with self._sessions.transaction() as session:
                await DeliveryRepository(session).end(DeliveryState.SKIPPED, skipped)
        if failures := [outcome for outcome in ended if isinstance(outcome, BaseException)]:
            raise failures[0]
        return len(jobs)

    async def _claim(self) -> list[_Job]:
        now = self._clock.now()
        async with self._sessions.transaction() as session:
            deliveries = await DeliveryRepository(session).claim(now=now, lease_until=now + LEASE, limit=BATCH)
            if not deliveries:
                return []
            rows = await NotificationRepository(session).get_many({d.notification_id for d in deliveries})
            messages = await self._open(session, rows, deliveries)
            people = {row.user_id for row in rows}
            preferences = await self._preferences.of_many(session, people)
            phones = await self._preferences.phones_of(session, people)
            tokens = await PushTokenRepository(session).of(people)
        jobs = []
        for delivery in deliveries:
            if (message := messages.get(delivery.notification_id)) is not None:
                person = message.row.user_id
                jobs.append(_Job(delivery, message, preferences[person], phones.get(person, ""), tokens[person]))
        return jobs

    async def _open(
        self, session: AsyncSession, rows: Sequence[Notification], deliveries: Sequence[Delivery]
    ) -> dict[str, Message]:
        """The messages by id. One whose seal is broken fails for good: it must not stop the others, whose turn it takes."""
        messages: dict[str, Message] = {}
        for row in rows:
            try:
                messages[row.notification_id] = open_message(self._sealer, row)
            except SealBroken as error:
                _log.error("a notification does not open", notification=row.notification_id, error=str(error))
        for delivery in deliveries:
            if delivery.notification_id not in messages:
                await DeliveryRepository(session).end(DeliveryState.FAILED, [(delivery, "UNREADABLE")])
        return messages

    async def _wait_for_contacts(self, jobs: Sequence[_Job]) -> None:
        """Nothing was tried: user-service does not answer."""
        until = self._clock.now() + _CONTACTS_PAUSE
        async with self._sessions.transaction() as session:
            for job in jobs:
                await DeliveryRepository(session).postpone(
                    job.delivery, until=until, reason="CONTACT_UNKNOWN", counts=False
                )

    async def _attempt(self, job: _Job, contact: Contact | None) -> tuple[Delivery, str] | None:
        """Try, and record the outcome at once; a delivery that leads nowhere is answered with its reason instead, because
        nothing was sent, and many of them are recorded together."""
        try:
            step = await self._step(job, contact)
        except Exception as error:  # noqa: BLE001 - the boundary: one message that trips us must not hold up the others
            _log.error("an attempt failed", notification=job.delivery.notification_id, exc_info=error)
            step = NotNow("INTERNAL_ERROR")
        if isinstance(step, Skip):
            return job.delivery, step.reason
        async with self._sessions.transaction() as session:
            await self._record(session, job, step)
        return None

    async def _step(self, job: _Job, contact: Contact | None) -> Step:
        """What the rules and, if they allow it, the provider say."""
        row, known = job.message.row, contact or Contact(job.message.row.user_id)
        now = self._clock.now()
        if now - row.created_at > GIVE_UP_AFTER:
            return Refused("TOO_OLD")
        to = Recipient(job.preferences, zone=zone_of(known.timezone), agreed_to_marketing=known.agreed_to_marketing)
        channel = Channel(job.delivery.channel)
        decision = route(NotificationType(row.type), Priority(row.priority), channel, to, at=now)
        match decision:
            case Now():
                return await self._send(job, known, channel)
            case Later():
                return decision
            case Never(reason):
                return Skip(reason)
            case _:
                assert_never(decision)

    async def _send(self, job: _Job, contact: Contact, channel: Channel) -> Step:
        voice = Voice.of(contact.language, contact.timezone)
        match channel:
            case Channel.IN_APP:
                return Accepted("")
            case Channel.PUSH:
                return await self._push(job, voice)
            case Channel.EMAIL:
                if not self._providers.mail.is_configured:
                    return Skip("NOT_CONFIGURED")
                if not contact.email:
                    return Skip("NO_EMAIL")
                return await self._providers.mail.send(discretion.mail(job.message, voice, to=contact.email))
            case Channel.SMS:
                if not self._providers.text.is_configured:
                    return Skip("NOT_CONFIGURED")
                if not job.phone:
                    return Skip("NO_PHONE")
                return await self._providers.text.send(job.phone, discretion.text_message(job.message, voice))
            case _:
                assert_never(channel)

    async def _push(self, job: _Job, voice: Voice) -> Step:
        """Every phone of the person that was not reached yet. It has arrived when it has arrived at one of them and no other
        one may still take it."""
        if not self._providers.push.is_configured:
            return Skip("NOT_CONFIGURED")
        if not job.tokens:
            return Skip("NO_DEVICE")
        message = discretion.push_message(job.message, voice)
        waiting = [token for token in job.tokens if token.token_hash not in job.delivery.reached]
        outcomes = await asyncio.gather(*(self._providers.push.send(token.token, message) for token in waiting))
        names: list[str] = []
        later: list[NotNow] = []
        refused: list[Refused] = []
        for token, outcome in zip(waiting, outcomes, strict=True):
            match outcome:
                case Accepted(name):
                    job.delivery.reached = [*job.delivery.reached, token.token_hash]
                    names.append(name)
                case NotNow():
                    later.append(outcome)
                case Refused():
                    refused.append(outcome)
                case Unregistered():
                    await self._forget(token)
                case _:
                    assert_never(outcome)
        if later:
            return max(later, key=lambda outcome: outcome.after_s)
        if job.delivery.reached:
            return Accepted(names[-1] if names else "")
        return refused[0] if refused else Skip("NO_DEVICE")

    async def _forget(self, token: PushToken) -> None:
        async with self._sessions.transaction() as session:
            await PushTokenRepository(session).remove(token.token_hash, user_id=token.user_id)

    async def _record(self, session: AsyncSession, job: _Job, step: Outcome | Later) -> None:
        now = self._clock.now()
        repository = DeliveryRepository(session)
        delivery = job.delivery
        match step:
            case Accepted(provider_id):
                await self._record_arrival(session, job, provider_id, now)
            case Later(until):
                await repository.postpone(delivery, until=until, reason="QUIET_HOURS", counts=False)
            case NotNow(reason, after_s) if delivery.tries < MAX_TRIES:
                pause = max(after_s, min(_FIRST_PAUSE_S * 2 ** (delivery.tries - 1), _LONGEST_PAUSE_S))
                until = now + timedelta(seconds=min(pause, GIVE_UP_AFTER.total_seconds()))
                await repository.postpone(delivery, until=until, reason=reason[:_MAX_REASON], counts=True)
            case NotNow(reason) if delivery.reached:
                await self._record_arrival(session, job, delivery.provider_id or "", now)
                _log.warning("a push did not reach every phone", notification=delivery.notification_id, why=reason)
            case NotNow(reason) | Refused(reason):
                _log.warning(
                    "delivery failed", notification=delivery.notification_id, channel=delivery.channel, why=reason
                )
                await repository.end(DeliveryState.FAILED, [(delivery, reason[:_MAX_REASON])])
            case _:
                assert_never(step)

    async def _record_arrival(self, session: AsyncSession, job: _Job, provider_id: str, now: datetime) -> None:
        row, channel = job.message.row, Channel(job.delivery.channel)
        arrived = await DeliveryRepository(session).arrive(
            job.delivery, at=now, provider_id=provider_id[:_MAX_REASON] or None
        )
        if not arrived:
            return
        if channel is Channel.IN_APP and await NotificationRepository(session).list(row.notification_id, at=now):
            await NotificationRepository(session).wake(row.user_id)
        await Outbox(session).add(sent_event(row, channel, now))


async def keep_delivering(worker: DeliveryWorker, *, every_s: float = 0.5) -> None:
    """`deliver_due` for as long as the process lives; any number of instances may do it at once."""
    while True:
        if await worker.deliver_due() < BATCH:
            await asyncio.sleep(every_s)
