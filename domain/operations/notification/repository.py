"""Every SQL statement about notifications. Lock order: deliveries, then their notifications, by id."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Integer,
    String,
    and_,
    any_,
    bindparam,
    delete,
    func,
    or_,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from domain.operations.base import Base
from domain.operations.notification.models import (
    ContactPhone,
    Delivery,
    DeliveryState,
    MessageFilter,
    Notification,
    PendingPhone,
    PreferencesRow,
    PushToken,
    Template,
    TemplateText,
)
from domain.paging import Page, PageRequest

LISTED_CHANNEL = "notifications_listed"
"""NOTIFY channel that wakes open apps; the payload is the user id."""

_LISTED = Notification.listed_at.is_not(None)
_UNREAD = and_(_LISTED, Notification.read_at.is_(None))

# What every message needs, written once: building a statement of ten columns costs as much as executing it. Into the
# tables, not the entities: nobody needs the rows that were made.
_ADD = (
    insert(Base.metadata.tables[Notification.__tablename__])
    .on_conflict_do_nothing()
    .returning(Notification.notification_id)
)
_DELIVERIES = Base.metadata.tables[Delivery.__tablename__]
_ADD_DELIVERY = insert(_DELIVERIES).inline()
_WAKE = select(func.pg_notify(LISTED_CHANNEL, bindparam("user_id", type_=String)))


def _values(row: Notification | Delivery) -> dict[str, object]:
    return {column.key: getattr(row, column.key) for column in type(row).__mapper__.column_attrs}


class NotificationRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, row: Notification) -> bool:
        """False when the person was told of this event before; then nothing was stored."""
        return await self._session.scalar(_ADD, _values(row)) is not None

    async def wake(self, user_id: str) -> None:
        """Tell the person's open apps, at commit, that there is something new in the list."""
        await self._session.execute(_WAKE, {"user_id": user_id})

    async def get(self, notification_id: str) -> Notification | None:
        return None if "\0" in notification_id else await self._session.get(Notification, notification_id)

    async def get_many(self, notification_ids: Collection[str]) -> Sequence[Notification]:
        wanted = [i for i in notification_ids if "\0" not in i]
        return (await self._session.scalars(select(Notification).where(Notification.notification_id.in_(wanted)))).all()

    async def list(self, notification_id: str, *, at: datetime) -> bool:
        """Put it into the app's list; False when it was there already."""
        statement = (
            update(Notification)
            .where(Notification.notification_id == notification_id, Notification.listed_at.is_(None))
            .values(listed_at=at)
            .returning(Notification.notification_id)
        )
        return await self._session.scalar(statement) is not None

    async def ids_listed_since(self, user_id: str, *, since: datetime) -> dict[str, datetime]:
        """What came into a person's list at a moment or later, and when."""
        found = await self._session.execute(
            select(Notification.notification_id, Notification.listed_at).where(
                Notification.user_id == user_id, Notification.listed_at >= since
            )
        )
        return {notification_id: listed_at for notification_id, listed_at in found if listed_at is not None}

    async def listed_since(
        self, user_id: str, *, since: datetime, known: Collection[str], limit: int
    ) -> Sequence[Notification]:
        """What came into a person's list at a moment or later, oldest first, without the `known`."""
        statement = (
            select(Notification)
            .where(
                Notification.user_id == user_id,
                Notification.listed_at >= since,
                Notification.notification_id.not_in(known),
            )
            .order_by(Notification.listed_at, Notification.notification_id)
            .limit(limit)
        )
        return (await self._session.scalars(statement)).all()

    async def window(
        self, user_id: str, wanted: MessageFilter, *, limit: int, offset: int
    ) -> tuple[Sequence[Notification], int]:
        """Items of a person's list, newest first, and how many there are in all."""
        matches = _matches(user_id, wanted)
        total = await self._session.scalar(select(func.count()).where(*matches)) or 0
        statement = (
            select(Notification)
            .where(*matches)
            .order_by(Notification.listed_at.desc(), Notification.notification_id.desc())
            .limit(limit)
            .offset(offset)
        )
        return (await self._session.scalars(statement)).all(), total

    async def pages_of(
        self, user_ids: Collection[str], wanted: MessageFilter, page: PageRequest
    ) -> dict[str, Page[Notification]]:
        """One page of the list of each person, newest first, in two statements."""
        people = list(dict.fromkeys(user_ids))
        named = any_(bindparam("user_ids", people, type_=ARRAY(String)))
        counted = select(Notification.user_id, func.count()).where(
            Notification.user_id == named, *_matches(None, wanted)
        )
        totals = dict((await self._session.execute(counted.group_by(Notification.user_id))).all())
        owner = (
            func.unnest(bindparam("user_ids", people, type_=ARRAY(String)))
            .table_valued("id", name="owner")
            .render_derived()
        )
        newest = (
            select(Notification)
            .where(Notification.user_id == owner.c.id, *_matches(None, wanted), _follows(page))
            .order_by(Notification.listed_at.desc(), Notification.notification_id.desc())
            .limit(page.first + 1)
            .lateral()
        )
        item = aliased(Notification, newest)
        found = await self._session.scalars(
            select(item)
            .select_from(owner)
            .join(newest, true())
            .order_by(item.listed_at.desc(), item.notification_id.desc())
        )
        items: dict[str, list[Notification]] = {user: [] for user in people}
        for row in found:
            items[row.user_id].append(row)
        return {
            user: Page(rows[: page.first], has_next=len(rows) > page.first, total=totals.get(user, 0))
            for user, rows in items.items()
        }

    async def unread_counts(self, user_ids: Collection[str]) -> dict[str, int]:
        """How many unread notifications each person has; 0 for who has none."""
        statement = (
            select(Notification.user_id, func.count())
            .where(_UNREAD, Notification.user_id == any_(bindparam("user_ids", list(user_ids), type_=ARRAY(String))))
            .group_by(Notification.user_id)
        )
        counts = dict((await self._session.execute(statement)).all())
        return {user: counts.get(user, 0) for user in user_ids}

    async def mark_read(self, notification_id: str, *, at: datetime) -> None:
        """Keeps the time of the first reading."""
        await self._session.execute(
            update(Notification)
            .where(Notification.notification_id == notification_id, Notification.read_at.is_(None))
            .values(read_at=at)
            .execution_options(synchronize_session="fetch")
        )

    async def mark_all_read(self, user_id: str, *, at: datetime) -> int:
        """How many were unread until now. Locked in the order of their ids, so that two at once do not block each other."""
        unread = (
            select(Notification.notification_id)
            .where(Notification.user_id == user_id, _UNREAD)
            .order_by(Notification.notification_id)
            .with_for_update()
            .cte("unread")
        )
        marked = await self._session.execute(
            update(Notification)
            .where(Notification.notification_id == unread.c.notification_id)
            .values(read_at=at)
            .execution_options(synchronize_session=False)
        )
        return int(getattr(marked, "rowcount", 0))


