"""The gateway workload: the generic router over the platform's supergraph, configured by the platform's environment."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from prometheus_client import make_asgi_app

from domain.catalog import built_groups
from domain.errors import Unavailable
from domain.paging import DEFAULT_PAGE
from domain.principal import ACCESS_TOKEN_AUDIENCE
from router.errors import ClientError
from router.serving.app import create_app
from router.serving.identity import LoginSession
from router.serving.settings import CorsSettings, JwtIssuer, Limits, OperationLimits, RouterSettings, SubgraphSettings
from subgraphs.runtime.revocation import RemoteEndedSignIns, Revocations, SignInEnded
from subgraphs.runtime.serving import HttpServer, PortInUse
from subgraphs.runtime.settings import Settings, SettingsError

SUPERGRAPH = Path(__file__).parents[1] / "schema" / "supergraph.graphql"

_MAX_BODY_BYTES = 12_000_000  # a firmware image of 8 MiB in base64

_LIMITS = Limits(
    max_body_bytes=_MAX_BODY_BYTES,
    max_cost=20_000,  # four times that of a page of 50 readers with 50 sessions each
    default_list_size=DEFAULT_PAGE,
    max_root_fields=50,
    max_repeats=20,
    anonymous=OperationLimits(max_root_fields=10, max_repeats=3, max_cost=2_000),  # the shop's pages, or to sign in
)


def router_settings(settings: Settings) -> RouterSettings:
    """What the platform's environment means for the router.

    `<GROUP>_SUBGRAPH_URL` says where a group's subgraph is (else the supergraph does); in production the schema cannot
    be asked for, and errors do not name subgraphs.
    """
    tokens, production = settings.tokens, settings.service.is_production
    jwks_url = _jwks_url(settings)
    issuers = [
        JwtIssuer(issuer=tokens.issuer, jwks_url=jwks_url, audience=ACCESS_TOKEN_AUDIENCE, algorithms=("ES256",))
    ]
    if tokens.keycloak_enabled:
        realm = f"{tokens.keycloak_url.rstrip('/')}/realms/{tokens.keycloak_realm}"
        issuers.append(JwtIssuer(issuer=realm, jwks_url=f"{realm}/protocol/openid-connect/certs"))
    urls = {group.value: settings.subgraph_urls.get(f"{group.value.upper()}_SUBGRAPH_URL") for group in built_groups()}
    return RouterSettings(
        listen=f"{settings.service.listen_host}:{settings.service.http_port}",
        subgraphs={name: SubgraphSettings(url=url) for name, url in urls.items() if url},
        introspection=not production,
        explorer=not production,
        redact_errors=production,
        cors=CorsSettings(allow_origins=settings.service.cors_allow_origins),
        jwt=tuple(issuers),
        limits=_LIMITS,
        metrics=False,  # they have a port of their own, which is not the public one
    )


def _jwks_url(settings: Settings) -> str:
    return settings.tokens.jwks_url or "http://manpasik-auth-service:8081/.well-known/jwks.json"


class SignInSessions:
    """The sign-ins that auth-service has ended, for the router. Tokens of Keycloak are not followed: their realm ends them."""

    def __init__(self, revocations: Revocations, *, issuer: str) -> None:
        self._revocations = revocations
        self._issuer = issuer

    @property
    def is_current(self) -> bool:
        return self._revocations.is_current

    async def of(self, claims: Mapping[str, Any]) -> LoginSession | None:
        """Raises: ClientError: the sign-in has ended (401), or which have is not known yet (503)."""
        sign_in = claims.get("sid")
        if claims.get("iss") != self._issuer or not isinstance(sign_in, str):
            return None
        try:
            await self._revocations.require_sign_in(sign_in)
        except SignInEnded as error:
            raise ClientError(str(error), code="UNAUTHENTICATED", status=401) from error
        except Unavailable as error:
            raise ClientError("Tokens cannot be verified right now.", code="SERVICE_UNAVAILABLE", status=503) from error
        return _SignIn(partial(self._revocations.on_end, sign_in))


class _SignIn:
    def __init__(self, on_end: Callable[[Callable[[], None]], Callable[[], None]]) -> None:
        self.on_end = on_end


class RouterProcess:
    """The router on `HTTP_PORT`, its metrics on `METRICS_PORT`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._router_settings = router_settings(settings)
        self._supergraph = Path(settings.service.supergraph_file or SUPERGRAPH)
        self._servers: list[HttpServer] = []

    async def start(self) -> None:
        """Serve.

        Raises:
            PortInUse: naming the port.
            SettingsError: the supergraph cannot be read.
        """
        try:
            sdl = self._supergraph.read_text()
        except OSError as error:
            raise SettingsError(f"SUPERGRAPH_FILE: {self._supergraph} cannot be read: {error.strerror}") from error
        service = self._settings.service
        revocations = Revocations(RemoteEndedSignIns(urljoin(_jwks_url(self._settings), "ended-sign-ins")))
        router = create_app(
            sdl,
            self._router_settings,
            sessions=SignInSessions(revocations, issuer=self._settings.tokens.issuer),
            watch=lambda _: revocations.follow(),
        )
        metrics = make_asgi_app(registry=router.state.router.registry)
        wanted = (
            (router, service.http_port, "the router", True),
            (metrics, service.metrics_port, "the router's metrics", False),
        )
        for app, port, what, has_lifespan in wanted:
            try:
                server = HttpServer(
                    app,
                    service.listen_host,
                    port,
                    lifespan=has_lifespan,
                    certificate=self._settings.transport.http_certificate,
                )
            except OSError as error:
                raise PortInUse(f"port {port} of {what} is in use") from error
            self._servers.append(server)
            await server.start()

    async def stop(self) -> None:
        """Finish what is in hand, within `SHUTDOWN_TIMEOUT_SECONDS`."""
        for server in self._servers:
            await server.stop(self._settings.service.shutdown_timeout_seconds)
