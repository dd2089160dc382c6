"""payment-service over gRPC."""

from google.protobuf.timestamp_pb2 import Timestamp
from manpasik.v1 import payment_pb2 as pb
from manpasik.v1 import payment_pb2_grpc as pb_grpc

from domain.commerce.payment.errors import PaymentFieldInvalid
from domain.commerce.payment.models import Payment, PaymentType
from domain.commerce.payment.states import PaymentStatus
from subgraphs.commerce.services import CommerceServices
from subgraphs.commerce.wire import timestamp
from subgraphs.runtime.context import current
from subgraphs.runtime.database import Database

_TYPE_TO_WIRE = {
    PaymentType.ONE_TIME: pb.PAYMENT_TYPE_ONE_TIME,
    PaymentType.SUBSCRIPTION: pb.PAYMENT_TYPE_SUBSCRIPTION,
}
_TYPE_FROM_WIRE = {wire: payment_type for payment_type, wire in _TYPE_TO_WIRE.items()}
_STATUS_TO_WIRE = {
    PaymentStatus.PENDING: pb.PAYMENT_STATUS_PENDING,
    PaymentStatus.CONFIRMING: pb.PAYMENT_STATUS_PENDING,  # nothing is known to be captured
    PaymentStatus.COMPLETED: pb.PAYMENT_STATUS_COMPLETED,
    PaymentStatus.FAILED: pb.PAYMENT_STATUS_FAILED,
    PaymentStatus.CANCELLED: pb.PAYMENT_STATUS_CANCELLED,
    PaymentStatus.REFUNDED: pb.PAYMENT_STATUS_REFUNDED,
    PaymentStatus.PARTIAL_REFUND: pb.PAYMENT_STATUS_PARTIAL_REFUND,
}


class PaymentServicer(pb_grpc.PaymentServiceServicer):
    """manpasik.v1.PaymentService."""

    def __init__(self, services: CommerceServices, database: Database) -> None:
        self._payments = services.payments
        self._database = database

    async def CreatePayment(  # noqa: N802 - the name of the wire
        self, request: pb.CreatePaymentRequest, _context: object
    ) -> pb.PaymentDetail:
        payment_type = _TYPE_FROM_WIRE.get(request.payment_type)
        if payment_type is None:
            raise PaymentFieldInvalid("payment_type must be one-time or subscription.", field="payment_type")
        async with self._database.transaction() as session:
            payment = await self._payments.create(
                session,
                current().principal,
                user_id=request.user_id,
                order_id=request.order_id,
                subscription_id=request.subscription_id,
                payment_type=payment_type,
                amount_krw=request.amount_krw,
                payment_method=request.payment_method,
            )
        return _detail(payment)

    async def ConfirmPayment(  # noqa: N802 - the name of the wire
        self, request: pb.ConfirmPaymentRequest, _context: object
    ) -> pb.PaymentDetail:
        payment = await self._payments.confirm(
            current().principal,
            payment_id=request.payment_id,
            payment_key=request.payment_key,
            pg_provider=request.pg_provider,
            pg_transaction_id=request.pg_transaction_id,
        )
        return _detail(payment)

    async def GetPayment(  # noqa: N802 - the name of the wire
        self, request: pb.GetPaymentRequest, _context: object
    ) -> pb.PaymentDetail:
        async with self._database.read() as session:
            return _detail(await self._payments.get(session, current().principal, request.payment_id))

    async def ListPayments(  # noqa: N802 - the name of the wire
        self, request: pb.ListPaymentsRequest, _context: object
    ) -> pb.ListPaymentsResponse:
        async with self._database.read() as session:
            payments, total = await self._payments.list_of(
                session,
                current().principal,
                user_id=request.user_id,
                limit=request.limit,
                offset=request.offset,
            )
        return pb.ListPaymentsResponse(payments=[_detail(payment) for payment in payments], total_count=total)

    async def RefundPayment(  # noqa: N802 - the name of the wire
        self, request: pb.RefundPaymentRequest, _context: object
    ) -> pb.RefundResponse:
        carried_out = await self._payments.refund(
            current().principal,
            payment_id=request.payment_id,
            amount_krw=request.refund_amount_krw or None,  # the contract: 0 is all that is left
            reason=request.reason,
        )
        return pb.RefundResponse(
            refund_id=carried_out.refund.refund_id,
            payment_id=carried_out.refund.payment_id,
            refund_amount_krw=carried_out.refund.amount_krw,
            payment_status=_STATUS_TO_WIRE[carried_out.payment_status],
            refunded_at=timestamp(carried_out.refunded_at),
        )


def _detail(payment: Payment) -> pb.PaymentDetail:
    completed_at: Timestamp | None = timestamp(payment.completed_at) if payment.completed_at else None
    return pb.PaymentDetail(
        payment_id=payment.payment_id,
        user_id=payment.user_id,
        order_id=payment.order_id,
        subscription_id=payment.subscription_id,
        payment_type=_TYPE_TO_WIRE[PaymentType(payment.payment_type)],
        amount_krw=payment.amount_krw,
        status=_STATUS_TO_WIRE[PaymentStatus(payment.status)],
        payment_method=payment.payment_method,
        pg_transaction_id=payment.pg_transaction_id,
        pg_provider=payment.pg_provider,
        created_at=timestamp(payment.created_at),
        completed_at=completed_at,
    )
