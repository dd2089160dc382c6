"""What a person has open over HTTP ends with the sign-in."""

import asyncio
from typing import Any

from domain.principal import Principal, PrincipalKind
from subgraphs.runtime.auth import Authenticator
from subgraphs.runtime.http_server import ContextMiddleware
from subgraphs.runtime.proxies import TrustedProxies
from subgraphs.runtime.revocation import Revocations
from tests.support.trust import service_tokens


class _Known(Authenticator):
    async def principal(self, authorization: str, *, callee: str = "") -> Principal:
        return Principal(PrincipalKind.USER, "u1", sign_in=authorization)


async def _sent_after_the_end(kind: str, *, begin: dict[str, Any] | None) -> tuple[list[dict[str, Any]], bool]:
    revocations, begun, sent, cancelled = Revocations(), asyncio.Event(), [], False

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        nonlocal cancelled
        if begin is not None:
            await send(begin)
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled = True
            raise

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return await asyncio.Event().wait()

    known = _Known({}, services=service_tokens(), devices=None, revocations=revocations)
    middleware = ContextMiddleware(app, authenticator=known, proxies=TrustedProxies(()))
    scope = {"type": kind, "path": "/graphql", "headers": [(b"authorization", b"s1")], "client": ("10.0.0.1", 1)}
    serving = asyncio.create_task(middleware(scope, receive, send))
    await begun.wait()
    revocations.learn("s1")
    await serving
    return sent, cancelled


async def test_a_websocket_is_closed_as_unauthenticated() -> None:
    sent, cancelled = await _sent_after_the_end("websocket", begin={"type": "websocket.accept"})
    assert cancelled
    assert (sent[-1]["type"], sent[-1]["code"]) == ("websocket.close", 4401)


async def test_a_request_without_an_answer_is_refused() -> None:
    sent, cancelled = await _sent_after_the_end("http", begin=None)
    assert cancelled
    assert sent[0]["status"] == 401
