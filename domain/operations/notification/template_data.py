"""The templates that the service starts with; a migration loads them, and administrators may change their words.

Titles appear on locked phones and in mails: no health value, and nothing that tells what was measured, stands in one.
"""

from dataclasses import dataclass

from domain.operations.notification.models import NotificationType, Priority


@dataclass(frozen=True, slots=True)
class TemplateSeed:
    """A template with its words.

    Args:
        topic: the event that becomes this message; empty: only services that name the template send it.
        texts: title and body by locale.
    """

    key: str
    topic: str
    type: NotificationType
    priority: Priority
    variables: tuple[str, ...]
    action_url: str
    ko: tuple[str, str]
    en: tuple[str, str]


_HEALTH, _MEASURED = NotificationType.HEALTH_ALERT, NotificationType.MEASUREMENT
_VISIT, _MEDICINE = NotificationType.APPOINTMENT, NotificationType.PRESCRIPTION
_SOCIAL, _SYSTEM = NotificationType.COMMUNITY, NotificationType.SYSTEM
_LOW, _NORMAL, _HIGH, _URGENT = Priority.LOW, Priority.NORMAL, Priority.HIGH, Priority.URGENT

TEMPLATES: tuple[TemplateSeed, ...] = (
    TemplateSeed(
        "measurement_completed",
        "",
        _MEASURED,
        _NORMAL,
        ("session_id", "type_name"),
        "/measurements/{session_id}",
        ("측정이 끝났습니다", "{type_name} 측정 결과가 준비되었습니다."),
        ("Your measurement is complete", "The result of your {type_name} measurement is ready."),
    ),
    TemplateSeed(
        "ai_analysis_completed",
        "ai.analysis_completed",
        _MEASURED,
        _NORMAL,
        ("analysis_id",),
        "/analyses/{analysis_id}",
        ("분석이 끝났습니다", "새 분석 결과를 확인하세요."),
        ("Your analysis is ready", "A new analysis of your measurements is ready to read."),
    ),
    TemplateSeed(
        "coaching_tip",
        "coaching.tip_delivered",
        _MEASURED,
        _LOW,
        ("message_id", "headline"),
        "/coaching/{message_id}",
        ("새 코칭이 도착했습니다", "{headline}"),
        ("You have a new coaching tip", "{headline}"),
    ),
    TemplateSeed(
        "health_alert",
        "health_alert.triggered",
        _HEALTH,
        _URGENT,
        ("session_id", "type_name", "value", "limit", "unit"),
        "/measurements/{session_id}",
        (
            "건강 경고",
            (
                "{type_name} 측정값이 {value} {unit}로, 위험 기준 {limit} {unit}을(를) 벗어났습니다. "
                "몸 상태를 살피고 의료진과 상의하세요. 응급 상황이면 119에 전화하세요."
            ),
        ),
        (
            "Health alert",
            (
                "Your {type_name} measured {value} {unit}, beyond the critical limit of {limit} {unit}. "
                "See how you feel and talk to a clinician. In an emergency call your local emergency number (119 in Korea)."
            ),
        ),
    ),
    TemplateSeed(
        "health_alert_late",
        "health_alert.triggered",
        _HEALTH,
        _HIGH,
        ("session_id", "type_name", "value", "limit", "unit", "when"),
        "/measurements/{session_id}",
        (
            "지난 측정에 대한 건강 안내",
            (
                "{when}에 측정한 {type_name} 값이 {value} {unit}로, 위험 기준 {limit} {unit}을(를) 벗어났습니다. "
                "이 결과는 측정 뒤 늦게 전송되었으며 지금 상태가 아닙니다. 지금 다시 측정하고, 몸이 좋지 않으면 의료진과 상의하세요."
            ),
        ),
        (
            "Health notice about an earlier measurement",
            (
                "Your {type_name} measured {value} {unit} at {when}, beyond the critical limit of {limit} {unit}. "
                "This result was sent late and is not how you are now. Measure again now, and talk to a clinician if you "
                "feel unwell."
            ),
        ),
    ),
    TemplateSeed(
        "health_alert_undated",
        "health_alert.triggered",
        _HEALTH,
        _HIGH,
        ("session_id", "type_name", "value", "limit", "unit", "when"),
        "/measurements/{session_id}",
        (
            "측정 시각을 알 수 없는 건강 안내",
            (
                "{type_name} 측정값이 {value} {unit}로, 위험 기준 {limit} {unit}을(를) 벗어났습니다. "
                "측정기의 시계가 맞지 않아 측정 시각을 알 수 없으며, 결과는 {when}에 전송되었습니다. "
                "지금 다시 측정하고, 몸이 좋지 않으면 의료진과 상의하세요. 측정기의 시계를 맞추세요."
            ),
        ),
        (
            "Health notice about a measurement of unknown time",
            (
                "Your {type_name} measured {value} {unit}, beyond the critical limit of {limit} {unit}. The clock of the "
                "reader is not set, so it is not known when that was; the result arrived at {when}. Measure again now, and "
                "talk to a clinician if you feel unwell. Set the clock of the reader."
            ),
        ),
    ),
    TemplateSeed(
        "measurement_invalid",
        "measurement.invalid",
        _MEASURED,
        _HIGH,
        ("session_id", "type_name", "why", "electrodes"),
        "/measurements/{session_id}",
        (
            "다시 측정해 주세요",
            (
                "{type_name} 측정 신호를 신뢰할 수 없어 결과를 내지 않았습니다. {why} {electrodes} "
                "새 카트리지로 다시 측정하세요. 몸이 좋지 않으면 결과를 기다리지 말고 의료진과 상의하세요."
            ),
        ),
        (
            "Please measure again",
            (
                "The signals of your {type_name} measurement cannot be trusted, so there is no result. {why} {electrodes} "
                "Measure again with a new cartridge. If you feel unwell, talk to a clinician without waiting for a result."
            ),
        ),
    ),
    TemplateSeed(
        "health_alert_general",
        "health_alert.triggered",
        _HEALTH,
        _URGENT,
        ("alert_id",),
        "/alerts/{alert_id}",
        ("건강 경고", "확인이 필요한 결과가 있습니다. 앱에서 자세히 보고, 응급 상황이면 119에 전화하세요."),
        (
            "Health alert",
            "A result needs your attention. Read it in the app; in an emergency call your local emergency number (119 in Korea).",
        ),
    ),
    TemplateSeed(
        "subscription_created",
        "subscription.created",
        _SYSTEM,
        _NORMAL,
        ("plan",),
        "/subscription",
        ("구독이 시작되었습니다", "{plan} 요금제를 이용할 수 있습니다."),
        ("Your plan has started", "You are on the {plan} plan."),
    ),
    TemplateSeed(
        "subscription_awaits_payment",
        "subscription.created",
        _SYSTEM,
        _NORMAL,
        ("plan", "amount"),
        "/subscription",
        ("결제하면 구독이 시작됩니다", "{plan} 요금제: {amount}을 결제해 주세요."),
        ("Your plan starts once it is paid", "Please pay {amount} for the {plan} plan."),
    ),
    TemplateSeed(
        "subscription_cancelled",
        "subscription.cancelled",
        _SYSTEM,
        _NORMAL,
        ("plan", "until"),
        "/subscription",
        ("구독이 해지되었습니다", "{plan} 요금제는 {until}까지 이용할 수 있습니다."),
        ("Your plan is cancelled", "You can use the {plan} plan until {until}."),
    ),
    TemplateSeed(
        "subscription_payment_due",
        "subscription.payment_due",
        _SYSTEM,
        _HIGH,
        ("plan", "amount", "until"),
        "/subscription",
        ("구독 결제가 필요합니다", "{plan} 요금제 {amount}을 {until}까지 결제해 주세요."),
        ("A payment for your plan is due", "Please pay {amount} for the {plan} plan by {until}."),
    ),
    TemplateSeed(
        "subscription_changed",
        "subscription.changed",
        _SYSTEM,
        _NORMAL,
        ("plan",),
        "/subscription",
        ("구독이 변경되었습니다", "지금 이용 중인 요금제는 {plan}입니다."),
        ("Your plan has changed", "You are now on the {plan} plan."),
    ),
    TemplateSeed(
        "subscription_ended",
        "subscription.changed",
        _SYSTEM,
        _HIGH,
        ("previous_plan", "plan"),
        "/subscription",
        ("구독이 종료되었습니다", "{previous_plan} 요금제가 끝나 {plan} 요금제로 바뀌었습니다."),
        ("Your plan has ended", "The {previous_plan} plan has ended; you are on the {plan} plan."),
    ),
    TemplateSeed(
        "payment_completed",
        "payment.completed",
        _SYSTEM,
        _NORMAL,
        ("payment_id", "amount"),
        "/payments/{payment_id}",
        ("결제가 완료되었습니다", "{amount}이 결제되었습니다."),
        ("Your payment is complete", "{amount} was paid."),
    ),
    TemplateSeed(
        "payment_failed",
        "payment.failed",
        _SYSTEM,
        _HIGH,
        ("payment_id", "amount", "why"),
        "/payments/{payment_id}",
        ("결제하지 못했습니다", "{amount}이 결제되지 않았습니다. {why}"),
        ("Your payment has failed", "{amount} was not paid. {why}"),
    ),
    TemplateSeed(
        "payment_refunded",
        "payment.refunded",
        _SYSTEM,
        _NORMAL,
        ("payment_id", "amount"),
        "/payments/{payment_id}",
        ("환불되었습니다", "{amount}이 환불되었습니다. 카드사에 따라 며칠 뒤에 표시될 수 있습니다."),
        ("You were refunded", "{amount} was refunded. It may take your bank some days to show it."),
    ),
    TemplateSeed(
        "order_created",
        "shop.order_created",
        _SYSTEM,
        _NORMAL,
        ("order_id", "amount", "until"),
        "/orders/{order_id}",
        ("주문이 접수되었습니다", "{amount}을 {until}까지 결제해 주세요."),
        ("We have your order", "Please pay {amount} by {until}."),
    ),
    TemplateSeed(
        "order_cancelled",
        "shop.order_cancelled",
        _SYSTEM,
        _NORMAL,
        ("order_id", "why"),
        "/orders/{order_id}",
        ("주문이 취소되었습니다", "{why}"),
        ("Your order was cancelled", "{why}"),
    ),
    TemplateSeed(
        "reservation_created",
        "reservation.created",
        _VISIT,
        _NORMAL,
        ("reservation_id", "facility", "when"),
        "/reservations/{reservation_id}",
        ("예약이 접수되었습니다", "{facility} {when}"),
        ("Your reservation is made", "{facility} {when}"),
    ),
    TemplateSeed(
        "reservation_cancelled",
        "reservation.cancelled",
        _VISIT,
        _HIGH,
        ("reservation_id", "facility", "when"),
        "/reservations/{reservation_id}",
        ("예약이 취소되었습니다", "{facility} {when}"),
        ("Your reservation was cancelled", "{facility} {when}"),
    ),
    TemplateSeed(
        "prescription_created",
        "prescription.created",
        _MEDICINE,
        _NORMAL,
        ("prescription_id", "doctor"),
        "/prescriptions/{prescription_id}",
        ("새 처방전이 있습니다", "처방전이 발급되었습니다. {doctor}"),
        ("You have a new prescription", "A prescription was issued. {doctor}"),
    ),
    TemplateSeed(
        "prescription_sent_to_pharmacy",
        "prescription.sent_to_pharmacy",
        _MEDICINE,
        _NORMAL,
        ("prescription_id", "pharmacy"),
        "/prescriptions/{prescription_id}",
        ("처방전을 약국에 보냈습니다", "약국에서 약을 받을 수 있습니다. {pharmacy}"),
        ("Your prescription was sent", "A pharmacy has your prescription. {pharmacy}"),
    ),
    TemplateSeed(
        "family_data_shared",
        "family.data_shared",
        _SYSTEM,
        _NORMAL,
        ("owner_id", "owner"),
        "/family/{owner_id}",
        ("가족이 데이터를 공유했습니다", "{owner}님이 건강 데이터를 함께 보도록 했습니다."),
        ("Someone shared their data with you", "{owner} lets you see their health data."),
    ),
    TemplateSeed(
        "post_created",
        "community.post_created",
        _SOCIAL,
        _LOW,
        ("post_id", "author", "headline"),
        "/community/{post_id}",
        ("새 게시글이 있습니다", "{author}: {headline}"),
        ("There is a new post", "{author}: {headline}"),
    ),
    TemplateSeed(
        "comment_created",
        "community.comment_created",
        _SOCIAL,
        _NORMAL,
        ("post_id", "author"),
        "/community/{post_id}",
        ("새 댓글이 달렸습니다", "{author}님이 회원님의 글에 댓글을 남겼습니다."),
        ("There is a new comment", "{author} commented on your post."),
    ),
    TemplateSeed(
        "admin_action",
        "admin.action_performed",
        _SYSTEM,
        _HIGH,
        ("action",),
        "/account",
        ("계정에 관리자 조치가 있었습니다", "조치: {action}. 궁금한 점은 고객센터로 문의하세요."),
        ("An administrator acted on your account", "Action: {action}. Ask our support if you have questions."),
    ),
)
