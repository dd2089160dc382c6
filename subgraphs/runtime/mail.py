"""Mail by SMTP, for every service that sends any."""

from email.message import EmailMessage
from email.utils import formatdate, make_msgid

import aiosmtplib
from aiosmtplib.errors import (
    SMTPDataError,
    SMTPException,
    SMTPRecipientsRefused,
)

from domain.mail import Mail, MailNotSent, MailRefused
from subgraphs.runtime.settings import MailSettings

_TIMEOUT_S = 15.0
_PERMANENT = 500


class SmtpMailer:
    """Sends by the server of the settings; each mail on a connection of its own."""

    def __init__(self, settings: MailSettings) -> None:
        self._settings = settings

    @property
    def is_configured(self) -> bool:
        return bool(self._settings.host)

    async def send(self, mail: Mail) -> None:
        """Raises: MailNotSent: it may work later. MailRefused: the server will never take it for this recipient."""
        settings = self._settings
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = settings.sender, mail.to, mail.subject
        message["Date"] = formatdate()
        message["Message-ID"] = f"<{mail.message_id}@manpasik>" if mail.message_id else make_msgid(domain="manpasik")
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation answers, please
        message.set_content(mail.text)
        try:
            await aiosmtplib.send(
                message,
                hostname=settings.host,
                port=settings.port,
                username=settings.user or None,
                password=settings.password.get_secret_value() or None,
                use_tls=settings.tls == "tls",
                start_tls=settings.tls == "starttls",
                timeout=_TIMEOUT_S,
            )
        except SMTPRecipientsRefused as error:
            codes = [recipient.code for recipient in error.recipients]
            if codes and min(codes) >= _PERMANENT:
                raise MailRefused(f"the recipient was refused ({codes[0]})") from error
            raise MailNotSent(f"the recipient was put off ({codes})") from error
        except SMTPDataError as error:
            if error.code >= _PERMANENT:
                raise MailRefused(f"the message was refused ({error.code})") from error
            raise MailNotSent(f"the message was put off ({error.code})") from error
        except (SMTPException, OSError) as error:
            raise MailNotSent(f"{type(error).__name__} at {settings.host}:{settings.port}") from error
