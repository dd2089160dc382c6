"""What the resolvers of the group work with."""

from dataclasses import dataclass

from strawberry import Info as StrawberryInfo
from strawberry.dataloader import DataLoader

from domain.measurement.measurement.models import Session
from domain.measurement.measurement.service import MeasurementService
from domain.measurement.measurement.start import SessionStarter
from domain.paging import Page
from domain.principal import Principal
from domain.units import ResultUnits
from subgraphs.measurement.measurement.loaders import PageKey
from subgraphs.runtime.database import Database
from subgraphs.runtime.graphql import GraphQLContext


@dataclass(kw_only=True)
class MeasurementContext(GraphQLContext):
    """The context of one request."""

    starter: SessionStarter
    service: MeasurementService
    database: Database
    sessions: DataLoader[str, Session | None]
    pages: DataLoader[PageKey, Page[Session]]
    units: DataLoader[Principal, ResultUnits]


Info = StrawberryInfo[MeasurementContext, None]
