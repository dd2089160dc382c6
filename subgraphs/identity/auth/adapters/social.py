"""Proof of a sign-in with Google, Apple, Kakao or Naver.

Google and Apple hand out ID tokens, which say for whom (audience) they were made; they are checked against the provider's
JWKS. Kakao and Naver are asked by their user-info API with the access token that the client brings. Such a token
works whichever app it was given to: Kakao tells the app when asked (`KAKAO_APP_ID`), Naver does not. Without that
proof the address which the API tells is not taken as proven, or any app's owner could open its users' accounts here.

Source: OpenID Connect Core 1.0, section 3.1.3.7 (ID token validation); Kakao REST API (user me, access token info);
Naver Login API (nid/me).
"""

import asyncio
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, assert_never

import aiohttp
import structlog
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from domain.clock import Clock
from domain.errors import InvalidInput, Unavailable
from domain.identity.auth.errors import InvalidSocialToken, SocialSignInUnavailable
from domain.identity.auth.ports import SocialProof, SocialToken
from domain.identity.person import SocialProvider
from subgraphs.runtime.settings import TokenSettings

_log = structlog.get_logger(__name__)

_ALGORITHMS = ["RS256"]
_LEEWAY_S = 30
_KEYS_TTL = timedelta(hours=1)
_RELOAD_AT_MOST_EVERY = timedelta(seconds=10)
_TIMEOUT_S = 5.0
_MAX_TOKEN = 16_384


class ProviderUnavailable(Unavailable):
    """The provider does not answer, or not with what its documentation promises."""

    reason = "SOCIAL_PROVIDER_UNAVAILABLE"

    def __init__(self, provider: str) -> None:
        super().__init__(f"{provider} cannot be asked at this moment; try again.", provider=provider)


@dataclass(frozen=True, slots=True)
class _OpenIdProvider:
    """A provider of ID tokens; `audiences` are our client ids there (web, Android, iOS)."""

    name: SocialProvider
    issuers: frozenset[str]
    jwks_url: str
    audiences: frozenset[str]


class _ProviderKeys:
    """A provider's keys by id: fetched again after an hour, or for an unknown id, though not for each of those."""

    def __init__(self, provider: _OpenIdProvider, http: "_Http", clock: Clock) -> None:
        self._provider = provider
        self._http = http
        self._clock = clock
        self._keys: dict[str, RSAKey] = {}
        self._fetched_at: datetime | None = None
        self._lock = asyncio.Lock()

    async def find(self, kid: str) -> RSAKey | None:
        async with self._lock:
            age = None if self._fetched_at is None else self._clock.now() - self._fetched_at
            is_missing = kid not in self._keys
            if age is None or age > _KEYS_TTL or (is_missing and age > _RELOAD_AT_MOST_EVERY):
                try:
                    await self._fetch()
                except ProviderUnavailable:
                    if is_missing:
                        raise
            return self._keys.get(kid)

    async def _fetch(self) -> None:
        status, document = await self._http.get_json(self._provider.name, self._provider.jwks_url)
        if status != 200 or not isinstance(document.get("keys"), list):
            raise ProviderUnavailable(self._provider.name)  # and what is known stays known
        keys: dict[str, RSAKey] = {}
        for jwk in document["keys"]:
            if isinstance(jwk, dict) and jwk.get("kty") == "RSA" and jwk.get("kid"):
                try:
                    keys[str(jwk["kid"])] = RSAKey.import_key(jwk)
                except (JoseError, ValueError):
                    _log.warning("provider_key_unreadable", provider=self._provider.name, kid=str(jwk["kid"]))
        self._keys, self._fetched_at = keys, self._clock.now()


class _Http:
    """GET of JSON with a deadline."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def get_json(
        self, provider: SocialProvider, url: str, *, access_token: str = ""
    ) -> tuple[int, Mapping[str, Any]]:
        """Status and JSON object; the object is empty for a status of 4xx.

        Raises:
            ProviderUnavailable: no answer, a status of 5xx or 429, or no JSON object.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
        headers = {"authorization": f"Bearer {access_token}"} if access_token else {}
        try:
            async with self._session.get(url, headers=headers, allow_redirects=False) as response:
                if response.status >= 500 or response.status in (301, 302, 429):
                    raise ProviderUnavailable(provider)
                if response.status >= 400:
                    return response.status, {}
                document = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            _log.warning("provider_unavailable", provider=provider, url=url, why=type(error).__name__)
            raise ProviderUnavailable(provider) from error
        if not isinstance(document, dict):
            raise ProviderUnavailable(provider)
        return response.status, document

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


