"""Batching of payment look-ups for one request."""

from domain.principal import Principal
from subgraphs.commerce.services import CommerceServices
from subgraphs.runtime.database import Database


class PaymentLoaders:
    """The loaders of one request."""

    def __init__(self, services: CommerceServices, database: Database, principal: Principal) -> None:
        self._services = services
        self._database = database
        self._principal = principal
