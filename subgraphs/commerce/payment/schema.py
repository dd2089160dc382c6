"""Payment in GraphQL."""

# The overloads of strawberry.field and strawberry.mutation for decorators with arguments answer Any.
# mypy: disable-error-code="untyped-decorator"

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from domain.commerce.payment import models, states
from domain.commerce.payment.balances import refunded_krw
from domain.paging import DEFAULT_PAGE, Page, PageRequest, encode_cursor
from domain.principal import Scope
from subgraphs.commerce.context import Info
from subgraphs.runtime.graphql import AUTHENTICATED, list_size, requires_scopes
from subgraphs.runtime.relay import PageInfo, page_info, page_request

if TYPE_CHECKING:
    from subgraphs.commerce.schema import User
    from subgraphs.commerce.shop.order_schema import Order

PaymentType = strawberry.enum(models.PaymentType, name="PaymentType", description="What a payment is for.")
PaymentStatus = strawberry.enum(
    states.PaymentStatus,
    name="PaymentStatus",
    description="State of a payment; while it is confirming, the provider has not said yet whether it captured.",
)
RefundStatus = strawberry.enum(
    models.RefundStatus, name="RefundStatus", description="State of a refund; started ones are certain to be settled."
)

First = Annotated[int, strawberry.argument(description="How many items, 1 to 100.")]
After = Annotated[str | None, strawberry.argument(description="Cursor of the item before the page.")]
_PAGED = list_size("first", sized_fields=("edges",))
_READ = [AUTHENTICATED, requires_scopes(Scope.COMMERCE_READ)]
_WRITE = [AUTHENTICATED, requires_scopes(Scope.COMMERCE_WRITE)]


@strawberry.type(description="An amount that was paid back, or is about to be.")
class Refund:
    id: strawberry.ID = strawberry.field(description="Names the refund.")
    amount_krw: int = strawberry.field(description="Amount in whole won.")
    status: models.RefundStatus = strawberry.field(description="State it is in.")
    reason: str = strawberry.field(description="Why; printed on the receipt.")
    requested_at: datetime = strawberry.field(description="When it was asked for.")
    refunded_at: datetime | None = strawberry.field(description="When the provider carried it out; null until then.")

    @classmethod
    def of(cls, row: models.Refund) -> "Refund":
        succeeded = row.status == models.RefundStatus.SUCCEEDED
        return cls(
            id=strawberry.ID(row.refund_id),
            amount_krw=row.amount_krw,
            status=models.RefundStatus(row.status),
            reason=row.reason,
            requested_at=row.requested_at,
            refunded_at=row.ended_at if succeeded else None,
        )


@strawberry.federation.type(
    keys=["id"], description="A payment for an order or a period of a plan.", directives=[AUTHENTICATED]
)
class Payment:
    row: strawberry.Private[models.Payment]
    id: strawberry.ID = strawberry.field(description="Names the payment; the provider knows it by this id too.")
    type: models.PaymentType = strawberry.field(description="What it is for.")
    status: states.PaymentStatus = strawberry.field(description="State it is in.")
    amount_krw: int = strawberry.field(description="Amount in whole won.")
    order_id: strawberry.ID | None = strawberry.field(description="Id of what it pays; null when there is none.")
    subscription_id: strawberry.ID | None = strawberry.field(description="Subscription it pays; null for goods.")
    method: str = strawberry.field(description="How it is paid, as the provider names it, such as card.")
    provider: str = strawberry.field(description="Payment provider, such as toss.")
    transaction_id: str | None = strawberry.field(description="The provider's transaction; null until captured.")
    failure_code: str | None = strawberry.field(description="The provider's code, when it refused.")
    failure_message: str | None = strawberry.field(description="What the provider tells the payer, when it refused.")
    created_at: datetime = strawberry.field(description="When it was opened.")
    completed_at: datetime | None = strawberry.field(description="When it was captured; null until then.")

    @strawberry.field(description="Who pays, and gets refunds.")
    def payer(self) -> Annotated["User", strawberry.lazy("subgraphs.commerce.schema")]:
        from subgraphs.commerce.schema import User  # noqa: PLC0415 - it is put together from this module

        return User(id=strawberry.ID(self.row.user_id))

    @strawberry.field(description="The order it pays; null when it pays none of the shop's.")
    async def order(
        self, info: Info
    ) -> Annotated["Order", strawberry.lazy("subgraphs.commerce.shop.order_schema")] | None:
        from subgraphs.commerce.shop.order_schema import Order  # noqa: PLC0415 - orders show their payments

        return await Order.load(info, self.row.order_id) if self.row.order_id else None

    @strawberry.field(description="What was paid back of it, oldest first.", directives=[list_size(assumed=10)])
    async def refunds(self, info: Info) -> list[Refund]:
        return [Refund.of(row) for row in await info.context.payments.refunds.load(self.id)]

    @strawberry.field(description="What was paid back of it so far, in whole won.")
    async def refunded_krw(self, info: Info) -> int:
        return refunded_krw(await info.context.payments.refunds.load(self.id))

    @classmethod
    def of(cls, row: models.Payment) -> "Payment":
        return cls(
            row=row,
            id=strawberry.ID(row.payment_id),
            type=models.PaymentType(row.payment_type),
            status=states.PaymentStatus(row.status),
            amount_krw=row.amount_krw,
            order_id=strawberry.ID(row.order_id) if row.order_id else None,
            subscription_id=strawberry.ID(row.subscription_id) if row.subscription_id else None,
            method=row.payment_method,
            provider=row.pg_provider,
            transaction_id=row.pg_transaction_id or None,
            failure_code=row.failure_code or None,
            failure_message=row.failure_message or None,
            created_at=row.created_at,
            completed_at=row.completed_at,
        )

    @classmethod
    async def load(cls, info: Info, payment_id: str) -> "Payment | None":
        """The payment with an id; None when there is none that the caller may see."""
        row = await info.context.payments.by_id.load(payment_id)
        return cls.of(row) if row else None

    @classmethod
    async def resolve_reference(cls, info: Info, id: strawberry.ID) -> "Payment | None":
        """The payment of a reference; None when there is none that the caller may see."""
        return await cls.load(info, id)


