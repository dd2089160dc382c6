"""NotificationService over gRPC."""

# ruff: noqa: ARG002, N802 - gRPC's generated base class names methods and arguments

from typing import Any

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp
from manpasik.v1 import notification_pb2 as pb
from manpasik.v1 import notification_pb2_grpc as pb_grpc

from domain.errors import InvalidInput
from domain.operations.notification.models import (
    Channel,
    Message,
    MessageFilter,
    NotificationType,
    Preferences,
    Priority,
)
from domain.operations.notification.quiet_hours import QuietHours
from domain.operations.notification.sending import Draft
from subgraphs.operations.services import OperationsServices
from subgraphs.runtime.context import current
from subgraphs.runtime.database import Database

FULL_NAME = "manpasik.v1.NotificationService"

_Context = grpc.aio.ServicerContext[Any, Any]

TYPE_TO_WIRE = {
    NotificationType.MEASUREMENT: pb.NOTIFICATION_TYPE_MEASUREMENT,
    NotificationType.HEALTH_ALERT: pb.NOTIFICATION_TYPE_HEALTH_ALERT,
    NotificationType.APPOINTMENT: pb.NOTIFICATION_TYPE_APPOINTMENT,
    NotificationType.PRESCRIPTION: pb.NOTIFICATION_TYPE_PRESCRIPTION,
    NotificationType.COMMUNITY: pb.NOTIFICATION_TYPE_COMMUNITY,
    NotificationType.SYSTEM: pb.NOTIFICATION_TYPE_SYSTEM,
    NotificationType.PROMOTION: pb.NOTIFICATION_TYPE_PROMOTION,
}
PRIORITY_TO_WIRE = {
    Priority.LOW: pb.NOTIFICATION_PRIORITY_LOW,
    Priority.NORMAL: pb.NOTIFICATION_PRIORITY_NORMAL,
    Priority.HIGH: pb.NOTIFICATION_PRIORITY_HIGH,
    Priority.URGENT: pb.NOTIFICATION_PRIORITY_URGENT,
}
CHANNEL_TO_WIRE = {
    None: pb.NOTIFICATION_CHANNEL_UNKNOWN,
    Channel.PUSH: pb.NOTIFICATION_CHANNEL_PUSH,
    Channel.EMAIL: pb.NOTIFICATION_CHANNEL_EMAIL,
    Channel.SMS: pb.NOTIFICATION_CHANNEL_SMS,
    Channel.IN_APP: pb.NOTIFICATION_CHANNEL_IN_APP,
}
_TYPES: dict[int, NotificationType | None] = {number: kind for kind, number in TYPE_TO_WIRE.items()}
_TYPES[pb.NOTIFICATION_TYPE_UNKNOWN] = None
_PRIORITIES: dict[int, Priority] = {number: priority for priority, number in PRIORITY_TO_WIRE.items()}
_PRIORITIES[pb.NOTIFICATION_PRIORITY_UNKNOWN] = Priority.NORMAL
_CHANNELS: dict[int, Channel | None] = {number: channel for channel, number in CHANNEL_TO_WIRE.items()}
_MOST = 2**31 - 1


