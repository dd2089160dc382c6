"""SANDBOX mail server: takes every mail over SMTP (RFC 5321) and keeps it as a file; it sends nothing on."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

from infra.local.process import LOOPBACK

_KEPT = 200


class MailSandbox:
    """Listens on the loopback interface.

    Args:
        directory: one `.eml` file for each mail, named by its time; the newest 200 are kept.
        port: 0 takes a free one; `port` tells which.
    """

    def __init__(self, directory: Path, *, port: int = 0) -> None:
        self._directory = directory
        self.port = port
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Raises: OSError: the port is taken."""
        self._directory.mkdir(parents=True, exist_ok=True)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: SMTP(self, enable_SMTPUTF8=True), LOOPBACK, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse new mails."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802, ARG002
        """Keep one mail (a hook that aiosmtpd calls by this name)."""
        content = envelope.original_content or b""
        name = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ.eml")
        await asyncio.to_thread((self._directory / name).write_bytes, content)
        for old in self.mails()[:-_KEPT]:
            old.unlink(missing_ok=True)
        return "250 Kept in the sandbox; not sent on"

    def mails(self) -> list[Path]:
        """The kept mails, the oldest first."""
        return sorted(self._directory.glob("*.eml"))
