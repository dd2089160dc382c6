"""What shop-service shows besides its share of the graph: gRPC, consumers, background work."""

from manpasik.v1.shop_pb2_grpc import add_ShopServiceServicer_to_server

from subgraphs.commerce.services import CommerceServices
from subgraphs.commerce.shop.consumers import shop_consumers
from subgraphs.commerce.shop.servicer import ShopServicer
from subgraphs.commerce.shop.unpaid import UnpaidSweep
from subgraphs.runtime.database import Database
from subgraphs.runtime.faces import Background, GrpcServicer, ServiceFaces


def shop_faces(services: CommerceServices, database: Database) -> ServiceFaces:
    """The faces of shop-service."""
    servicer = ShopServicer(services.shop, database)
    sweep = UnpaidSweep(services.shop.saga, database)
    return ServiceFaces(
        name="shop",
        servicers=(
            GrpcServicer(
                full_name="manpasik.v1.ShopService",
                register=lambda server: add_ShopServiceServicer_to_server(servicer, server),
            ),
        ),
        consumers=shop_consumers(services.shop.saga),
        background=(Background("unpaid orders", sweep.run),),
    )