class NotificationServicer(pb_grpc.NotificationServiceServicer):
    """manpasik.v1.NotificationService."""

    def __init__(self, services: OperationsServices, database: Database) -> None:
        self._notifications = services.notifications
        self._sending = services.sending
        self._preferences = services.preferences
        self._database = database

    async def SendNotification(self, request: pb.SendNotificationRequest, context: _Context) -> pb.Notification:
        kind = _type_of(request.type)
        if kind is None:
            raise InvalidInput("type is not set; say what the notification is about.", field="type")
        if request.priority not in _PRIORITIES:
            raise InvalidInput(f"priority {request.priority} is not known.", field="priority")
        if request.channel not in _CHANNELS:
            raise InvalidInput(f"channel {request.channel} is not known.", field="channel")
        draft = Draft(
            user_id=request.user_id,
            type=kind,
            title=request.title,
            body=request.body,
            priority=_PRIORITIES[request.priority],
            channel=_CHANNELS[request.channel],
            data=dict(request.data),
            action_url=request.action_url,
        )
        async with self._database.transaction() as session:
            return _notification(await self._sending.send(session, current().principal, draft))

    async def ListNotifications(
        self, request: pb.ListNotificationsRequest, context: _Context
    ) -> pb.ListNotificationsResponse:
        wanted = MessageFilter(type=_type_of(request.type_filter), unread_only=request.unread_only)
        async with self._database.transaction() as session:  # not `read`: the look at health messages is logged
            messages, total = await self._notifications.window(
                session,
                current().principal,
                wanted,
                user_id=request.user_id,
                limit=request.limit,
                offset=request.offset,
            )
        return pb.ListNotificationsResponse(
            notifications=[_notification(message) for message in messages], total_count=min(total, _MOST)
        )

    async def MarkAsRead(self, request: pb.MarkAsReadRequest, context: _Context) -> pb.MarkAsReadResponse:
        async with self._database.transaction() as session:
            await self._notifications.mark_read(session, current().principal, request.notification_id)
        return pb.MarkAsReadResponse(success=True)

    async def MarkAllAsRead(self, request: pb.MarkAllAsReadRequest, context: _Context) -> pb.MarkAllAsReadResponse:
        async with self._database.transaction() as session:
            marked = await self._notifications.mark_all_read(session, current().principal, user_id=request.user_id)
        return pb.MarkAllAsReadResponse(marked_count=min(marked, _MOST))

    async def GetUnreadCount(self, request: pb.GetUnreadCountRequest, context: _Context) -> pb.GetUnreadCountResponse:
        async with self._database.read() as session:
            count = await self._notifications.unread_count(session, current().principal, user_id=request.user_id)
        return pb.GetUnreadCountResponse(count=min(count, _MOST))

    async def UpdateNotificationPreferences(
        self, request: pb.UpdateNotificationPreferencesRequest, context: _Context
    ) -> pb.NotificationPreferences:
        wanted = Preferences(
            push_enabled=request.push_enabled,
            email_enabled=request.email_enabled,
            sms_enabled=request.sms_enabled,
            measurement_alerts=request.measurement_alerts,
            health_alerts=request.health_alerts,
            appointment_reminders=request.appointment_reminders,
            community_updates=request.community_updates,
            promotions=request.promotions,
            quiet_hours=QuietHours.parse(request.quiet_hours_start, request.quiet_hours_end),
        )
        async with self._database.transaction() as session:
            return _preferences(
                *await self._preferences.replace(session, current().principal, wanted, user_id=request.user_id)
            )

    async def GetNotificationPreferences(
        self, request: pb.GetNotificationPreferencesRequest, context: _Context
    ) -> pb.NotificationPreferences:
        async with self._database.read() as session:
            return _preferences(*await self._preferences.get(session, current().principal, user_id=request.user_id))

    async def SendFromTemplate(self, request: pb.SendFromTemplateRequest, context: _Context) -> pb.Notification:
        async with self._database.transaction() as session:
            message = await self._sending.send_from_template(
                session,
                current().principal,
                key=request.template_key,
                user_id=request.user_id,
                values=dict(request.data),
            )
        return _notification(message)


def _type_of(number: int) -> NotificationType | None:
    """Raises: InvalidInput: no such number; proto3 lets unknown ones through."""
    if number not in _TYPES:
        raise InvalidInput(f"type {number} is not known.", field="type")
    return _TYPES[number]


def _notification(message: Message) -> pb.Notification:
    row, content = message.row, message.content
    created_at, read_at = Timestamp(), None
    created_at.FromDatetime(row.created_at)
    if row.read_at is not None:
        read_at = Timestamp()
        read_at.FromDatetime(row.read_at)
    return pb.Notification(
        notification_id=row.notification_id,
        user_id=row.user_id,
        type=TYPE_TO_WIRE[NotificationType(row.type)],
        title=content.title,
        body=content.body,
        priority=PRIORITY_TO_WIRE[Priority(row.priority)],
        channel=CHANNEL_TO_WIRE[Channel(row.channel) if row.channel else None],
        is_read=row.read_at is not None,
        data=content.data,
        action_url=content.action_url,
        created_at=created_at,
        read_at=read_at,
    )


def _preferences(user_id: str, preferences: Preferences) -> pb.NotificationPreferences:
    start, end = preferences.quiet_hours.texts if preferences.quiet_hours else ("", "")
    updated_at = None
    if preferences.updated_at is not None:
        updated_at = Timestamp()
        updated_at.FromDatetime(preferences.updated_at)
    return pb.NotificationPreferences(
        user_id=user_id,
        push_enabled=preferences.push_enabled,
        email_enabled=preferences.email_enabled,
        sms_enabled=preferences.sms_enabled,
        measurement_alerts=preferences.measurement_alerts,
        health_alerts=preferences.health_alerts,
        appointment_reminders=preferences.appointment_reminders,
        community_updates=preferences.community_updates,
        promotions=preferences.promotions,
        quiet_hours_start=start,
        quiet_hours_end=end,
        updated_at=updated_at,
    )
