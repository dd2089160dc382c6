"""What the resolvers of the group work with."""

from dataclasses import dataclass

from strawberry import Info as StrawberryInfo
from strawberry.dataloader import DataLoader

from domain.identity.auth.email_proof import EmailProofs
from domain.identity.auth.service import AuthService
from domain.identity.user.models import Person
from domain.identity.user.service import UserService
from domain.ids import UserId
from subgraphs.runtime.database import Database
from subgraphs.runtime.graphql import GraphQLContext


@dataclass(kw_only=True)
class IdentityContext(GraphQLContext):
    """The context of one request."""

    auth: AuthService
    email_proofs: EmailProofs
    users: UserService
    database: Database
    people: DataLoader[UserId, Person | None]


Info = StrawberryInfo[IdentityContext, None]
