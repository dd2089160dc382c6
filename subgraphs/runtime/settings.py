"""Settings: frozen, grouped by concern, read once from the environment that the entry point passes in.

Names are the platform's environment variables. A missing or wrong value raises `SettingsError`, which names the
variable; secrets hide themselves in `repr`.
"""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, field_validator

from domain.catalog import Group

DEVELOPMENT_JWT_SECRET = "dev-secret-change-in-production"  # noqa: S105 - refused in production, see `hardening`
DEVELOPMENT_DB_PASSWORD = "manpasik_dev_2026"  # noqa: S105 - the documented default of a development database
DEVELOPMENT_S3_KEY = "minioadmin"

_ADDRESS = re.compile(r"(unix:\S+|(dns:///)?[^\s/]+:[0-9]{1,5})", re.ASCII)

_NO_NAMES = frozenset(
    {"true", "false", "yes", "no", "on", "off", "0", "1", "none", "null", "nil", "-", "any", "all", "*"}
)
"""What is no name of a network, although somebody may set it to switch one off."""

KEY_ADVICE = "name the folder of this process's key pairs (`manpasik service-keys FOLDER` makes them)"

_LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))

_HOSTS_AND_PORTS = r"^\s*[^\s/,]+:[0-9]{1,5}(\s*,\s*[^\s/,]+:[0-9]{1,5})*\s*$"
_PORT = re.compile(r"(?:tcp://[^\s/]+)?:([0-9]{1,5})", re.ASCII)


def port_number(value: object) -> object:
    """A port as other programs write it: `:50051` as a Go server listens, `tcp://10.0.0.1:6379` as Kubernetes tells of a service."""
    found = _PORT.fullmatch(value) if isinstance(value, str) else None
    return found[1] if found else value


Port = Annotated[int, Field(ge=0, le=65535), BeforeValidator(port_number)]


class SettingsError(Exception):
    """The environment cannot be used; the message names each variable and what it should be.

    Args:
        faults: the message's parts, each `VARIABLE: what is wrong`; none when it is about something else.
    """

    def __init__(self, message: str, *, faults: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)


class Environment(StrEnum):
    DEVELOPMENT = "development"
    TEST = "test"
    PRODUCTION = "production"


class _Concern(BaseModel):
    """One concern: every field is read from the variable that is its alias."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, extra="forbid")

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """The concern from an environment; variables that are set to an empty or blank text count as unset."""
        names = {field.alias for field in cls.model_fields.values() if field.alias}
        return cls.model_validate({name: value for name in names if (value := environ.get(name, "").strip())})


class DatabaseSettings(_Concern):
    """PostgreSQL. A group's database is `<DB_NAME>_<group>`; that of measurement may be on a server of its own, `TIMESCALE_HOST`."""

    host: str = Field("postgres", alias="DB_HOST")
    port: Port = Field(5432, alias="DB_PORT")
    user: str = Field("manpasik", alias="DB_USER")
    password: SecretStr = Field(SecretStr(DEVELOPMENT_DB_PASSWORD), alias="DB_PASSWORD")
    name: str = Field("manpasik", alias="DB_NAME", pattern=r"^[a-z][a-z0-9_]{0,40}$")
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = Field(
        "disable", alias="DB_SSLMODE"
    )
    ssl_root_cert: str = Field("", alias="DB_SSLROOTCERT")
    """File of the authorities that the server's certificate is checked with; empty for those of the system."""
    ssl_cert: str = Field("", alias="DB_SSLCERT")
    ssl_key: str = Field("", alias="DB_SSLKEY")
    max_connections: int = Field(20, alias="DB_MAX_CONNS", ge=2, le=1000)
    statement_timeout_seconds: float = Field(30.0, alias="DB_STATEMENT_TIMEOUT_SECONDS", ge=1, le=3600)
    """How long the server works on one statement; a transaction that does nothing ends after twice as long."""
    timescale_host: str = Field("", alias="TIMESCALE_HOST")
    timescale_port: Port = Field(5432, alias="TIMESCALE_PORT")

    def of(self, group: Group) -> Self:
        """The settings of a group's server."""
        if group is Group.MEASUREMENT and self.timescale_host:
            return self.model_copy(update={"host": self.timescale_host, "port": self.timescale_port})
        return self


