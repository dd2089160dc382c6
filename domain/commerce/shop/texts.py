"""What happened to an order as a short sentence, in Korean and English."""

from domain.commerce.shop.models import CancelReason, Locale, TimelineEntry, TimelineKind

_SENTENCES: dict[TimelineKind, dict[Locale, str]] = {
    TimelineKind.CREATED: {"ko": "주문이 접수되었습니다: {amount}.", "en": "Ordered: {amount}."},
    TimelineKind.PAYMENT_OPENED: {"ko": "결제를 기다립니다: {amount}.", "en": "Waits for a payment of {amount}."},
    TimelineKind.PAID: {"ko": "결제가 완료되었습니다: {amount}.", "en": "Paid: {amount}."},
    TimelineKind.PAYMENT_FAILED: {
        "ko": "결제가 승인되지 않았습니다 ({reason}).",
        "en": "The payment was refused ({reason}).",
    },
    TimelineKind.REFUND_REQUESTED: {
        "ko": "환불을 요청했습니다: {amount}.",
        "en": "A refund of {amount} was requested.",
    },
    TimelineKind.REFUNDED: {"ko": "환불되었습니다: {amount}.", "en": "Paid back: {amount}."},
    TimelineKind.SHIPPED: {"ko": "상품이 발송되었습니다.", "en": "Shipped."},
    TimelineKind.DELIVERED: {"ko": "상품이 배송되었습니다.", "en": "Delivered."},
}
_CANCELLED: dict[CancelReason, dict[Locale, str]] = {
    CancelReason.PAYMENT_FAILED: {
        "ko": "결제가 승인되지 않아 주문이 취소되었습니다.",
        "en": "Cancelled, because the payment was refused.",
    },
    CancelReason.TIMED_OUT: {
        "ko": "제때 결제되지 않아 주문이 취소되었습니다.",
        "en": "Cancelled, because it was not paid in time.",
    },
    CancelReason.BY_CUSTOMER: {"ko": "요청에 따라 주문이 취소되었습니다.", "en": "Cancelled as requested."},
    CancelReason.ACCOUNT_PROVEN: {
        "ko": "이메일 주소를 확인하기 전에 만들어진 주문이라 취소되었습니다.",
        "en": "Cancelled, because it was made before the mail address was proven.",
    },
    CancelReason.REFUNDED: {"ko": "환불되어 주문이 취소되었습니다.", "en": "Cancelled, because it was paid back."},
}


def timeline_text(entry: TimelineEntry, locale: Locale) -> str:
    """The entry as a sentence for the buyer."""
    kind = TimelineKind(entry.kind)
    if kind is TimelineKind.CANCELLED:
        return _CANCELLED[CancelReason(entry.reason)][locale]
    return _SENTENCES[kind][locale].format(amount=won(entry.amount_krw or 0, locale), reason=entry.reason)


def won(amount: int, locale: Locale) -> str:
    """An amount to read: `29,900원`, `29,900 won`."""
    return f"{amount:,}원" if locale == "ko" else f"{amount:,} won"
