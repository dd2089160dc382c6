"""Everything about a router that is not in its supergraph. Read once at the entry point and passed in."""

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from router.errors import InvalidSettings


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EventProtocol(StrEnum):
    """How a subgraph sends the events of a subscription.

    websocket: graphql-transport-ws, the protocol of the graphql-ws library. graphql-ws: the older protocol, of
    subscriptions-transport-ws, by the name of its subprotocol. sse: server-sent events, one connection a subscription.
    multipart: parts of one HTTP response, as Apollo defines them.
    """

    WEBSOCKET = "websocket"
    LEGACY_WEBSOCKET = "graphql-ws"
    SSE = "sse"
    MULTIPART = "multipart"


class SubgraphSubscriptions(_Settings):
    """How one subgraph's events are had.

    url: where, if not where everything else is asked; path: the same with only the path replaced.
    idle_timeout_s: give up after so long without any message, heartbeats included; None: never. Over a WebSocket, a ping
    every 30 seconds finds a dead peer in any case.
    """

    protocol: EventProtocol = EventProtocol.WEBSOCKET
    url: str | None = None
    path: str | None = Field(default=None, pattern="^/")
    idle_timeout_s: float | None = Field(default=None, gt=0)


_Name = Annotated[str, Field(pattern=r"^[a-z0-9!#$%&'*+.^_`|~-]+$")]

_OF_THE_CONNECTION = frozenset(
    {
        *("accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect"),
        *("host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"),
    }
)
"""Headers that belong to one connection or body. Passed on, they would describe another one wrongly."""


def _can_be_passed_on(names: Iterable[str]) -> None:
    """Raises:
    ValueError: one of the headers belongs to the connection.
    """
    if own := _OF_THE_CONNECTION.intersection(names):
        raise ValueError(f"{min(own)} belongs to the connection and cannot be chosen")


class HeaderRules(_Settings):
    """What becomes of the headers that are forwarded, for one subgraph; names in lower case.

    Those in `remove` are left out, then those in `rename` get another name (unless a header has that already), then those
    in `set` get this value, whatever the client sent.
    """

    remove: tuple[_Name, ...] = ()
    rename: dict[_Name, _Name] = Field(default_factory=dict)
    set: dict[_Name, SecretStr] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_are_free(self) -> "HeaderRules":
        _can_be_passed_on((*self.rename.values(), *self.set))
        return self

    @field_validator("set")
    @classmethod
    def _values_are_one_line(cls, value: dict[str, SecretStr]) -> dict[str, SecretStr]:
        for name, secret in value.items():
            if any(not character.isprintable() for character in secret.get_secret_value()):
                raise ValueError(f"the value of {name} holds a character that no header may hold")
        return value


class SubgraphSettings(_Settings):
    """url: replaces the one in the supergraph; timeout_s: replaces the default for this subgraph."""

    url: str | None = None
    timeout_s: float | None = Field(default=None, gt=0)
    subscriptions: SubgraphSubscriptions = SubgraphSubscriptions()
    headers: HeaderRules = HeaderRules()


class SubscriptionSettings(_Settings):
    """What clients may do with connections that last.

    max_connections: WebSockets at once; one more is closed with 1013 (try again later).
    max_streams: subscriptions at once over all transports; one more is refused (`TOO_MANY_SUBSCRIPTIONS`, 503).
    max_streams_per_account, max_streams_per_network: those of one token subject, and those without one from one network
    (/24 of IPv4, /64 of IPv6); one more is refused (429).
    max_connections_per_account, max_connections_per_network: WebSockets of one token subject, and those of one network that
    have shown no token (yet); one more is closed with 1013.
    idle_timeout_s: a WebSocket on which nothing runs for so long is closed with 1000.
    max_operations_per_connection: on one WebSocket at once; one more is refused with an `error` message.
    init_timeout_s: for `connection_init`; after it the WebSocket is closed with 4408.
    heartbeat_s: how often a silent server-sent or multipart stream says that it lives.
    send_timeout_s: a client that takes nothing for so long is let go. Until then its subscription waits for it, and the
    subgraph for the router: nothing piles up.
    """

    max_connections: int = Field(default=10_000, gt=0)
    max_streams: int = Field(default=20_000, gt=0)
    max_streams_per_account: int = Field(default=50, gt=0)
    max_streams_per_network: int = Field(default=200, gt=0)
    max_connections_per_account: int = Field(default=20, gt=0)
    max_connections_per_network: int = Field(default=200, gt=0)
    idle_timeout_s: float = Field(default=300.0, gt=0)
    max_operations_per_connection: int = Field(default=100, gt=0)
    init_timeout_s: float = Field(default=10.0, gt=0)
    heartbeat_s: float = Field(default=10.0, gt=0)
    send_timeout_s: float = Field(default=30.0, gt=0)


class OperationLimits(_Settings):
    """What one operation may ask at most; None: no limit of its own.

    max_repeats: how often one field may be asked of one object, under different response keys (leaves without arguments
    may be asked as often as `max_aliases` allows). max_cost: by `@cost` and `@listSize`.
    """

    max_root_fields: int | None = Field(default=None, gt=0)
    max_repeats: int | None = Field(default=None, gt=0)
    max_cost: int | None = Field(default=None, gt=0)