class KafkaSettings(_Concern):
    """The event broker. An empty group id means `<service>-service`, a consumer group for every service."""

    brokers: str = Field("redpanda:9092", alias="KAFKA_BROKERS", pattern=_HOSTS_AND_PORTS)
    group_id: str = Field("", alias="KAFKA_GROUP_ID")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", alias="KAFKA_SECURITY_PROTOCOL"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", alias="KAFKA_SASL_MECHANISM"
    )
    sasl_username: str = Field("", alias="KAFKA_SASL_USERNAME")
    sasl_password: SecretStr = Field(SecretStr(""), alias="KAFKA_SASL_PASSWORD")
    ssl_ca: str = Field("", alias="KAFKA_SSL_CAFILE")
    ssl_cert: str = Field("", alias="KAFKA_SSL_CERTFILE")
    ssl_key: str = Field("", alias="KAFKA_SSL_KEYFILE")
    outbox_retention_hours: int = Field(72, alias="OUTBOX_RETENTION_HOURS", ge=1)


class RedisSettings(_Concern):
    """Redis. `REDIS_HOST=memory` keeps rate limits in the process: right for one process only."""

    host: str = Field("redis", alias="REDIS_HOST")
    port: Port = Field(6379, alias="REDIS_PORT")
    password: SecretStr = Field(SecretStr(""), alias="REDIS_PASSWORD")
    db: int = Field(0, alias="REDIS_DB", ge=0)
    username: str = Field("", alias="REDIS_USERNAME")
    tls: bool = Field(False, alias="REDIS_TLS")
    ssl_ca: str = Field("", alias="REDIS_SSL_CAFILE")
    ssl_cert: str = Field("", alias="REDIS_SSL_CERTFILE")
    ssl_key: str = Field("", alias="REDIS_SSL_KEYFILE")


class TokenSettings(_Concern):
    """Access and refresh tokens, and the identity providers that we believe."""

    jwt_secret: SecretStr = Field(SecretStr(DEVELOPMENT_JWT_SECRET), alias="JWT_SECRET")
    access_ttl_minutes: int = Field(15, alias="JWT_ACCESS_TTL_MINUTES", ge=1, le=60)
    refresh_ttl_days: int = Field(7, alias="JWT_REFRESH_TTL_DAYS", ge=1, le=365)
    issuer: str = Field("manpasik-auth", alias="JWT_ISSUER")
    jwks_url: str = Field("", alias="AUTH_JWKS_URL")
    keycloak_enabled: bool = Field(False, alias="KEYCLOAK_ENABLED")
    keycloak_url: str = Field("http://keycloak:8080", alias="KEYCLOAK_URL")
    keycloak_realm: str = Field("manpasik", alias="KEYCLOAK_REALM")
    keycloak_client_id: str = Field("manpasik-api", alias="KEYCLOAK_CLIENT_ID")
    keycloak_client_secret: SecretStr = Field(SecretStr(""), alias="KEYCLOAK_CLIENT_SECRET")
    bootstrap_admin_email: str = Field("", alias="BOOTSTRAP_ADMIN_EMAIL")
    bootstrap_admin_password: SecretStr = Field(SecretStr(""), alias="BOOTSTRAP_ADMIN_PASSWORD")
    google_client_id: str = Field("", alias="GOOGLE_CLIENT_ID")
    google_issuer: str = Field("https://accounts.google.com", alias="GOOGLE_ISSUER")
    google_jwks_url: str = Field("https://www.googleapis.com/oauth2/v3/certs", alias="GOOGLE_JWKS_URL")
    apple_client_id: str = Field("", alias="APPLE_CLIENT_ID")
    apple_issuer: str = Field("https://appleid.apple.com", alias="APPLE_ISSUER")
    apple_jwks_url: str = Field("https://appleid.apple.com/auth/keys", alias="APPLE_JWKS_URL")
    kakao_app_id: str = Field("", alias="KAKAO_APP_ID")
    kakao_userinfo_url: str = Field("https://kapi.kakao.com/v2/user/me", alias="KAKAO_USERINFO_URL")
    kakao_tokeninfo_url: str = Field("https://kapi.kakao.com/v1/user/access_token_info", alias="KAKAO_TOKENINFO_URL")
    naver_userinfo_url: str = Field("https://openapi.naver.com/v1/nid/me", alias="NAVER_USERINFO_URL")


