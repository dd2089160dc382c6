"""What subscription-service shows besides its share of the graph: gRPC, consumers, background work."""

from manpasik.v1.subscription_pb2_grpc import add_SubscriptionServiceServicer_to_server

from subgraphs.commerce.services import CommerceServices
from subgraphs.commerce.subscription.consumers import subscription_consumers
from subgraphs.commerce.subscription.renewals import RenewalSweep
from subgraphs.commerce.subscription.servicer import SubscriptionServicer
from subgraphs.runtime.database import Database
from subgraphs.runtime.faces import Background, GrpcServicer, ServiceFaces


def subscription_faces(services: CommerceServices, database: Database) -> ServiceFaces:
    """The faces of subscription-service."""
    servicer = SubscriptionServicer(services, database)
    return ServiceFaces(
        name="subscription",
        servicers=(
            GrpcServicer(
                full_name="manpasik.v1.SubscriptionService",
                register=lambda server: add_SubscriptionServiceServicer_to_server(servicer, server),
            ),
        ),
        consumers=subscription_consumers(services.settlements, services.cartridges),
        background=(Background("renewals", RenewalSweep(services.renewals, database).run),),
    )
