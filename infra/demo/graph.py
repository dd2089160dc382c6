"""A few GraphQL operations over HTTP, with the standard library only: the demo is a client like any other."""

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

REGISTER = """
mutation Register($input: RegisterInput!) { register(input: $input) { userId } }
"""
LOGIN = """
mutation Login($input: LoginInput!) { login(input: $input) { accessToken expiresIn user { id } } }
"""
_TIMEOUT_S = 20
_RENEW_BEFORE_S = 120


class GraphRefused(Exception):
    """The graph answered with errors; `codes` are their reasons."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__("; ".join(str(error.get("message")) for error in errors))
        self.codes = [str(error.get("extensions", {}).get("reason", "")) for error in errors]


@dataclass(frozen=True, slots=True)
class Graph:
    """The router's GraphQL endpoint."""

    url: str

    async def ask(self, query: str, variables: Mapping[str, object], *, token: str = "") -> dict[str, Any]:
        """The data of an operation.

        Raises:
            GraphRefused: the answer has errors.
            OSError: the router does not answer.
        """
        return await asyncio.to_thread(self._ask, query, variables, token)

    def _ask(self, query: str, variables: Mapping[str, object], token: str) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        headers = {"content-type": "application/json", "accept": "application/json"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        request = urllib.request.Request(self.url, data=body, headers=headers)  # noqa: S310 - our own address
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:  # noqa: S310
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            try:
                answer = json.load(error)
            except ValueError:
                raise OSError(f"the router answered {error.code}") from error
        if answer.get("errors"):
            raise GraphRefused(answer["errors"])
        data: dict[str, Any] = answer["data"]
        return data


@dataclass(slots=True)
class Account:
    """A person of the demo, signed in; the access token is renewed before it expires."""

    graph: Graph
    email: str
    password: str
    user_id: str = ""
    _token: str = field(default="", repr=False)
    _expires_at: float = 0.0

    async def register(self, display_name: str, language: str) -> None:
        """Open the account, unless it is there from an earlier start."""
        given = {
            "email": self.email,
            "password": self.password,
            "displayName": display_name,
            "language": language,
            "termsAgreed": True,
            "privacyAgreed": True,
            "healthDataAgreed": True,
        }
        try:
            await self.graph.ask(REGISTER, {"input": given})
        except GraphRefused as error:
            if "EMAIL_TAKEN" not in error.codes:
                raise

    async def token(self) -> str:
        """A token that is good for at least two minutes."""
        if time.monotonic() > self._expires_at - _RENEW_BEFORE_S:
            given = {"email": self.email, "password": self.password}
            login = (await self.graph.ask(LOGIN, {"input": given}))["login"]
            self._token = login["accessToken"]
            self._expires_at = time.monotonic() + login["expiresIn"]
            self.user_id = login["user"]["id"]
        return self._token
