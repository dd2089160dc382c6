"""What notification-service shows besides its share of the group's schema."""

from manpasik.v1.notification_pb2_grpc import add_NotificationServiceServicer_to_server

from domain.operations.notification.deliver import keep_delivering
from subgraphs.operations.notification.consumers import notification_consumers
from subgraphs.operations.notification.servicer import FULL_NAME, NotificationServicer
from subgraphs.operations.services import OperationsServices
from subgraphs.runtime.database import Database
from subgraphs.runtime.faces import Background, GrpcServicer, ServiceFaces
from subgraphs.runtime.signals import Signals


def notification_faces(services: OperationsServices, database: Database, signals: Signals) -> ServiceFaces:
    """gRPC, consumers and background work."""
    servicer = NotificationServicer(services, database)
    return ServiceFaces(
        name="notification",
        servicers=(
            GrpcServicer(
                full_name=FULL_NAME,
                register=lambda server: add_NotificationServiceServicer_to_server(servicer, server),
            ),
        ),
        consumers=notification_consumers(services.sending, services.preferences),
        background=(
            Background("notification deliveries", lambda: keep_delivering(services.deliveries)),
            Background("notification signals", signals.listen),
        ),
    )
