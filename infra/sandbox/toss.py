"""SANDBOX Toss Payments: the core API as far as the platform uses it. No money moves, no card is asked.

Keys that begin with `test-` are approved, again and again (the platform uses each for one payment). A word in the key makes it stumble:

| key               | confirm                                                                       |
|-------------------|-------------------------------------------------------------------------------|
| `test-decline...` | refused: 403 REJECT_CARD_PAYMENT                                              |
| `test-timeout...` | captured, and the first answer never comes                                    |
| `test-hang...`    | the first request is never answered and captures nothing                      |
| `test-late...`    | captured and answered after two seconds                                       |
| `test-500...`     | captured, and the first answer is 500                                         |
| `test-error...`   | the first answer is 500, nothing captured                                     |
| `test-lie...`     | captures another amount than was asked for                                    |

and with `refund-decline`, `refund-timeout`, `refund-hang`, `refund-500`, `refund-error` anywhere in it, its refunds do likewise.
Other keys come from `POST /sandbox/approve` (orderId, amount, cardNumber), which stands for the payer in the payment
window. `GET /sandbox/ledger` tells what was captured and paid back.

Source: docs.tosspayments.com/reference, /reference/error-codes, /guides/using-api/idempotency-key.
"""

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from infra.local.process import LOOPBACK
from infra.sandbox.toss_ledger import Approval, Captured, Ledger
from subgraphs.runtime.serving import HttpServer

SANDBOX_SECRET_KEY = "test_sk_sandbox"  # noqa: S105 - opens nothing but this emulator

DECLINED_CARDS = {
    "4000000000000002": (403, "REJECT_CARD_PAYMENT"),
    "4000000000009987": (400, "INVALID_CARD_LOST_OR_STOLEN"),
    "4000000000000069": (400, "INVALID_CARD_EXPIRATION"),
    "4000000000000119": (400, "INVALID_STOPPED_CARD"),
}
"""Card numbers whose approvals are refused on confirmation."""

_MESSAGES = {
    "REJECT_CARD_PAYMENT": "한도초과 혹은 잔액부족으로 결제에 실패했습니다.",
    "INVALID_CARD_LOST_OR_STOLEN": "분실 혹은 도난 카드입니다.",
    "INVALID_CARD_EXPIRATION": "카드 정보를 다시 확인해주세요. (유효기간)",
    "INVALID_STOPPED_CARD": "정지된 카드 입니다.",
    "UNAUTHORIZED_KEY": "인증되지 않은 시크릿 키 혹은 클라이언트 키 입니다.",
    "NOT_FOUND_PAYMENT": "존재하지 않는 결제 정보 입니다.",
    "NOT_FOUND_PAYMENT_SESSION": "결제 시간이 만료되어 결제 진행 데이터가 존재하지 않습니다.",
    "ALREADY_PROCESSED_PAYMENT": "이미 처리된 결제 입니다.",
    "ALREADY_CANCELED_PAYMENT": "이미 취소된 결제 입니다.",
    "NOT_CANCELABLE_AMOUNT": "취소 할 수 없는 금액 입니다.",
    "NOT_CANCELABLE_PAYMENT": "취소 할 수 없는 결제 입니다.",
    "INVALID_REQUEST": "잘못된 요청입니다.",
    "INVALID_IDEMPOTENCY_KEY": "멱등키가 다른 요청에 쓰였거나 형식이 잘못되었습니다.",
    "IDEMPOTENT_REQUEST_PROCESSING": "이전 멱등 요청이 처리중입니다.",
    "FAILED_INTERNAL_SYSTEM_PROCESSING": "내부 시스템 처리 작업이 실패했습니다. 잠시 후 다시 시도해주세요.",
}
_KST = timezone(timedelta(hours=9))
_SESSION_S = 600.0
_LATE_S = 2.0
_MAX_IDEMPOTENCY_KEY = 300


