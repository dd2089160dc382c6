"""The group's GraphQL schema, put together from its services."""

import strawberry

from subgraphs.identity.auth.schema import AuthMutation
from subgraphs.identity.user.schema import User, UserMutation, UserQuery
from subgraphs.runtime.graphql import build_schema


@strawberry.type(description="What can be asked about people.")
class Query(UserQuery):
    pass


@strawberry.type(description="Sign-up, sign-in, passwords and profiles.")
class Mutation(AuthMutation, UserMutation):
    pass


schema = build_schema(query=Query, mutation=Mutation, types=[User])
