"""Notifications as they come: what stands behind the subscription `notificationReceived`.

A signal says that there may be something new, and the rows are read. Transactions commit in another order than they take
their times, so a row may appear that is older than one that was told already; therefore each look goes back `OVERLAP`,
longer than any transaction of ours may last, and leaves out what was told. Without a signal it looks every `LOOK_S`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta

from domain.operations.notification.models import Message
from domain.principal import Scope
from subgraphs.operations.context import OperationsContext

OVERLAP = timedelta(seconds=60)
LOOK_S = 5.0


async def received(context: OperationsContext, user_id: str) -> AsyncIterator[Message]:
    """A person's notifications from now on, each once.

    Raises:
        Unauthenticated, Forbidden, InvalidInput: as `Principal.acting_for`; the token lacks notification:read.
    """
    context.principal.require_scope(Scope.NOTIFICATION_READ)
    owner = context.principal.acting_for(user_id)
    notifications, clock = context.services.notifications, context.services.clock
    async with context.database.read() as session:
        told = await notifications.ids_listed_since(
            session, context.principal, user_id=owner, since=clock.now() - OVERLAP
        )
    with context.signals.subscribe(owner) as wake:
        while True:
            since = clock.now() - OVERLAP
            async with context.database.transaction() as session:  # not `read`: the look at health messages is logged
                messages = await notifications.listed_since(
                    session, context.principal, user_id=owner, since=since, known=told.keys()
                )
            for message in messages:
                told[message.row.notification_id] = message.listed_at
                yield message
            told = {known: at for known, at in told.items() if at >= since}
            if not messages:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await wake.wait()
            wake.clear()
