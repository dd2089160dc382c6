"""What of a notification leaves the app, and in which words.

A phone is read over its owner's shoulder, a text message stands on the lock screen, a mail crosses servers in clear, and a
push message goes through the phone maker's cloud. So of what is about health, only the title leaves, which by the rules of
`template_data` tells nothing; the words and values are read in the app, after the phone is unlocked and the person signed
in. A text message does not even carry the title, because a caller of SendNotification may write anything there.

Offers are labelled "(광고)", and say how to stop them, as article 50 (4) of the Network Act of the Republic of Korea asks.
"""

from domain.mail import Mail
from domain.operations.notification import fields
from domain.operations.notification.models import HEALTH_TYPES, Message, NotificationType, Priority
from domain.operations.notification.ports import PushMessage
from domain.operations.notification.voice import Voice

MAX_PUSH_BODY = 500
MAX_SMS_TITLE = 30  # within one message of 90 bytes, as Korean networks count them

_OPEN_APP = {"ko": "앱에서 확인하세요.", "en": "Open the app to read it."}
_NEW_HEALTH = {"ko": "새 건강 알림이 있습니다.", "en": "You have a new health notification."}
_BRAND = {"ko": "[만파식]", "en": "[ManPaSik]"}
_STOP_OFFERS = {
    "ko": "수신을 원하지 않으면 앱의 알림 설정에서 무료로 끌 수 있습니다.",
    "en": "You can switch offers off at any time, free of charge, in the app's notification settings.",
}
_ADVERT = "(광고) "


def _title(message: Message) -> str:
    is_offer = message.row.type == NotificationType.PROMOTION
    already = message.content.title.startswith(_ADVERT.strip())
    return f"{_ADVERT}{message.content.title}" if is_offer and not already else message.content.title


def is_about_health(message: Message) -> bool:
    return message.row.type in HEALTH_TYPES


def push_message(message: Message, voice: Voice) -> PushMessage:
    """What a locked phone may show. The app fetches the rest by the notification's id."""
    private = is_about_health(message)
    data = {"notification_id": message.row.notification_id, "type": str(message.row.type)}
    if message.content.action_url and not private:  # a link may name a measurement, or what it has found
        data["action_url"] = message.content.action_url
    body = _OPEN_APP[voice.language] if private else fields.shortened(message.content.body, at_most=MAX_PUSH_BODY)
    return PushMessage(
        message_id=message.row.notification_id,
        title=_title(message),
        body=body,
        data=data,
        is_urgent=message.row.priority in (Priority.HIGH, Priority.URGENT),
    )


def mail(message: Message, voice: Voice, *, to: str) -> Mail:
    """The mail; sent again it has the same Message-ID, by which mailboxes drop the second one."""
    words = [_OPEN_APP[voice.language] if is_about_health(message) else message.content.body]
    if message.row.type == NotificationType.PROMOTION:
        words.append(_STOP_OFFERS[voice.language])
    return Mail(
        to=to,
        subject=f"{_BRAND[voice.language]} {_title(message)}",
        text="\n\n".join(part for part in words if part) + "\n",
        message_id=message.row.notification_id,
    )


def text_message(message: Message, voice: Voice) -> str:
    """One short line."""
    said = (
        _NEW_HEALTH[voice.language]
        if is_about_health(message)
        else fields.shortened(_title(message), at_most=MAX_SMS_TITLE)
    )
    return f"{_BRAND[voice.language]} {said} {_OPEN_APP[voice.language]}"