class _TossError(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


class _Sandbox:
    """The endpoints.

    Args:
        hang_s: how long a request that is never answered is kept open.
    """

    def __init__(self, ledger: Ledger, *, secret_key: str, hang_s: float) -> None:
        self._ledger = ledger
        self._authorization = "Basic " + base64.b64encode(f"{secret_key}:".encode()).decode()
        self._hang_s = hang_s
        self._in_hand: set[str] = set()
        self.stopping = asyncio.Event()

    def routes(self) -> list[Route]:
        api = self._api
        return [
            Route("/v1/payments/confirm", api(self._confirm), methods=["POST"]),
            Route("/v1/payments/orders/{order_id:path}", api(self._by_order)),
            Route("/v1/payments/{payment_key:path}/cancel", api(self._cancel), methods=["POST"]),
            Route("/v1/payments/{payment_key:path}", api(self._by_key)),
            Route("/sandbox/approve", self._approve, methods=["POST"]),
            Route("/sandbox/ledger", self._books),
        ]

    def _api(self, handle: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                if request.headers.get("authorization") != self._authorization:
                    raise _TossError(401, "UNAUTHORIZED_KEY")
                if request.method == "POST":
                    return await self._once(request, handle)
                return await handle(request)
            except _TossError as error:
                return _error(error)

        return answer

    async def _once(self, request: Request, handle: Callable[[Request], Awaitable[Response]]) -> Response:
        """Carry a request out once under its idempotency key; the same again gets the same answer."""
        key, path = request.headers.get("idempotency-key", ""), request.url.path
        if not key:
            return await handle(request)
        if len(key) > _MAX_IDEMPOTENCY_KEY:
            raise _TossError(400, "INVALID_IDEMPOTENCY_KEY")
        asked = (await request.body()).decode()
        if key in self._in_hand:
            raise _TossError(409, "IDEMPOTENT_REQUEST_PROCESSING")
        if known := self._ledger.answer_to(key, path):
            if known[0] != asked:
                raise _TossError(400, "INVALID_IDEMPOTENCY_KEY")
            return Response(known[2], known[1], media_type="application/json")
        self._in_hand.add(key)
        try:
            response = await handle(request)
        except _TossError as error:
            response = _error(error)
        finally:
            self._in_hand.discard(key)
        if response.status_code < 500:
            content = bytes(response.body).decode()
            self._ledger.remember(key, path, request=asked, status=response.status_code, body=content)
        return response

    async def _confirm(self, request: Request) -> Response:
        asked = await _json(request)
        key, order_id, amount = asked.get("paymentKey"), asked.get("orderId"), asked.get("amount")
        if not isinstance(key, str) or not isinstance(order_id, str) or not isinstance(amount, int) or amount <= 0:
            raise _TossError(400, "INVALID_REQUEST")
        if self._ledger.confirmed_with(key, order_id) or (key.startswith("sandbox_") and self._ledger.by_key(key)):
            raise _TossError(400, "ALREADY_PROCESSED_PAYMENT")
        if key.startswith("sandbox_"):
            self._require_approved(key, order_id, amount)
        elif not key.startswith("test-"):
            raise _TossError(404, "NOT_FOUND_PAYMENT_SESSION")
        word = key.removeprefix("test-").split("-")[0] if key.startswith("test-") else ""
        if word == "decline":
            raise _TossError(403, "REJECT_CARD_PAYMENT")
        first = bool(word) and self._ledger.first_time(f"confirm {key} {order_id}")
        await self._stumble_before(word, first=first, request=request)
        taken = amount + 1 if word == "lie" else amount
        captured = self._ledger.capture(given_key=key, order_id=order_id, amount=taken, at=_now())
        response = JSONResponse(_payment(captured))
        await self._stumble_after(word, first=first, request=request, response=response)
        return response

    async def _cancel(self, request: Request) -> Response:
        asked = await _json(request)
        captured = self._ledger.by_key(request.path_params["payment_key"])
        if captured is None:
            raise _TossError(404, "NOT_FOUND_PAYMENT")
        amount, reason = asked.get("cancelAmount", captured.balance), asked.get("cancelReason")
        if not isinstance(reason, str) or not 0 < len(reason) <= 200 or not isinstance(amount, int):
            raise _TossError(400, "INVALID_REQUEST")
        if captured.balance == 0:
            raise _TossError(400, "ALREADY_CANCELED_PAYMENT")
        if not 0 < amount <= captured.balance:
            raise _TossError(400, "NOT_CANCELABLE_AMOUNT")
        words = ("decline", "timeout", "hang", "500", "error")
        word = next((word for word in words if f"refund-{word}" in captured.given_key), "")
        if word == "decline":
            raise _TossError(403, "NOT_CANCELABLE_PAYMENT")
        asked_under = request.headers.get("idempotency-key", "")
        first = bool(word) and self._ledger.first_time(f"cancel {captured.payment_key} {asked_under}")
        await self._stumble_before(word, first=first, request=request)
        self._ledger.cancel(captured.payment_key, amount=amount, reason=reason, at=_now())
        changed = self._ledger.by_key(captured.payment_key)
        assert changed is not None  # noqa: S101 - nothing is ever removed
        response = JSONResponse(_payment(changed))
        await self._stumble_after(word, first=first, request=request, response=response)
        return response

    async def _stumble_before(self, word: str, *, first: bool, request: Request) -> None:
        if word == "late":
            await asyncio.sleep(_LATE_S)
        if not first:
            return
        if word == "error":
            raise _TossError(500, "FAILED_INTERNAL_SYSTEM_PROCESSING")
        if word == "hang":
            await self._hang(request)
            raise _TossError(500, "FAILED_INTERNAL_SYSTEM_PROCESSING")

    async def _stumble_after(self, word: str, *, first: bool, request: Request, response: JSONResponse) -> None:
        if first and word in ("timeout", "500"):
            key, asked = request.headers.get("idempotency-key", ""), (await request.body()).decode()
            content = bytes(response.body).decode()
            if key:  # done is done: who asks again gets the answer that was lost
                self._ledger.remember(key, request.url.path, request=asked, status=200, body=content)
            if word == "timeout":
                await self._hang(request)
            raise _TossError(500, "FAILED_INTERNAL_SYSTEM_PROCESSING")

    async def _hang(self, request: Request) -> None:
        self._in_hand.discard(request.headers.get("idempotency-key", ""))
        try:
            await asyncio.wait_for(self.stopping.wait(), self._hang_s)
        except TimeoutError:
            return

    def _require_approved(self, key: str, order_id: str, amount: int) -> None:
        approval = self._ledger.approval(key)
        if approval is None or time.time() - approval.approved_at > _SESSION_S:
            raise _TossError(404, "NOT_FOUND_PAYMENT_SESSION")
        if (approval.order_id, approval.amount) != (order_id, amount):
            raise _TossError(400, "INVALID_REQUEST")
        if declined := DECLINED_CARDS.get(approval.card_number):
            raise _TossError(*declined)

    async def _by_order(self, request: Request) -> Response:
        return _found(self._ledger.by_order(request.path_params["order_id"]))

    async def _by_key(self, request: Request) -> Response:
        return _found(self._ledger.by_key(request.path_params["payment_key"]))

    async def _approve(self, request: Request) -> Response:
        """Stands for the payer in the payment window. SANDBOX only."""
        try:
            asked = await _json(request)
        except _TossError as error:
            return _error(error)
        order_id, amount = asked.get("orderId"), asked.get("amount")
        if not isinstance(order_id, str) or not isinstance(amount, int) or amount <= 0:
            return _error(_TossError(400, "INVALID_REQUEST"))
        card_number = str(asked.get("cardNumber", "")).replace(" ", "").replace("-", "")
        key = self._ledger.approve(Approval(order_id, amount, card_number, time.time()))
        return JSONResponse({"sandbox": True, "paymentKey": key, "orderId": order_id, "amount": amount})

    async def _books(self, _request: Request) -> Response:
        """Captured and paid back by orderId, in whole won. SANDBOX only."""
        orders: dict[str, dict[str, int]] = {}
        for payment in self._ledger.everything():
            order = orders.setdefault(payment.order_id, {"captures": 0, "captured": 0, "canceled": 0, "cancels": 0})
            order["captures"] += 1
            order["captured"] += payment.amount
            order["canceled"] += payment.amount - payment.balance
            order["cancels"] += len(payment.cancels)
        return JSONResponse({"sandbox": True, "orders": orders})


def _now() -> str:
    return datetime.now(_KST).isoformat(timespec="seconds")


async def _json(request: Request) -> dict[str, Any]:
    try:
        asked = json.loads(await request.body())
    except ValueError as error:
        raise _TossError(400, "INVALID_REQUEST") from error
    if not isinstance(asked, dict):
        raise _TossError(400, "INVALID_REQUEST")
    return asked


def _error(error: _TossError) -> JSONResponse:
    return JSONResponse({"code": error.code, "message": _MESSAGES.get(error.code, error.code)}, error.status)


def _found(captured: Captured | None) -> JSONResponse:
    if captured is None:
        raise _TossError(404, "NOT_FOUND_PAYMENT")
    return JSONResponse(_payment(captured))


def _payment(captured: Captured) -> dict[str, object]:
    status = "DONE"
    if captured.cancels:
        status = "PARTIAL_CANCELED" if captured.balance else "CANCELED"
    last = captured.cancels[-1].transaction_key if captured.cancels else captured.transaction_key
    cancels = [
        {
            "transactionKey": cancel.transaction_key,
            "cancelAmount": cancel.amount,
            "cancelReason": cancel.reason,
            "canceledAt": cancel.canceled_at,
            "cancelStatus": "DONE",
        }
        for cancel in captured.cancels
    ]
    return {
        "version": "2022-11-16",
        "mId": "sandbox",
        "paymentKey": captured.payment_key,
        "orderId": captured.order_id,
        "orderName": "SANDBOX",
        "currency": "KRW",
        "method": "카드",
        "status": status,
        "requestedAt": captured.approved_at,
        "approvedAt": captured.approved_at,
        "lastTransactionKey": last,
        "totalAmount": captured.amount,
        "balanceAmount": captured.balance,
        "suppliedAmount": round(captured.amount / 1.1),
        "vat": captured.amount - round(captured.amount / 1.1),
        "cancels": cancels or None,
        "failure": None,
        "type": "NORMAL",
        "country": "KR",
    }


def toss_app(ledger: Ledger, *, secret_key: str = SANDBOX_SECRET_KEY, hang_s: float = 70.0) -> Starlette:
    """The emulator as an ASGI application. `app.state.stopping` ends requests that are never answered."""
    sandbox = _Sandbox(ledger, secret_key=secret_key, hang_s=hang_s)
    app = Starlette(routes=sandbox.routes())
    app.state.stopping = sandbox.stopping
    return app


class TossSandbox:
    """Serves the emulator on the loopback interface.

    Args:
        path: the SQLite file of its ledger; `:memory:` for one that is gone with the process.
        port: 0 takes a free one; `port` tells which.
    """

    def __init__(
        self, path: Path | str, *, port: int = 0, secret_key: str = SANDBOX_SECRET_KEY, hang_s: float = 70.0
    ) -> None:
        self._path = path
        self.port = port
        self.secret_key = secret_key
        self._hang_s = hang_s
        self._server: HttpServer | None = None
        self._ledger: Ledger | None = None
        self._app: Starlette | None = None

    @property
    def url(self) -> str:
        """For `TOSS_API_URL`."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def ledger(self) -> Ledger:
        assert self._ledger is not None  # noqa: S101 - only of a started one
        return self._ledger

    async def start(self) -> None:
        """Raises: OSError: the port is taken."""
        if isinstance(self._path, Path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        self._ledger = Ledger(self._path)
        self._app = toss_app(self._ledger, secret_key=self.secret_key, hang_s=self._hang_s)
        self._server = HttpServer(self._app, LOOPBACK, self.port)
        self.port = self._server.port
        await self._server.start()

    async def stop(self) -> None:
        """Refuse new requests and close the books."""
        if self._app is not None:
            self._app.state.stopping.set()
        if self._server is not None:
            await self._server.stop(1.0)
        if self._ledger is not None:
            self._ledger.close()
