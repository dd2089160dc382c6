"""The sandboxes that stand in for the providers of which the environment names none, as one thing to start and stop."""

from contextlib import AsyncExitStack
from typing import Protocol

from infra.sandbox.mail import MailSandbox
from infra.sandbox.push import PushSandbox
from infra.sandbox.sms import SmsSandbox
from infra.sandbox.toss import TossSandbox
from infra.up.plan import Plan


class Sandbox(Protocol):
    """A small server on the loopback interface."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class ProviderSandboxes:
    """What a plan embeds: mail, payments, push and text messages. Their data lies in the platform's folder."""

    def __init__(self, planned: Plan) -> None:
        self._sandboxes = list(_wanted(planned))
        self._running = AsyncExitStack()

    async def start(self) -> None:
        """Raises: OSError: a port is taken."""
        for sandbox in self._sandboxes:
            await sandbox.start()
            self._running.push_async_callback(sandbox.stop)

    async def stop(self) -> None:
        """Stop those that run."""
        await self._running.aclose()


def _wanted(planned: Plan) -> list[Sandbox]:
    wanted: list[Sandbox] = []
    if planned.embeds_mail:
        wanted.append(MailSandbox(planned.home / "mail", port=planned.mail_port))
    if planned.embeds_payments:
        wanted.append(TossSandbox(planned.home / "toss.sqlite", port=planned.toss_port))
    if planned.embeds_push:
        wanted.append(PushSandbox(port=planned.push_port, key_file=planned.push_key_file))
    if planned.embeds_sms:
        wanted.append(SmsSandbox(port=planned.sms_port))
    return wanted
