"""Notifications by mail, over the SMTP that every service shares."""

from domain.mail import Mail, MailNotSent, MailRefused
from domain.operations.notification.ports import Accepted, NotNow, Outcome, Refused
from subgraphs.runtime.mail import SmtpMailer
from subgraphs.runtime.settings import MailSettings


class SmtpNotifications:
    """`MailSender` over SMTP."""

    def __init__(self, settings: MailSettings) -> None:
        self._mailer = SmtpMailer(settings)

    @property
    def is_configured(self) -> bool:
        return self._mailer.is_configured

    async def send(self, mail: Mail) -> Outcome:
        """One mail."""
        try:
            await self._mailer.send(mail)
        except MailNotSent as error:
            return NotNow(f"MAIL_NOT_SENT {error}")
        except MailRefused as error:
            return Refused(f"MAIL_REFUSED {error}")
        return Accepted(mail.message_id)