class ServiceKeySettings(_Concern):
    """Key pairs of services: see `service_keys`. In development, missing ones are made in the folder at the first start."""

    folder: str = Field("", alias="SERVICE_KEYS_DIR")
    """Private keys, `<service>.pem`."""
    key: SecretStr = Field(SecretStr(""), alias="SERVICE_KEY")
    """In place of a folder, the private key (PEM) of a process whose group has one service."""
    public_folder: str = Field("", alias="SERVICE_PUBLIC_KEYS_DIR")
    """Public keys of all services, `<service>.pem`; by default the folder `public` in that of the private ones."""

    @property
    def is_given(self) -> bool:
        return bool(self.folder or self.key.get_secret_value())


class EncryptionSettings(_Concern):
    """The master key of health data; in development, an empty one is drawn from `JWT_SECRET`."""

    master_key: SecretStr = Field(SecretStr(""), alias="ENCRYPTION_MASTER_KEY")


class ObjectSettings(_Concern):
    """The object store: a folder (`OBJECTS_DIR`), or S3 and MinIO when no folder is given."""

    directory: str = Field("", alias="OBJECTS_DIR")
    endpoint: str = Field("minio:9000", alias="S3_ENDPOINT")
    access_key: SecretStr = Field(SecretStr(DEVELOPMENT_S3_KEY), alias="S3_ACCESS_KEY")
    secret_key: SecretStr = Field(SecretStr(DEVELOPMENT_S3_KEY), alias="S3_SECRET_KEY")
    bucket: str = Field("manpasik", alias="S3_BUCKET")
    region: str = Field("us-east-1", alias="S3_REGION")
    use_ssl: bool = Field(False, alias="S3_USE_SSL")

    @property
    def endpoint_url(self) -> str:
        """The endpoint with its scheme: `S3_ENDPOINT` is `host:port`, or an address that says http or https by itself."""
        if "://" in self.endpoint:
            return self.endpoint.rstrip("/")
        return f"{'https' if self.use_ssl else 'http'}://{self.endpoint}"


class MailSettings(_Concern):
    """Outgoing mail. Without `SMTP_HOST` none is sent."""

    host: str = Field("", alias="SMTP_HOST")
    port: Port = Field(587, alias="SMTP_PORT")
    user: str = Field("", alias="SMTP_USER")
    password: SecretStr = Field(SecretStr(""), alias="SMTP_PASSWORD")
    sender: str = Field("ManPaSik <no-reply@manpasik.example>", alias="SMTP_FROM")
    tls: Literal["starttls", "tls", "none"] = Field("starttls", alias="SMTP_TLS")


class TossSettings(_Concern):
    """Toss Payments. Without `TOSS_SECRET_KEY` nothing can be paid."""

    secret_key: SecretStr = Field(SecretStr(""), alias="TOSS_SECRET_KEY")
    api_url: str = Field("https://api.tosspayments.com", alias="TOSS_API_URL")
    timeout_seconds: float = Field(10.0, alias="TOSS_TIMEOUT_SECONDS", gt=0, le=60)


class PushSettings(_Concern):
    """Firebase Cloud Messaging, HTTP v1. `FCM_SERVER_KEY` is a service account's key as JSON, or the path of its file."""

    server_key: SecretStr = Field(SecretStr(""), alias="FCM_SERVER_KEY")
    api_url: str = Field("https://fcm.googleapis.com", alias="FCM_API_URL")


class SmsSettings(_Concern):
    """Text messages by an API like Solapi's. Without `SMS_API_KEY` none is sent."""

    api_url: str = Field("https://api.solapi.com", alias="SMS_API_URL")
    api_key: str = Field("", alias="SMS_API_KEY")
    api_secret: SecretStr = Field(SecretStr(""), alias="SMS_API_SECRET")
    sender: str = Field("", alias="SMS_SENDER")