def _matches(user_id: str | None, wanted: MessageFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [_UNREAD if wanted.unread_only else _LISTED]
    if user_id is not None:
        conditions.append(Notification.user_id == user_id)
    if wanted.type is not None:
        conditions.append(Notification.type == wanted.type)
    return conditions


def _follows(page: PageRequest) -> ColumnElement[bool]:
    if page.after is None:
        return true()
    return tuple_(Notification.listed_at, Notification.notification_id) < page.after


class DeliveryRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, deliveries: Sequence[Delivery]) -> None:
        await self._session.execute(_ADD_DELIVERY, [_values(delivery) for delivery in deliveries])

    async def of(self, notification_ids: Collection[str]) -> Mapping[str, Sequence[Delivery]]:
        """The deliveries of each notification, by channel."""
        statement = (
            select(Delivery)
            .where(Delivery.notification_id.in_(notification_ids))
            .order_by(Delivery.notification_id, Delivery.channel)
        )
        found: dict[str, list[Delivery]] = {notification_id: [] for notification_id in notification_ids}
        for delivery in await self._session.scalars(statement):
            found[delivery.notification_id].append(delivery)
        return found

    async def claim(self, *, now: datetime, lease_until: datetime, limit: int) -> Sequence[Delivery]:
        """Due deliveries that nobody works on, leased to the caller; those that another instance claims are left to it."""
        claimed = await self._session.scalars(_CLAIM, {"now": now, "lease_until": lease_until, "at_most": limit})
        return claimed.all()

    async def arrive(self, delivery: Delivery, *, at: datetime, provider_id: str | None) -> bool:
        """Record that it arrived, whoever holds the lease by now; False when another instance has recorded an end."""
        settled = await self._session.execute(
            _ARRIVED, _end(delivery, DeliveryState.SENT) | {"provider_id": provider_id, "sent_at": at}
        )
        return bool(getattr(settled, "rowcount", 0))

    async def end(self, state: DeliveryState, endings: Sequence[tuple[Delivery, str]]) -> None:
        """Record for what reasons deliveries did not arrive, each unless another instance holds it by now."""
        ended = sorted(endings, key=lambda ending: (ending[0].notification_id, ending[0].channel))
        await self._session.execute(
            _ENDED,
            [
                _end(delivery, state) | {"reason": reason, "held_until": delivery.leased_until}
                for delivery, reason in ended
            ],
        )

    async def postpone(self, delivery: Delivery, *, until: datetime, reason: str, counts: bool) -> None:
        """Give it back for a later try, unless another instance holds it by now.

        Args:
            counts: whether this was a try.
        """
        await self._session.execute(
            update(Delivery)
            .where(*_is(delivery), Delivery.leased_until == delivery.leased_until)
            .values(
                next_try_at=until,
                reason=reason,
                reached=delivery.reached,
                leased_until=None,
                tries=Delivery.tries if counts else Delivery.tries - 1,
            )
            .execution_options(synchronize_session=False)
        )


