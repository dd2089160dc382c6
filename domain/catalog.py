"""The 23 workloads of the platform, their groups, ports, topics and allowed calls: the one place that lists them.

Short names (`auth`) are used throughout; a workload's full name (`auth-service`) is what it is called in a cluster.
"""

from dataclasses import dataclass
from enum import StrEnum


class Group(StrEnum):
    """A domain group: one subgraph, one database. The router is a workload of its own."""

    IDENTITY = "identity"
    HARDWARE = "hardware"
    MEASUREMENT = "measurement"
    INSIGHT = "insight"
    COMMERCE = "commerce"
    CARE = "care"
    SOCIAL = "social"
    OPERATIONS = "operations"
    ROUTER = "router"


@dataclass(frozen=True, slots=True)
class Workload:
    """One separately scalable process.

    Args:
        port: gRPC port; of the gateway, its HTTP port.
        phase: in which phase of the rollout it came into being (1 to 3).
        grpc_service: full name of its gRPC service; empty for the gateway.
        exists: whether it is built; `manpasik up` and `serve` host those that are.
    """

    name: str
    port: int
    phase: int
    group: Group
    grpc_service: str
    role: str
    exists: bool = False

    @property
    def full_name(self) -> str:
        return self.name if self.group is Group.ROUTER else f"{self.name}-service"

    @property
    def address_variable(self) -> str:
        """The environment variable that says where callers find it, such as `AUTH_SERVICE_ADDR`."""
        return f"{self.full_name.upper().replace('-', '_')}_ADDR"


@dataclass(frozen=True, slots=True)
class Topic:
    """A Kafka topic: who tells it, who listens (short names)."""

    name: str
    publishers: tuple[str, ...]
    subscribers: tuple[str, ...]


DEAD_LETTER_TOPIC = "manpasik.dlq"

WORKLOADS: tuple[Workload, ...] = (
    Workload("gateway", 8080, 1, Group.ROUTER, "", "the public HTTP API (here: the federation router)", exists=True),
    Workload(
        "auth",
        50051,
        1,
        Group.IDENTITY,
        "manpasik.v1.AuthService",
        "authentication and authorization (JWT, register, login)",
        exists=True,
    ),
    Workload("user", 50052, 1, Group.IDENTITY, "manpasik.v1.UserService", "user profiles", exists=True),
    Workload(
        "device",
        50053,
        1,
        Group.HARDWARE,
        "manpasik.v1.DeviceService",
        "IoT device registration and management",
        exists=True,
    ),
    Workload(
        "measurement",
        50054,
        1,
        Group.MEASUREMENT,
        "manpasik.v1.MeasurementService",
        "measurement sessions and data",
        exists=True,
    ),
    Workload(
        "subscription", 50055, 2, Group.COMMERCE, "manpasik.v1.SubscriptionService", "subscription plans", exists=True
    ),
    Workload("shop", 50056, 2, Group.COMMERCE, "manpasik.v1.ShopService", "cartridge and reader shop", exists=True),
    Workload(
        "payment", 50057, 2, Group.COMMERCE, "manpasik.v1.PaymentService", "payments (Toss Payments)", exists=True
    ),
    Workload("ai-inference", 50058, 2, Group.INSIGHT, "manpasik.v1.AiInferenceService", "AI analysis and health score"),
    Workload("cartridge", 50059, 2, Group.HARDWARE, "manpasik.v1.CartridgeService", "NFC cartridges", exists=True),
    Workload(
        "calibration", 50060, 2, Group.HARDWARE, "manpasik.v1.CalibrationService", "device calibration", exists=True
    ),
    Workload("coaching", 50061, 2, Group.INSIGHT, "manpasik.v1.CoachingService", "AI health coaching"),
    Workload("family", 50063, 3, Group.SOCIAL, "manpasik.v1.FamilyService", "family groups and data sharing"),
    Workload(
        "health-record", 50064, 3, Group.CARE, "manpasik.v1.HealthRecordService", "health records (FHIR compatible)"
    ),
    Workload("community", 50065, 3, Group.SOCIAL, "manpasik.v1.CommunityService", "community board and challenges"),
    Workload(
        "reservation", 50066, 3, Group.CARE, "manpasik.v1.ReservationService", "hospital and pharmacy reservations"
    ),
    Workload("admin", 50067, 3, Group.OPERATIONS, "manpasik.v1.AdminService", "administration dashboard"),
    Workload(
        "notification",
        50068,
        3,
        Group.OPERATIONS,
        "manpasik.v1.NotificationService",
        "notifications (push, email, SMS)",
        exists=True,
    ),
    Workload("prescription", 50069, 3, Group.CARE, "manpasik.v1.PrescriptionService", "prescriptions"),
    Workload("video", 50070, 3, Group.CARE, "manpasik.v1.VideoService", "video consultation (WebRTC)"),
    Workload("telemedicine", 50071, 3, Group.CARE, "manpasik.v1.TelemedicineService", "telemedicine sessions"),
    Workload(
        "translation",
        50073,
        3,
        Group.OPERATIONS,
        "manpasik.v1.TranslationService",
        "medical translation (multilingual)",
    ),
    Workload("vision", 50072, 3, Group.INSIGHT, "manpasik.v1.VisionService", "food calorie estimation from images"),
)

