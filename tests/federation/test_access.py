"""`@authenticated`, `@requiresScopes` and `@policy` at the edge, and tokens."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from router.errors import ClientError
from router.serving.identity import ANONYMOUS, Identity
from router.serving.settings import JwtIssuer
from router.serving.tokens import JwtAuthenticator
from tests.federation.graph import Federation
from tests.federation.shop import SHOP, universe

GUARDED = (
    SHOP.replace("email: String! @join", "email: String! @authenticated @join")
    .replace("owner: User @join", 'owner: User @requiresScopes(scopes: [["owner:read", "all"], ["admin"]]) @join')
    .replace("role: Role @join", 'role: Role @policy(policies: [["staff"]]) @join')
)


def guarded() -> Federation:
    return Federation(GUARDED, universe())


async def test_what_a_stranger_may_not_see_is_null_and_not_fetched() -> None:
    federation = guarded()

    answer = await federation.ask("{ products { name owner { name } } }")

    assert answer["data"]["products"][0] == {"name": "Product 1", "owner": None}
    assert answer["errors"] == [
        {
            "message": "Unauthorized field or type.",
            "path": ["products", "owner"],
            "extensions": {"code": "UNAUTHENTICATED", "coordinate": "Product.owner"},
        }
    ]
    assert [sent.subgraph for sent in federation.sent] == ["catalog"]


async def test_a_refused_field_that_may_not_be_null_nulls_its_parent_with_one_error() -> None:
    answer = await guarded().ask("{ me { name email } }")
    assert answer["data"] == {"me": None}
    assert len(answer["errors"]) == 1


async def test_a_refusal_inside_a_list_is_told_once() -> None:
    answer = await guarded().ask("{ me { name friends { email } } }")
    assert answer["data"] == {"me": {"name": "Ada", "friends": None}}
    assert [error["path"] for error in answer["errors"]] == [["me", "friends", "email"]]


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [((), False), (("owner:read",), False), (("owner:read", "all"), True), (("admin",), True), (("all",), False)],
)
async def test_one_group_of_scopes_must_be_held_whole(scopes: tuple[str, ...], allowed: bool) -> None:
    identity = Identity(authenticated=True, scopes=frozenset(scopes))
    answer = await guarded().ask("{ topProduct { owner { name } } }", identity=identity)
    assert (answer["data"]["topProduct"]["owner"] is not None) is allowed
    if not allowed:
        assert answer["errors"][0]["extensions"]["code"] == "FORBIDDEN"


async def test_policies_are_those_of_the_identity() -> None:
    federation = guarded()
    staff = Identity(authenticated=True, policies=frozenset({"staff"}))
    assert (await federation.ask("{ me { role } }", identity=staff))["data"] == {"me": {"role": "EDITOR"}}
    assert (await federation.ask("{ me { role } }"))["data"] == {"me": {"role": None}}


async def test_the_router_reads_keys_of_guarded_types_for_itself() -> None:
    answer = await guarded().ask("{ me { wishes { name } } }")
    assert answer == {"data": {"me": {"wishes": [{"name": "Product 1"}, {"name": "Product 2"}]}}}


KEY = ECKey.generate_key("P-256", {"kid": "k1", "alg": "ES256", "use": "sig"})


def token(key: ECKey = KEY, **claims: Any) -> dict[str, str]:
    now = int(time.time())
    content = {"iss": "https://issuer", "exp": now + 60, "scope": "a b", **claims}
    encoded = jwt.encode({"alg": "ES256", "kid": key.kid or ""}, content, key)
    return {"authorization": f"Bearer {encoded}"}


@pytest.fixture
async def authenticator() -> AsyncIterator[JwtAuthenticator]:
    async def keys(_: web.Request) -> web.Response:
        return web.json_response(KeySet([KEY]).as_dict(private=False))

    app = web.Application()
    app.router.add_get("/jwks", keys)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    yield JwtAuthenticator((JwtIssuer(issuer="https://issuer", jwks_url=f"http://127.0.0.1:{port}/jwks"),))
    await runner.cleanup()


async def test_a_valid_token_gives_its_scopes(authenticator: JwtAuthenticator) -> None:
    identity = await authenticator.authenticate(token())
    assert (identity.authenticated, identity.scopes) == (True, frozenset({"a", "b"}))
    assert await authenticator.authenticate({}) == ANONYMOUS


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Basic YTpi"},
        {"authorization": "Bearer"},
        {"authorization": "Bearer x.y.z"},
        token(exp=1),
        token(iss="https://other"),
        token(ECKey.generate_key("P-256", {"kid": "k1", "alg": "ES256"})),
        token(ECKey.generate_key("P-256", {"kid": "k9", "alg": "ES256"})),
        {"authorization": token()["authorization"][:-6] + "AAAAAA"},
    ],
    ids=["basic", "empty", "garbage", "expired", "issuer", "forged", "unknown-key", "tampered"],
)
async def test_an_invalid_token_is_refused(authenticator: JwtAuthenticator, headers: dict[str, str]) -> None:
    with pytest.raises(ClientError) as refused:
        await authenticator.authenticate(headers)
    assert (refused.value.status, refused.value.code) == (401, "UNAUTHENTICATED")


async def test_a_token_that_held_before_is_refused_once_it_has_expired(authenticator: JwtAuthenticator) -> None:
    nearly_over = token(exp=int(time.time()) - 2)  # within the leeway
    for _ in range(2):
        assert (await authenticator.authenticate(nearly_over)).authenticated
    authenticator.LEEWAY_S = 0  # as if the seconds had passed
    with pytest.raises(ClientError) as refused:
        await authenticator.authenticate(nearly_over)
    assert refused.value.code == "UNAUTHENTICATED"