_DUE = (
    select(Delivery.notification_id, Delivery.channel)
    .where(
        Delivery.state == DeliveryState.PENDING,
        Delivery.next_try_at <= bindparam("now"),
        or_(Delivery.leased_until.is_(None), Delivery.leased_until <= bindparam("now")),
    )
    .order_by(Delivery.next_try_at)
    .limit(bindparam("at_most", type_=Integer))
    .with_for_update(skip_locked=True)
    .cte("due")
)
_CLAIM = (
    update(Delivery)
    .where(Delivery.notification_id == _DUE.c.notification_id, Delivery.channel == _DUE.c.channel)
    .values(leased_until=bindparam("lease_until"), tries=Delivery.tries + 1)
    .returning(Delivery)
    .execution_options(synchronize_session=False, populate_existing=True)
)

_ARRIVED = update(_DELIVERIES).where(
    _DELIVERIES.c.notification_id == bindparam("of_notification"),
    _DELIVERIES.c.channel == bindparam("on_channel"),
    _DELIVERIES.c.state == DeliveryState.PENDING,
)
_ENDED = _ARRIVED.where(_DELIVERIES.c.leased_until == bindparam("held_until"))


def _end(delivery: Delivery, state: DeliveryState) -> dict[str, object]:
    """What every end of a delivery sets, and which one it is the end of."""
    return {
        "of_notification": delivery.notification_id,
        "on_channel": delivery.channel,
        "state": state,
        "reason": None,
        "provider_id": None,
        "reached": delivery.reached,
        "leased_until": None,
        "sent_at": None,
    }


def _is(delivery: Delivery) -> tuple[ColumnElement[bool], ...]:
    return (
        Delivery.notification_id == delivery.notification_id,
        Delivery.channel == delivery.channel,
        Delivery.state == DeliveryState.PENDING,
    )


class PreferencesRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def of(self, user_ids: Collection[str]) -> dict[str, PreferencesRow]:
        """What people have set; those who have set nothing are missing."""
        named = any_(bindparam("user_ids", list(user_ids), type_=ARRAY(String)))
        rows = await self._session.scalars(select(PreferencesRow).where(PreferencesRow.user_id == named))
        return {row.user_id: row for row in rows}

    async def replace(self, row: PreferencesRow) -> None:
        values = {column.key: getattr(row, column.key) for column in PreferencesRow.__mapper__.column_attrs}
        changed = {name: value for name, value in values.items() if name != "user_id"}
        statement = insert(PreferencesRow).values(values)
        await self._session.execute(statement.on_conflict_do_update(index_elements=["user_id"], set_=changed))


class PushTokenRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def put(self, token: PushToken, *, keep: int) -> None:
        """Store a token, also one that was another person's until now; of the person's tokens the newest `keep` stay."""
        values = {column.key: getattr(token, column.key) for column in PushToken.__mapper__.column_attrs}
        changed = {name: value for name, value in values.items() if name != "token_hash"}
        statement = insert(PushToken).values(values)
        await self._session.execute(statement.on_conflict_do_update(index_elements=["token_hash"], set_=changed))
        too_old = (
            select(PushToken.token_hash)
            .where(PushToken.user_id == token.user_id)
            .order_by(PushToken.registered_at.desc(), PushToken.token_hash)
            .offset(keep)
        )
        await self._session.execute(
            delete(PushToken).where(PushToken.token_hash.in_(too_old)).execution_options(synchronize_session=False)
        )

    async def remove(self, token_hash: str, *, user_id: str) -> bool:
        """False when the person has no such token."""
        statement = delete(PushToken).where(PushToken.token_hash == token_hash, PushToken.user_id == user_id)
        return await self._session.scalar(statement.returning(PushToken.token_hash)) is not None

    async def of(self, user_ids: Collection[str]) -> dict[str, Sequence[PushToken]]:
        """The tokens of each person, oldest first."""
        found: dict[str, list[PushToken]] = {user_id: [] for user_id in user_ids}
        rows = await self._session.scalars(
            select(PushToken)
            .where(PushToken.user_id.in_(user_ids))
            .order_by(PushToken.registered_at, PushToken.token_hash)
        )
        for row in rows:
            found[row.user_id].append(row)
        return dict(found)


class PersonRepository:
    """All that is stored for one person, whatever it is."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def drop(self, user_id: str, *, until: datetime) -> None:
        """Delete what was stored for a person until a moment, which is included."""
        theirs = select(Notification.notification_id).where(
            Notification.user_id == user_id, Notification.created_at <= until
        )
        locked = select(Delivery.notification_id).where(Delivery.notification_id.in_(theirs))
        await self._session.execute(
            locked.order_by(Delivery.notification_id, Delivery.channel).with_for_update(of=Delivery)
        )
        for statement in (
            delete(Delivery).where(Delivery.notification_id.in_(theirs)),
            delete(Notification).where(Notification.user_id == user_id, Notification.created_at <= until),
            delete(PushToken).where(PushToken.user_id == user_id, PushToken.registered_at <= until),
            delete(PendingPhone).where(PendingPhone.user_id == user_id, PendingPhone.requested_at <= until),
            delete(ContactPhone).where(ContactPhone.user_id == user_id, ContactPhone.updated_at <= until),
            delete(PreferencesRow).where(PreferencesRow.user_id == user_id, PreferencesRow.updated_at <= until),
        ):
            await self._session.execute(statement.execution_options(synchronize_session=False))


class TemplateRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def whole(self, key: str) -> tuple[Template, dict[str, TemplateText]] | None:
        """A template with its texts by locale; None when it is not there, or has none."""
        rows = [] if "\0" in key else (await self._session.execute(_WHOLE_TEMPLATE, {"key": key})).all()
        return (rows[0][0], {text.locale: text for _, text in rows}) if rows else None

    async def get_for_update(self, key: str) -> Template | None:
        return await self._session.get(Template, key, with_for_update=True, populate_existing=True)

    async def texts_of(self, keys: Collection[str]) -> dict[str, dict[str, TemplateText]]:
        """The texts of each template by locale."""
        found: dict[str, dict[str, TemplateText]] = {key: {} for key in keys}
        for row in await self._session.scalars(select(TemplateText).where(TemplateText.key.in_(keys))):
            found[row.key][row.locale] = row
        return found

    async def all(self) -> Sequence[Template]:
        """All templates by key."""
        return (await self._session.scalars(select(Template).order_by(Template.key))).all()

    async def put(self, template: Template, texts: Sequence[TemplateText]) -> None:
        """Store a template with the given texts; texts in other languages stay."""
        await _upsert(self._session, template, keys=("key",))
        for words in texts:
            await _upsert(self._session, words, keys=("key", "locale"))


_WHOLE_TEMPLATE = (
    select(Template, TemplateText)
    .join(TemplateText, TemplateText.key == Template.key)
    .where(Template.key == bindparam("key", type_=String))
)


async def _upsert(session: AsyncSession, row: Template | TemplateText, *, keys: tuple[str, ...]) -> None:
    values = {column.key: getattr(row, column.key) for column in type(row).__mapper__.column_attrs}
    changed = {name: value for name, value in values.items() if name not in keys}
    statement = insert(type(row)).values(values)
    await session.execute(statement.on_conflict_do_update(index_elements=list(keys), set_=changed))