class SocialProviders:
    """Verifies the tokens of all four providers. A provider without a client id is not configured."""

    def __init__(self, settings: TokenSettings, *, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._http = _Http()
        google = _OpenIdProvider(
            name=SocialProvider.GOOGLE,
            # Google signs with either form (Google Identity: verify the ID token).
            issuers=frozenset({settings.google_issuer, settings.google_issuer.removeprefix("https://")}),
            jwks_url=settings.google_jwks_url,
            audiences=_listed(settings.google_client_id),
        )
        apple = _OpenIdProvider(
            name=SocialProvider.APPLE,
            issuers=frozenset({settings.apple_issuer}),
            jwks_url=settings.apple_jwks_url,
            audiences=_listed(settings.apple_client_id),
        )
        self._open_id = {p.name: (p, _ProviderKeys(p, self._http, clock)) for p in (google, apple)}

    async def verify(self, token: SocialToken) -> SocialProof:
        """What the provider proves of the person.

        Raises:
            InvalidInput: the token that this provider needs is missing.
            InvalidSocialToken: it does not prove anything here.
            SocialSignInUnavailable: the provider is not configured.
            ProviderUnavailable: the provider does not answer.
        """
        match token.provider:
            case SocialProvider.GOOGLE | SocialProvider.APPLE:
                return await self._verify_id_token(token)
            case SocialProvider.KAKAO:
                return await self._ask_kakao(_required(token.access_token, field="access_token"))
            case SocialProvider.NAVER:
                return await self._ask_naver(_required(token.access_token, field="access_token"))
            case _:
                assert_never(token.provider)

    async def close(self) -> None:
        await self._http.close()

    async def _verify_id_token(self, token: SocialToken) -> SocialProof:
        provider, keys = self._open_id[token.provider]
        if not provider.audiences:
            raise SocialSignInUnavailable(provider.name)
        id_token = _required(token.id_token, field="id_token")
        refused = InvalidSocialToken(provider.name)
        if len(id_token) > _MAX_TOKEN:
            raise refused
        try:
            kid = str(jws.extract_compact(id_token.encode()).headers().get("kid", ""))
        except (JoseError, ValueError) as error:
            raise refused from error
        key = await keys.find(kid)
        if key is None:
            raise refused
        try:
            claims = jwt.decode(id_token, key, algorithms=_ALGORITHMS).claims
        except (JoseError, ValueError) as error:
            raise refused from error
        self._require_claims(claims, provider, nonce=token.nonce)
        return SocialProof(
            provider=provider.name,
            social_id=str(claims["sub"]),
            email=_text(claims.get("email")) or None,
            email_is_proven=claims.get("email_verified") in (True, "true"),  # Apple sends text
            name=_text(claims.get("name")),
            picture_url=_text(claims.get("picture")),
        )

    def _require_claims(self, claims: Mapping[str, Any], provider: _OpenIdProvider, *, nonce: str) -> None:
        now = self._clock.now().timestamp()
        audience = claims.get("aud")
        audiences = set(audience) if isinstance(audience, list) else {audience}
        expires, issued = claims.get("exp"), claims.get("iat", now)
        carried = claims.get("nonce")
        is_ours = (
            claims.get("iss") in provider.issuers
            and bool(audiences & provider.audiences)
            and (len(audiences) == 1 or claims.get("azp") in provider.audiences)
            and isinstance(expires, (int, float))
            and expires > now - _LEEWAY_S
            and isinstance(issued, (int, float))
            and issued < now + _LEEWAY_S
            and isinstance(claims.get("sub"), str)
            and bool(claims.get("sub"))
        )
        has_nonce = not nonce or (isinstance(carried, str) and hmac.compare_digest(carried.encode(), nonce.encode()))
        if not is_ours or not has_nonce:
            raise InvalidSocialToken(provider.name)

    async def _ask_kakao(self, access_token: str) -> SocialProof:
        name = SocialProvider.KAKAO
        if not self._settings.kakao_userinfo_url:
            raise SocialSignInUnavailable(name)
        app_id = self._settings.kakao_app_id
        if app_id:
            _, token_info = await self._http.get_json(
                name, self._settings.kakao_tokeninfo_url, access_token=access_token
            )
            if str(token_info.get("app_id", "")) != app_id:
                raise InvalidSocialToken(name)
        _, person = await self._http.get_json(name, self._settings.kakao_userinfo_url, access_token=access_token)
        if not person.get("id"):
            raise InvalidSocialToken(name)
        account = _object(person.get("kakao_account"))
        profile = _object(account.get("profile"))
        is_verified = account.get("is_email_valid") is True and account.get("is_email_verified") is True
        return SocialProof(
            provider=name,
            social_id=str(person["id"]),
            email=_text(account.get("email")) or None,
            email_is_proven=bool(app_id) and is_verified,
            name=_text(profile.get("nickname")),
            picture_url=_text(profile.get("profile_image_url")),
        )

    async def _ask_naver(self, access_token: str) -> SocialProof:
        name = SocialProvider.NAVER
        if not self._settings.naver_userinfo_url:
            raise SocialSignInUnavailable(name)
        _, answer = await self._http.get_json(name, self._settings.naver_userinfo_url, access_token=access_token)
        person = _object(answer.get("response"))
        if answer.get("resultcode") != "00" or not person.get("id"):
            raise InvalidSocialToken(name)
        return SocialProof(
            provider=name,
            social_id=str(person["id"]),
            email=_text(person.get("email")) or None,
            email_is_proven=False,  # Naver neither verifies the contact address nor names the token's app
            name=_text(person.get("nickname")) or _text(person.get("name")),
            picture_url=_text(person.get("profile_image")),
        )


def _required(token: str, *, field: str) -> str:
    if not token:
        raise InvalidInput(f"{field} is empty; this provider needs it.", field=field)
    if len(token) > _MAX_TOKEN or not token.isascii() or not token.isprintable():
        raise InvalidInput(f"{field} is not a token.", field=field)
    return token


def _listed(client_ids: str) -> frozenset[str]:
    return frozenset(part.strip() for part in client_ids.split(",") if part.strip())


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