class Limits(_Settings):
    """What one request may ask before anything is planned; beyond, it is refused with a clear error.

    max_url_bytes: of the path and query of a request (414).
    max_batch: operations in one body, whose costs and root fields are counted together.
    max_root_fields, max_repeats: as in `OperationLimits`, which has them for callers without credentials (`anonymous`).
    max_cost: by `@cost` and `@listSize`; None: not checked. default_list_size: of a list that neither a directive nor an
    argument gives a size. max_fetches: requests to subgraphs in its plan, each counted once however many entities it asks for.
    """

    max_body_bytes: int = Field(default=2_000_000, gt=0)
    max_url_bytes: int = Field(default=16_384, gt=0)
    max_batch: int = Field(default=20, gt=0)
    max_tokens: int = Field(default=15_000, gt=0)
    max_depth: int = Field(default=50, gt=0)
    max_aliases: int = Field(default=500, ge=0)
    max_root_fields: int = Field(default=100, gt=0)
    max_repeats: int = Field(default=50, gt=0)
    max_fields: int = Field(default=20_000, gt=0)
    max_cost: int | None = Field(default=None, gt=0)
    default_list_size: int = Field(default=10, ge=0)
    max_fetches: int | None = Field(default=None, gt=0)
    max_subgraph_response_bytes: int = Field(default=64_000_000, gt=0)
    anonymous: OperationLimits = OperationLimits(max_root_fields=30, max_repeats=10)


class UploadSettings(_Settings):
    """Files in requests, by the GraphQL multipart request specification.

    max_total_bytes: of all files of a request; max_memory_bytes: of each file, the rest is in a temporary file.
    """

    enabled: bool = True
    max_files: int = Field(default=10, gt=0)
    max_file_bytes: int = Field(default=20_000_000, gt=0)
    max_total_bytes: int = Field(default=50_000_000, gt=0)
    max_memory_bytes: int = Field(default=262_144, gt=0)


class JwtIssuer(_Settings):
    """A party whose tokens are accepted. audience: None accepts any."""

    issuer: str
    jwks_url: str
    audience: str | None = None
    algorithms: tuple[str, ...] = ("ES256", "RS256")


class ListenerTls(_Settings):
    """Files, PEM, that are read again when they change. key: None where the certificate's file holds it too.

    client_ca: authorities of clients' certificates, which are required then.
    """

    certificate: Path
    key: Path | None = None
    client_ca: Path | None = None


class SubgraphTls(_Settings):
    """How subgraphs at https URLs are proven, always by name.

    ca: authorities, PEM; None: the system's. certificate, key: the router's own, for subgraphs that ask for it.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


class CorsSettings(_Settings):
    allow_origins: tuple[str, ...] = ()
    allow_credentials: bool = False


class LabelFromHeader(_Settings):
    """A label that the client chooses: active when this header, a list with commas, names it."""

    header: str = Field(pattern="^[a-z0-9-]+$")


_Percentage = Annotated[float, Field(ge=0, le=100)]


class RouterSettings(_Settings):
    """One router.

    redact_errors: hide subgraph names and internal messages from clients (production).
    introspection, explorer: whether clients may look at the schema, and get a page to try queries on.
    share_in_flight: whether identical subgraph requests of queries that are under way at the same time, with the same
    headers, are one request.
    batching: whether a list of requests in one body is served.
    override_labels: when a label of a progressive `@override` is active: true, false, a percentage of the requests, or
    `{header: x-labels}`; a list names labels that are. Unnamed labels are inactive, but `percent(x)` means what it says.
    override_sticky_header: who has the same value in it falls on the same side of every percentage; without it, so does
    who has the same token subject; everyone else is drawn anew with each request.
    tls: of the listener, which speaks https with it; subgraph_tls: of the connections to subgraphs.
    trusted_documents: a JSON file of document texts by id; with `require_trusted_documents` nothing else is served.
    """

    listen: str = "127.0.0.1:4000"
    tls: ListenerTls | None = None
    subgraph_tls: SubgraphTls = SubgraphTls()
    subgraphs: dict[str, SubgraphSettings] = Field(default_factory=dict)
    timeout_s: float = Field(default=30.0, gt=0)
    connections_per_subgraph: int = Field(default=100, gt=0)
    limits: Limits = Limits()
    subscriptions: SubscriptionSettings = SubscriptionSettings()
    uploads: UploadSettings = UploadSettings()
    introspection: bool = True
    explorer: bool = True
    redact_errors: bool = False
    share_in_flight: bool = True
    batching: bool = False
    cors: CorsSettings = CorsSettings()
    jwt: tuple[JwtIssuer, ...] = ()
    forward_headers: tuple[str, ...] = (
        "authorization",
        "accept-language",
        "traceparent",
        "tracestate",
        "x-request-id",
        "x-forwarded-for",
    )
    plan_cache_size: int = Field(default=1000, gt=0)
    override_labels: dict[str, bool | _Percentage | LabelFromHeader] = Field(default_factory=dict)
    override_sticky_header: str | None = Field(default=None, pattern="^[a-z0-9-]+$")
    metrics: bool = True
    trusted_documents: Path | None = None
    require_trusted_documents: bool = False
    reload_interval_s: Annotated[float, Field(gt=0)] = 1.0

    @field_validator("forward_headers")
    @classmethod
    def _forwarded_headers_are_the_clients(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        _can_be_passed_on(name.lower() for name in value)
        return value

    @field_validator("override_labels", mode="before")
    @classmethod
    def _listed_labels_are_active(cls, value: object) -> object:
        return dict.fromkeys(value, True) if isinstance(value, list | tuple) else value


def load_settings(path: Path) -> RouterSettings:
    """The settings in a YAML or JSON file.

    Raises:
        InvalidSettings: the file cannot be read, or a value is wrong; the message names the key.
    """
    import yaml  # noqa: PLC0415  most starts have no such file

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InvalidSettings(f"The settings file {path} cannot be read: {error}") from error
    try:
        return RouterSettings.model_validate(content or {})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InvalidSettings(f"{path}: {key}: {first['msg']}") from error
