"""What subscription-service shows besides its share of the graph: gRPC, consumers, background work."""

from subgraphs.commerce.services import CommerceServices
from subgraphs.runtime.database import Database
from subgraphs.runtime.faces import ServiceFaces


def subscription_faces(services: CommerceServices, database: Database) -> ServiceFaces:  # noqa: ARG001
    """The faces of subscription-service."""
    return ServiceFaces(name="subscription")
