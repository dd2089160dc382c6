"""Payment over real gRPC and in the graph: the exact flow, hostile input, and one statement a list."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from copy import deepcopy
from typing import Any

import grpc.aio
import pytest
from manpasik.v1 import payment_pb2 as pb
from manpasik.v1.payment_pb2_grpc import PaymentServiceStub
from sqlalchemy import event

from domain.principal import ANONYMOUS, Principal, Role
from infra.sandbox.toss import TossSandbox
from subgraphs.commerce.context import CommerceContext
from subgraphs.commerce.payment.faces import payment_faces
from subgraphs.commerce.schema import schema
from subgraphs.runtime.auth import Authenticator
from subgraphs.runtime.context import RequestContext
from subgraphs.runtime.grpc_server import GrpcServer, access_of
from subgraphs.runtime.settings import ServiceSettings
from tests.integration.commerce.conftest import ALICE, BOB, Commerce
from tests.integration.commerce.paying import KEY, ORDER, PRICE_KRW, assert_books_balance
from tests.support.trust import service_tokens

CREATE = """
mutation ($order: ID!, $amount: Int!) {
  createPayment(input: {orderId: $order, amountKrw: $amount}) { id type status amountKrw method provider orderId
    payer { id } order { id } transactionId completedAt }
}
"""
CONFIRM = """
mutation ($id: ID!, $key: String!) {
  confirmPayment(input: {id: $id, paymentKey: $key}) { id status transactionId completedAt refundedKrw refunds { id } }
}
"""
REFUND = """
mutation ($id: ID!) {
  first: refundPayment(input: {id: $id, amountKrw: 9900, reason: "변심"}) {
    refund { amountKrw status reason refundedAt } payment { status refundedKrw refunds { amountKrw } } }
  rest: refundPayment(input: {id: $id}) {
    refund { amountKrw } payment { status refundedKrw refunds { amountKrw status } } }
}
"""
EVERYTHING_OF_PEOPLE = """
query ($people: [_Any!]!, $first: Int!, $after: String) {
  _entities(representations: $people) {
    ... on User { id payments(first: $first, after: $after) {
      totalCount pageInfo { hasNextPage endCursor }
      edges { cursor node { id status refundedKrw refunds { amountKrw } payer { id } } } } }
  }
}
"""


@asynccontextmanager
async def stub(commerce: Commerce) -> AsyncIterator[PaymentServiceStub]:
    """A client of a server without tokens, as on a development network."""
    settings = ServiceSettings(grpc_auth="permissive")
    faces = payment_faces(commerce.services, commerce.database)
    authenticator = Authenticator({}, services=service_tokens(), devices=None)
    access = access_of(faces.name, faces.servicers, authenticator, settings)
    server = GrpcServer("127.0.0.1:0", faces.servicers, access, settings)
    port = await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield PaymentServiceStub(channel)
    finally:
        await server.stop(0)


def request(**changed: Any) -> pb.CreatePaymentRequest:
    fields: dict[str, Any] = {
        "user_id": "alice",
        "order_id": ORDER,
        "payment_type": pb.PAYMENT_TYPE_ONE_TIME,
        "amount_krw": PRICE_KRW,
        "payment_method": "card",
    }
    return pb.CreatePaymentRequest(**fields | changed)


async def test_the_exact_flow_over_grpc(commerce: Commerce, toss: TossSandbox) -> None:
    async with stub(commerce) as payments:
        for _ in range(2):
            opened = await payments.CreatePayment(request())
            assert (opened.status, opened.amount_krw) == (pb.PAYMENT_STATUS_PENDING, PRICE_KRW)
            assert not opened.HasField("completed_at")
            confirmed = await payments.ConfirmPayment(
                pb.ConfirmPaymentRequest(payment_id=opened.payment_id, payment_key=KEY, pg_provider="toss")
            )
            assert confirmed.status == pb.PAYMENT_STATUS_COMPLETED
            assert confirmed.HasField("completed_at")
            assert confirmed.pg_transaction_id
            assert await payments.GetPayment(pb.GetPaymentRequest(payment_id=opened.payment_id)) == confirmed
            listed = await payments.ListPayments(pb.ListPaymentsRequest(user_id="alice", limit=1))
            assert listed.payments[0] == confirmed
            refund = await payments.RefundPayment(
                pb.RefundPaymentRequest(payment_id=opened.payment_id, refund_amount_krw=0, reason="변심")
            )
            assert refund.refund_id
            assert (refund.refund_amount_krw, refund.payment_status) == (PRICE_KRW, pb.PAYMENT_STATUS_REFUNDED)
            assert refund.HasField("refunded_at")
    assert listed.total_count == 2
    await assert_books_balance(commerce, toss)


@pytest.mark.parametrize(
    "wrong",
    [
        {"payment_type": pb.PAYMENT_TYPE_UNKNOWN},
        {"payment_type": 77},
        {"amount_krw": 0},
        {"amount_krw": -(2**31)},
        {"order_id": "a\0b"},
        {"order_id": "x" * 100_000},
        {"payment_method": "\0"},
        {"user_id": ""},
        {"user_id": "u" * 100_000},
        {"subscription_id": "sub"},
    ],
)
async def test_hostile_openings_are_the_callers_fault(commerce: Commerce, wrong: dict[str, Any]) -> None:
    async with stub(commerce) as payments:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await payments.CreatePayment(request(**wrong))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_hostile_ids_are_not_found(commerce: Commerce) -> None:
    async with stub(commerce) as payments:
        for payment_id in ("", "unknown", "a\0b", "x" * 4_000):
            calls: tuple[tuple[Any, Any], ...] = (
                (payments.GetPayment, pb.GetPaymentRequest(payment_id=payment_id)),
                (payments.ConfirmPayment, pb.ConfirmPaymentRequest(payment_id=payment_id, payment_key=KEY)),
                (payments.RefundPayment, pb.RefundPaymentRequest(payment_id=payment_id)),
            )
            for call, message in calls:
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await call(message)
                assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        for limit, offset in ((-1, 0), (0, -1)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await payments.ListPayments(pb.ListPaymentsRequest(user_id="alice", limit=limit, offset=offset))
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        edge = 2**31 - 1
        listed = await payments.ListPayments(pb.ListPaymentsRequest(user_id="alice", limit=edge, offset=edge))
        assert listed.total_count == 0


async def test_a_refusal_says_why(commerce: Commerce, toss: TossSandbox) -> None:
    async with stub(commerce) as payments:
        opened = await payments.CreatePayment(request())
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await payments.ConfirmPayment(
                pb.ConfirmPaymentRequest(payment_id=opened.payment_id, payment_key="test-decline")
            )
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "잔액부족" in (refused.value.details() or "")
        failed = await payments.GetPayment(pb.GetPaymentRequest(payment_id=opened.payment_id))
        assert failed.status == pb.PAYMENT_STATUS_FAILED


async def run(
    commerce: Commerce, query: str, principal: Principal = ALICE, **variables: object
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    context = CommerceContext.of(RequestContext(principal=principal), commerce.services, commerce.database)
    result = await schema.execute(
        query,
        variable_values=deepcopy(variables),  # strawberry takes representations apart
        context_value=context,
    )
    return result.data, [dict(error.extensions or {}) for error in result.errors or []]


@contextmanager
def statements(commerce: Commerce) -> Iterator[list[str]]:
    """The statements that are sent meanwhile, without those that open a transaction."""
    sent: list[str] = []

    def record(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.startswith("SET TRANSACTION"):
            sent.append(statement)

    engine = commerce.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", record)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", record)


async def pay(commerce: Commerce, order_id: str, principal: Principal = ALICE) -> str:
    data, errors = await run(commerce, CREATE, principal, order=order_id, amount=PRICE_KRW)
    assert data, errors
    payment_id: str = data["createPayment"]["id"]
    data, errors = await run(commerce, CONFIRM, principal, id=payment_id, key=f"test-{payment_id}")
    assert errors == []
    return payment_id


async def test_the_flow_in_the_graph(commerce: Commerce, toss: TossSandbox) -> None:
    data, errors = await run(commerce, CREATE, order=ORDER, amount=PRICE_KRW)
    assert errors == []
    assert data is not None
    opened = data["createPayment"]
    assert opened | {"id": ""} == {
        "id": "",
        "type": "ONE_TIME",
        "status": "PENDING",
        "amountKrw": PRICE_KRW,
        "method": "card",
        "provider": "toss",
        "orderId": ORDER,
        "payer": {"id": "alice"},
        "order": None,  # not the shop's
        "transactionId": None,
        "completedAt": None,
    }
    data, errors = await run(commerce, CONFIRM, id=opened["id"], key=KEY)
    assert errors == []
    assert data is not None
    assert data["confirmPayment"]["status"] == "COMPLETED"
    assert data["confirmPayment"]["transactionId"]
    data, errors = await run(commerce, REFUND, id=opened["id"])
    assert errors == []
    assert data is not None
    assert data["first"]["refund"]["status"] == "SUCCEEDED"
    assert data["first"]["refund"]["refundedAt"]
    assert data["first"]["payment"] == {
        "status": "PARTIAL_REFUND",
        "refundedKrw": 9_900,
        "refunds": [{"amountKrw": 9_900}],
    }
    assert data["rest"]["payment"]["status"] == "REFUNDED"
    assert [refund["amountKrw"] for refund in data["rest"]["payment"]["refunds"]] == [9_900, 20_000]
    await assert_books_balance(commerce, toss)


async def test_a_refund_of_0_won_is_refused_and_one_without_an_amount_is_whole(
    commerce: Commerce, toss: TossSandbox
) -> None:
    payment_id = await pay(commerce, ORDER)
    refund = "mutation ($input: RefundPaymentInput!) { refundPayment(input: $input) { payment { refundedKrw } } }"
    for amount in (0, -1, 2**31 - 1):
        data, errors = await run(commerce, refund, input={"id": payment_id, "amountKrw": amount})
        assert data is None
        assert errors[0]["code"] in ("BAD_USER_INPUT", "FAILED_PRECONDITION")
    assert toss.ledger.everything()[0].balance == PRICE_KRW
    data, errors = await run(commerce, refund, input={"id": payment_id, "amountKrw": None})
    assert (data, errors) == ({"refundPayment": {"payment": {"refundedKrw": PRICE_KRW}}}, [])
    await assert_books_balance(commerce, toss)


async def test_a_refusal_carries_its_reason_and_the_providers_code(commerce: Commerce, toss: TossSandbox) -> None:
    data, _ = await run(commerce, CREATE, order=ORDER, amount=PRICE_KRW)
    assert data is not None
    _, errors = await run(commerce, CONFIRM, id=data["createPayment"]["id"], key="test-decline")
    assert errors == [
        {
            "code": "FAILED_PRECONDITION",
            "reason": "PAYMENT_DECLINED",
            "details": {"provider_code": "REJECT_CARD_PAYMENT"},
        }
    ]


async def test_the_payments_of_many_people_take_two_statements(commerce: Commerce, toss: TossSandbox) -> None:
    admin = Principal(kind=ALICE.kind, subject="admin", role=Role.ADMIN, scopes=ALICE.scopes)
    mine = [await pay(commerce, f"order-{number}") for number in range(3)]
    theirs = await pay(commerce, "order-0", BOB)
    people = [{"__typename": "User", "id": "alice"}, {"__typename": "User", "id": "bob"}]
    with statements(commerce) as sent:
        data, errors = await run(commerce, EVERYTHING_OF_PEOPLE, admin, people=people, first=2)
    assert errors == []
    assert data is not None
    assert len(sent) == 2  # the pages, and all their refunds
    alice, bob = data["_entities"]
    assert [edge["node"]["id"] for edge in alice["payments"]["edges"]] == mine[:0:-1]
    assert (alice["payments"]["totalCount"], alice["payments"]["pageInfo"]["hasNextPage"]) == (3, True)
    assert [edge["node"]["id"] for edge in bob["payments"]["edges"]] == [theirs]
    cursor = alice["payments"]["pageInfo"]["endCursor"]
    data, _ = await run(commerce, EVERYTHING_OF_PEOPLE, people=people[:1], first=2, after=cursor)
    assert data is not None
    assert [edge["node"]["id"] for edge in data["_entities"][0]["payments"]["edges"]] == mine[:1]


async def test_what_belongs_to_others_stays_with_them(commerce: Commerce, toss: TossSandbox) -> None:
    payment_id = await pay(commerce, ORDER)
    people = [{"__typename": "User", "id": "alice"}, {"__typename": "User", "id": "bob"}]
    data, errors = await run(commerce, EVERYTHING_OF_PEOPLE, BOB, people=people, first=2)
    assert data == {
        "_entities": [
            {"id": "alice", "payments": None},
            {
                "id": "bob",
                "payments": {"totalCount": 0, "pageInfo": {"hasNextPage": False, "endCursor": None}, "edges": []},
            },
        ]
    }
    assert [error["code"] for error in errors] == ["FORBIDDEN"]
    reference = (
        "query ($id: ID!, $it: [_Any!]!) { payment(id: $id) { id } _entities(representations: $it) { __typename } }"
    )
    it = [{"__typename": "Payment", "id": payment_id}]
    data, errors = await run(commerce, reference, BOB, id=payment_id, it=it)
    assert (data, errors) == ({"payment": None, "_entities": [None]}, [])
    data, errors = await run(commerce, reference, id=payment_id, it=it)
    assert (data, errors) == ({"payment": {"id": payment_id}, "_entities": [{"__typename": "Payment"}]}, [])
    _, errors = await run(commerce, reference, ANONYMOUS, id=payment_id, it=it)
    assert {error["code"] for error in errors} == {"UNAUTHENTICATED"}


async def test_confirming_in_the_graph_and_over_grpc_at_once_charges_once(
    commerce: Commerce, toss: TossSandbox
) -> None:
    data, _ = await run(commerce, CREATE, order=ORDER, amount=PRICE_KRW)
    assert data is not None
    payment_id = data["createPayment"]["id"]
    async with stub(commerce) as payments:
        answers = await asyncio.gather(
            run(commerce, CONFIRM, id=payment_id, key=KEY),
            payments.ConfirmPayment(pb.ConfirmPaymentRequest(payment_id=payment_id, payment_key=KEY)),
        )
    graph, wire = answers
    assert graph[0] is not None
    assert graph[0]["confirmPayment"]["transactionId"] == wire.pg_transaction_id
    assert len(toss.ledger.everything()) == 1