class TransportSettings(_Concern):
    """TLS of what this process serves and of its calls to other services. Files are read again when they change."""

    grpc_cert: str = Field("", alias="GRPC_TLS_CERT")
    """Certificate of this process: shown to callers, and to the services that it calls."""
    grpc_key: str = Field("", alias="GRPC_TLS_KEY")
    grpc_ca: str = Field("", alias="GRPC_TLS_CA")
    """Authorities of the services' certificates; with it, callers of gRPC must show one."""
    grpc_clients: Literal["require", "allow"] = Field("allow", alias="GRPC_TLS_CLIENTS")
    """Whether a caller without a certificate is refused: apps and readers have none, services do."""
    http_cert: str = Field("", alias="HTTP_TLS_CERT")
    """Certificate of the HTTP servers: the router, the subgraphs, metrics."""
    http_key: str = Field("", alias="HTTP_TLS_KEY")
    trusted_network: str = Field("", alias="TRUSTED_NETWORK", max_length=200)
    """Name of the network that encrypts between processes, such as a service mesh; then they may speak plain text."""

    @field_validator("trusted_network")
    @classmethod
    def _is_name(cls, value: str) -> str:
        if value.lower() in _NO_NAMES:
            raise ValueError("is a yes or no; give the name of the network that encrypts, or leave it unset")
        return value

    @property
    def http_certificate(self) -> tuple[str, str] | None:
        """The files of certificate and key (which may be one file) of HTTP servers; None: they speak plain text."""
        return (self.http_cert, self.http_key or self.http_cert) if self.http_cert else None