@strawberry.type(description="A payment in a page, with its cursor.")
class PaymentEdge:
    cursor: str = strawberry.field(description="Where it stands in the list.")
    node: Payment = strawberry.field(description="The payment.")


@strawberry.type(description="A page of payments, newest first.")
class PaymentConnection:
    edges: list[PaymentEdge] = strawberry.field(description="The payments of this page.")
    page_info: PageInfo = strawberry.field(description="Where this page stands.")
    total_count: int = strawberry.field(description="How many there are in all.")

    @classmethod
    def of(cls, page: Page[models.Payment], request: PageRequest) -> "PaymentConnection":
        cursors = [encode_cursor(row.created_at, row.payment_id) for row in page.items]
        return cls(
            edges=[
                PaymentEdge(cursor=cursor, node=Payment.of(row))
                for cursor, row in zip(cursors, page.items, strict=True)
            ],
            page_info=page_info(cursors, has_next=page.has_next, request=request),
            total_count=page.total,
        )


@strawberry.type
class PaymentOfUser:
    """What the service knows of a person; `id` is that of `User`."""

    id: strawberry.ID

    @strawberry.field(description="The person's payments, newest first.", directives=[*_READ, _PAGED])
    async def payments(self, info: Info, first: First = DEFAULT_PAGE, after: After = None) -> PaymentConnection | None:
        request = page_request(first, after)
        page = await info.context.payments.of_user.load((self.id, request))
        return PaymentConnection.of(page, request)


@strawberry.type
class PaymentQuery:
    @strawberry.field(
        description="A payment by its id; null when there is none that the caller may see.", directives=_READ
    )
    async def payment(self, info: Info, id: strawberry.ID) -> Payment | None:
        info.context.principal.require_scope(Scope.COMMERCE_READ)
        return await Payment.load(info, id)


@strawberry.input(
    description="What is to be paid: an order, what a subscription owes, or without either a payment of its own."
)
class CreatePaymentInput:
    amount_krw: int = strawberry.field(description="Amount in whole won; must equal what is owed.")
    order_id: strawberry.ID | None = strawberry.field(
        default=None, description="The order; null for a plan or a payment of its own."
    )
    subscription_id: strawberry.ID | None = strawberry.field(
        default=None, description="The subscription; null for goods."
    )
    method: str = strawberry.field(default="card", description="How the payer wants to pay, such as card.")


@strawberry.input(description="The provider's approval of a payment.")
class ConfirmPaymentInput:
    id: strawberry.ID = strawberry.field(description="The payment.")
    payment_key: str = strawberry.field(description="Key that the provider handed out on the payer's approval.")


@strawberry.input(description="Money to pay back.")
class RefundPaymentInput:
    id: strawberry.ID = strawberry.field(description="A captured payment.")
    amount_krw: int | None = strawberry.field(
        default=None, description="In whole won, at least 1; null is all that is left."
    )
    reason: str = strawberry.field(default="", description="Why; printed on the receipt.")


@strawberry.type(description="A refund that was carried out.")
class RefundPaymentPayload:
    refund: Refund = strawberry.field(description="The refund.")
    payment: Payment = strawberry.field(description="Its payment after it.")


@strawberry.type
class PaymentMutation:
    @strawberry.mutation(
        description="Open a payment for an order or a subscription; asked again, it is the same one.", directives=_WRITE
    )
    async def create_payment(self, info: Info, input: CreatePaymentInput) -> Payment:
        plan = input.subscription_id is not None
        async with info.context.database.transaction() as session:
            row = await info.context.services.payments.create(
                session,
                info.context.principal,
                user_id="",
                order_id=input.order_id or "",
                subscription_id=input.subscription_id or "",
                payment_type=models.PaymentType.SUBSCRIPTION if plan else models.PaymentType.ONE_TIME,
                amount_krw=input.amount_krw,
                payment_method=input.method,
            )
        return Payment.of(row)

    @strawberry.mutation(
        description="Capture what the payer has approved at the provider. Repeating it changes nothing.",
        directives=_WRITE,
    )
    async def confirm_payment(self, info: Info, input: ConfirmPaymentInput) -> Payment:
        row = await info.context.services.payments.confirm(
            info.context.principal, payment_id=input.id, payment_key=input.payment_key
        )
        return Payment.of(row)

    @strawberry.mutation(
        description="Pay back all or a part; all refunds together never exceed the payment.", directives=_WRITE
    )
    async def refund_payment(self, info: Info, input: RefundPaymentInput) -> RefundPaymentPayload:
        payments = info.context.services.payments
        principal = info.context.principal
        done = await payments.refund(principal, payment_id=input.id, amount_krw=input.amount_krw, reason=input.reason)
        info.context.payments.refunds.clear_all()  # one request may pay back several times
        async with info.context.database.read() as session:
            row = await payments.get(session, principal, input.id)
        return RefundPaymentPayload(refund=Refund.of(done.refund), payment=Payment.of(row))