TOPICS: tuple[Topic, ...] = (
    # Subscription is not in the published list: it counts the uses that a plan limits by the day.
    Topic("measurement.completed", ("measurement",), ("ai-inference", "coaching", "health-record", "subscription")),
    Topic("calibration.completed", ("calibration",), ("device", "measurement")),
    Topic("cartridge.replaced", ("device",), ("calibration",)),
    Topic("ai.analysis_completed", ("ai-inference",), ("coaching", "notification")),
    Topic("coaching.tip_delivered", ("coaching",), ("notification",)),
    Topic("health_alert.triggered", ("ai-inference", "measurement"), ("notification", "family")),
    Topic("subscription.created", ("subscription",), ("shop", "notification")),
    Topic("subscription.cancelled", ("subscription",), ("payment", "notification")),
    Topic("payment.completed", ("payment",), ("subscription", "shop", "notification")),
    Topic("shop.order_created", ("shop",), ("payment", "notification")),
    # Beyond the published list: a session whose signals gave no result, so that its person measures again.
    Topic("measurement.invalid", ("measurement",), ("notification",)),
    # Beyond the published list: what a saga needs to compensate, and what others must know of a plan.
    Topic("payment.failed", ("payment",), ("subscription", "shop", "notification")),
    Topic("payment.refunded", ("payment",), ("subscription", "shop", "notification")),
    Topic("shop.order_cancelled", ("shop",), ("payment", "notification")),
    Topic("subscription.payment_due", ("subscription",), ("shop", "notification")),
    Topic("subscription.changed", ("subscription",), ("user", "notification")),
    # Beyond the published list: what an unproven holder of an account has set ends when its address is proven by another.
    Topic(
        "account.proven",
        ("auth",),
        ("notification", "device", "cartridge", "measurement", "shop"),
    ),
    # Beyond the published list: in which kind of unit a person reads results, which are converted where they are shown.
    Topic("profile.result_units_chosen", ("user",), ("measurement",)),
    Topic("reservation.created", ("reservation",), ("notification",)),
    Topic("reservation.cancelled", ("reservation",), ("notification",)),
    Topic("prescription.created", ("prescription",), ("notification", "health-record")),
    Topic("prescription.sent_to_pharmacy", ("prescription",), ("notification",)),
    Topic("consent.granted", ("health-record",), ("family",)),
    Topic("consent.revoked", ("health-record",), ("family",)),
    Topic("family.data_shared", ("family",), ("notification",)),
    Topic("community.post_created", ("community",), ("notification",)),
    Topic("community.comment_created", ("community",), ("notification",)),
    Topic("admin.action_performed", ("admin",), ("notification",)),
    Topic("notification.sent", ("notification",), ()),
)

CALLS: dict[str, frozenset[str]] = {
    "gateway": frozenset(
        {
            "auth",
            "user",
            "device",
            "measurement",
            "subscription",
            "shop",
            "payment",
            "ai-inference",
            "cartridge",
            "calibration",
            "coaching",
            "family",
            "health-record",
            "community",
            "reservation",
            "admin",
            "notification",
            "prescription",
            "video",
            "telemedicine",
            "translation",
            "vision",
        }
    ),
    "measurement": frozenset({"auth", "device", "ai-inference", "cartridge", "calibration", "notification"}),
    # Not in the published list: ValidateCartridge says what the person's plan allows.
    "cartridge": frozenset({"subscription"}),
    # Subscription is not in the published list: it says how many readers a plan allows, which registering one needs to know
    # at that moment. An event would leave plans unknown that were taken before device-service listened.
    "device": frozenset({"auth", "cartridge", "calibration", "notification", "subscription"}),
    "subscription": frozenset({"auth", "user", "payment", "notification"}),
    "payment": frozenset({"auth", "subscription", "shop", "notification"}),
    "coaching": frozenset({"auth", "user", "measurement", "ai-inference", "notification"}),
    "ai-inference": frozenset({"measurement", "vision"}),
    "notification": frozenset({"user", "translation"}),
    "reservation": frozenset({"auth", "user", "payment", "notification", "translation"}),
    "prescription": frozenset({"auth", "payment", "health-record", "notification", "translation"}),
    "telemedicine": frozenset(
        {"auth", "user", "payment", "reservation", "notification", "prescription", "video", "translation"}
    ),
    "community": frozenset({"auth", "user", "notification", "translation"}),
    "admin": frozenset({"auth", "user", "subscription", "notification"}),
    "family": frozenset({"auth", "user", "measurement", "health-record", "notification"}),
    "health-record": frozenset({"auth", "measurement", "notification"}),
}
"""Caller -> callees: the only gRPC calls between services that are allowed, in the platform's own network."""

EXTERNAL_CALLERS: dict[str, frozenset[str]] = {
    # The factory's own service, which imports the lots and readers that it has made (manpasik.internal.v1.*Factory).
    "factory": frozenset({"cartridge", "device"}),
}
"""Caller -> callees: services outside of the platform that have a key pair and may call in. None of them is called."""

_BY_NAME = {workload.name: workload for workload in WORKLOADS}
_TOPICS = {topic.name: topic for topic in TOPICS}


def workload(name: str) -> Workload:
    """The workload with a short or full name.

    Raises:
        KeyError: there is none; the message lists those that there are.
    """
    found = _BY_NAME.get(name.removesuffix("-service"))
    if found is None:
        raise KeyError(f"unknown workload {name!r}; there are {', '.join(_BY_NAME)}")
    return found


def services_of(group: Group) -> tuple[Workload, ...]:
    """The built workloads of a group, by port."""
    return tuple(w for w in sorted(WORKLOADS, key=lambda w: w.port) if w.group is group and w.exists)


def built_groups() -> tuple[Group, ...]:
    """The groups of which at least one service is built, in the order of the enumeration; without the router."""
    return tuple(group for group in Group if group is not Group.ROUTER and services_of(group))


def may_call(caller: str, callee: str) -> bool:
    """Whether a service may call another one over gRPC. Both are short names."""
    return callee in CALLS.get(caller, frozenset()) | EXTERNAL_CALLERS.get(caller, frozenset())


def topic(name: str) -> Topic:
    """Raises: KeyError: no such topic is in the catalogue."""
    return _TOPICS[name]