class ServiceSettings(_Concern):
    """How a process behaves, whatever it hosts."""

    environment: Environment = Field(Environment.DEVELOPMENT, alias="ENVIRONMENT")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", alias="LOG_LEVEL")
    log_format: Literal["json", "console"] = Field("json", alias="LOG_FORMAT")
    given_listen_host: str = Field("", alias="LISTEN_HOST")
    grpc_port: Port | None = Field(None, alias="GRPC_PORT")
    subgraph_port: Port = Field(8081, alias="SUBGRAPH_PORT")
    http_port: Port = Field(8080, alias="HTTP_PORT")
    metrics_port: Port = Field(9100, alias="METRICS_PORT")
    public_url: str = Field("http://localhost:8081", alias="PUBLIC_URL")
    cors_allow_origins: tuple[str, ...] = Field((), alias="CORS_ALLOW_ORIGINS")
    """Origins of web pages that may read the router's answers, comma separated."""
    supergraph_file: str = Field("", alias="SUPERGRAPH_FILE")
    shutdown_timeout_seconds: float = Field(5.0, alias="SHUTDOWN_TIMEOUT_SECONDS", ge=0, le=300)
    grpc_auth: Literal["strict", "permissive"] = Field("strict", alias="GRPC_AUTH")
    grpc_deadline_seconds: float = Field(30.0, alias="GRPC_DEADLINE_SECONDS", gt=0)
    grpc_max_message_bytes: int = Field(16 * 1024 * 1024, alias="GRPC_MAX_MESSAGE_BYTES", ge=1024)
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = Field(_LOOPBACK, alias="TRUSTED_PROXIES")
    """Networks of the router and of other proxies, comma separated: their `x-forwarded-for` is believed, nobody else's."""
    registrations_per_hour: int = Field(60, alias="REGISTRATIONS_PER_HOUR", ge=1)
    """New accounts from one network address."""
    unverified_sessions: Literal["allow", "refuse"] | None = Field(None, alias="UNVERIFIED_SESSIONS")
    unknown_devices: Literal["allow", "refuse"] | None = Field(None, alias="UNKNOWN_DEVICES")
    """Whether readers without a factory record may be registered."""
    session_idle_timeout_seconds: float = Field(300.0, alias="SESSION_IDLE_TIMEOUT_SECONDS", gt=0)
    heartbeat_interval_seconds: float = Field(30.0, alias="HEARTBEAT_INTERVAL_SECONDS", gt=0)
    max_fingerprint_dimension: int = Field(896, alias="MAX_FINGERPRINT_DIMENSION", ge=88, le=1792)
    default_alpha: float = Field(0.95, alias="DEFAULT_ALPHA", gt=0, le=2)
    offline_mode_enabled: bool = Field(True, alias="OFFLINE_MODE_ENABLED")
    otlp_endpoint: str = Field("", alias="OTEL_EXPORTER_OTLP_ENDPOINT")

    @field_validator("log_level", "environment", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        lower = value.lower() if isinstance(value, str) else value
        return "warning" if lower == "warn" else lower

    @field_validator("cors_allow_origins", mode="before")
    @classmethod
    def _origins(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())

    @property
    def is_production(self) -> bool:
        return self.environment is Environment.PRODUCTION

    @property
    def listen_host(self) -> str:
        """`LISTEN_HOST`; unset, all addresses in production, and loopback elsewhere, where secrets may be published ones."""
        return self.given_listen_host or ("0.0.0.0" if self.is_production else "127.0.0.1")  # noqa: S104

    @property
    def takes_unknown_devices(self) -> bool:
        """`UNKNOWN_DEVICES`; unset, they are refused in production and accepted as unverified elsewhere."""
        if self.unknown_devices is None:
            return not self.is_production
        return self.unknown_devices == "allow"

    @property
    def allows_unverified_sessions(self) -> bool:
        """`UNVERIFIED_SESSIONS`; unset, they are refused in production and allowed elsewhere."""
        if self.unverified_sessions is None:
            return not self.is_production
        return self.unverified_sessions == "allow"


class Settings(BaseModel):
    """Everything that a process is told from outside."""

    model_config = ConfigDict(frozen=True)

    database: DatabaseSettings = DatabaseSettings()
    kafka: KafkaSettings = KafkaSettings()
    redis: RedisSettings = RedisSettings()
    tokens: TokenSettings = TokenSettings()
    service_keys: ServiceKeySettings = ServiceKeySettings()
    encryption: EncryptionSettings = EncryptionSettings()
    objects: ObjectSettings = ObjectSettings()
    smtp: MailSettings = MailSettings()
    toss: TossSettings = TossSettings()
    push: PushSettings = PushSettings()
    sms: SmsSettings = SmsSettings()
    transport: TransportSettings = TransportSettings()
    service: ServiceSettings = ServiceSettings()
    subgraph_urls: Mapping[str, str] = Field(default_factory=dict)
    """Where the router finds subgraphs, by the name of their variable (`IDENTITY_SUBGRAPH_URL`)."""
    addresses: Mapping[str, str] = Field(default_factory=dict)
    """Where services are found, by the name of their variable (`AUTH_SERVICE_ADDR`)."""

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """The settings of an environment, without a look at what they mean together: see `hardening.load`.

        Raises:
            SettingsError: a value is wrong; every such variable is named.
        """
        addresses = {
            name: value.strip() for name, value in environ.items() if name.endswith("_SERVICE_ADDR") and value.strip()
        }
        subgraph_urls = {name: value for name, value in environ.items() if name.endswith("_SUBGRAPH_URL") and value}
        read: dict[str, object] = {"addresses": addresses, "subgraph_urls": subgraph_urls}
        wrong: list[str] = []
        for name, field in cls.model_fields.items():
            concern = field.annotation
            if isinstance(concern, type) and issubclass(concern, _Concern):
                try:
                    read[name] = concern.read(environ)
                except ValidationError as error:
                    wrong += [f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()]
        if (
            environ.get("SERVICE_TOKEN_SECRET")
            and not environ.get("SERVICE_KEYS_DIR")
            and not environ.get("SERVICE_KEY")
        ):
            wrong.append(f"SERVICE_TOKEN_SECRET: services share no secret any more; {KEY_ADVICE}")
        wrong += [f"{n}: is not host:port" for n, v in addresses.items() if not _ADDRESS.fullmatch(v)]
        if wrong:
            raise SettingsError("; ".join(wrong), faults=wrong)
        return cls.model_validate(read)

    @property
    def master_secret(self) -> str:
        """`ENCRYPTION_MASTER_KEY`, or in development a stand-in drawn from `JWT_SECRET`."""
        return self.encryption.master_key.get_secret_value() or self.tokens.jwt_secret.get_secret_value()

    def address_of(self, variable: str, *, host: str, port: int) -> str:
        """The address under a variable such as `AUTH_SERVICE_ADDR`, else `host:port`."""
        return self.addresses.get(variable, f"{host}:{port}")
