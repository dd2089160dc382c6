"""What payment-service shows besides its share of the graph: gRPC, consumers, background work."""

from manpasik.v1.payment_pb2_grpc import add_PaymentServiceServicer_to_server

from subgraphs.commerce.payment.consumers import payment_consumers
from subgraphs.commerce.payment.servicer import PaymentServicer
from subgraphs.commerce.payment.settling import SettleUnclear
from subgraphs.commerce.services import CommerceServices
from subgraphs.runtime.database import Database
from subgraphs.runtime.faces import Background, GrpcServicer, ServiceFaces


def payment_faces(services: CommerceServices, database: Database) -> ServiceFaces:
    """The faces of payment-service."""
    servicer = PaymentServicer(services, database)
    return ServiceFaces(
        name="payment",
        servicers=(
            GrpcServicer(
                full_name="manpasik.v1.PaymentService",
                register=lambda server: add_PaymentServiceServicer_to_server(servicer, server),
            ),
        ),
        consumers=payment_consumers(services.payments),
        background=(Background("settle payments", SettleUnclear(services.payments).run),),
    )
