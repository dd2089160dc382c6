"""The gateway workload: the generic router over the platform's supergraph, configured by the platform's environment."""

from pathlib import Path

from prometheus_client import make_asgi_app

from domain.catalog import built_groups
from domain.paging import DEFAULT_PAGE
from domain.principal import ACCESS_TOKEN_AUDIENCE
from router.serving.app import create_app
from router.serving.settings import CorsSettings, JwtIssuer, Limits, OperationLimits, RouterSettings, SubgraphSettings
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
    jwks_url = tokens.jwks_url or "http://manpasik-auth-service:8081/.well-known/jwks.json"
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
        router = create_app(sdl, self._router_settings)
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
