"""What `manpasik up` starts, where, and with which environment: decided before anything runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from domain.catalog import built_groups, services_of
from infra.local.errors import LocalStackError
from infra.local.process import LOOPBACK, require_free_port
from infra.sandbox import sms, toss
from subgraphs.runtime.settings import port_number

ROUTER_PORT = 8090
SUBGRAPH_PORT = 8081
METRICS_PORT = 9100
ROUTER_METRICS_PORT = 9101
MAIL_PORT = 8025
TOSS_PORT = 8026
PUSH_PORT = 8027
SMS_PORT = 8028
ADMIN_EMAIL = "admin@demo.manpasik.example"


@dataclass(frozen=True, slots=True)
class Plan:
    """Ports and folders of one embedded platform.

    Args:
        grpc_ports: by short name of the service.
        external: variables that the caller has set, which win over everything here.
    """

    home: Path
    router_port: int
    subgraph_port: int
    metrics_port: int
    router_metrics_port: int
    mail_port: int
    toss_port: int
    push_port: int
    sms_port: int
    grpc_ports: Mapping[str, int]
    external: Mapping[str, str] = field(default_factory=dict)

    @property
    def embeds_database(self) -> bool:
        return not self.external.get("DB_HOST")

    @property
    def embeds_broker(self) -> bool:
        return not self.external.get("KAFKA_BROKERS")

    @property
    def embeds_mail(self) -> bool:
        return not self.external.get("SMTP_HOST")

    @property
    def embeds_payments(self) -> bool:
        return not self.external.get("TOSS_SECRET_KEY")

    @property
    def embeds_push(self) -> bool:
        return not self.external.get("FCM_SERVER_KEY")

    @property
    def embeds_sms(self) -> bool:
        return not self.external.get("SMS_API_KEY")

    @property
    def push_key_file(self) -> Path:
        """Where the push sandbox leaves the key that opens it."""
        return self.home / "push-key.json"

    @property
    def service_keys_folder(self) -> Path:
        """Where the services' key pairs are; the first process that starts makes them."""
        return self.home / "keys"

    @property
    def router_url(self) -> str:
        return f"http://localhost:{self.router_port}"

    def require_free_ports(self) -> None:
        """Raises: LocalStackError: naming the first port that is taken, and the variable that moves it."""
        wanted = [
            (self.router_port, "the router", "HTTP_PORT"),
            (self.subgraph_port, "the GraphQL subgraphs", "SUBGRAPH_PORT"),
            (self.metrics_port, "metrics", "METRICS_PORT"),
            (self.router_metrics_port, "the router's metrics", "ROUTER_METRICS_PORT"),
            *((port, f"{name}-service", "GRPC_PORT_OFFSET") for name, port in self.grpc_ports.items()),
        ]
        if self.embeds_mail:
            wanted.append((self.mail_port, "the mail sandbox", "MAIL_PORT"))
        if self.embeds_payments:
            wanted.append((self.toss_port, "the payment sandbox", "TOSS_SANDBOX_PORT"))
        if self.embeds_push:
            wanted.append((self.push_port, "the push sandbox", "PUSH_SANDBOX_PORT"))
        if self.embeds_sms:
            wanted.append((self.sms_port, "the text message sandbox", "SMS_SANDBOX_PORT"))
        for port, server, setting in wanted:
            require_free_port(port, server=server, setting=setting)

    def environment(
        self, *, secrets: Mapping[str, str], database_port: int | None, brokers: str | None
    ) -> dict[str, str]:
        """The environment of the platform's processes."""
        made = {
            "ENVIRONMENT": "development",
            "LOG_LEVEL": "warning",
            "LISTEN_HOST": LOOPBACK,
            "HTTP_PORT": str(self.router_port),
            "SUBGRAPH_PORT": str(self.subgraph_port),
            "METRICS_PORT": str(self.metrics_port),
            "PUBLIC_URL": f"http://localhost:{self.subgraph_port}",
            "AUTH_JWKS_URL": f"http://{LOOPBACK}:{self.subgraph_port}/.well-known/jwks.json",
            "SERVICE_KEYS_DIR": str(self.service_keys_folder),
            "OBJECTS_DIR": str(self.home / "objects"),
            "REDIS_HOST": "memory",
            "DB_MAX_CONNS": "3",
            "BOOTSTRAP_ADMIN_EMAIL": ADMIN_EMAIL,
            "BOOTSTRAP_ADMIN_PASSWORD": secrets.get("DEMO_PASSWORD", ""),
            **{name: secrets[name] for name in ("JWT_SECRET", "ENCRYPTION_MASTER_KEY")},
        }
        if database_port is not None:
            made |= {"DB_HOST": LOOPBACK, "DB_PORT": str(database_port), "DB_PASSWORD": secrets["DB_PASSWORD"]}
        if brokers is not None:
            made["KAFKA_BROKERS"] = brokers
        if self.embeds_mail:
            made |= {"SMTP_HOST": LOOPBACK, "SMTP_PORT": str(self.mail_port), "SMTP_TLS": "none"}
        made |= self._providers()
        for group in built_groups():
            made[f"{group.value.upper()}_SUBGRAPH_URL"] = (
                f"http://{LOOPBACK}:{self.subgraph_port}/{group.value}/graphql"
            )
            for service in services_of(group):
                made[service.address_variable] = f"{LOOPBACK}:{self.grpc_ports[service.name]}"
        return {**made, **self.external}

    def _providers(self) -> dict[str, str]:
        """The variables that point at the sandboxes, for the providers that they stand in for."""
        made: dict[str, str] = {}
        if self.embeds_payments:
            made |= {"TOSS_API_URL": f"http://{LOOPBACK}:{self.toss_port}", "TOSS_SECRET_KEY": toss.SANDBOX_SECRET_KEY}
        if self.embeds_push:
            made |= {"FCM_API_URL": f"http://{LOOPBACK}:{self.push_port}", "FCM_SERVER_KEY": str(self.push_key_file)}
        if self.embeds_sms:
            made |= {
                "SMS_API_URL": f"http://{LOOPBACK}:{self.sms_port}",
                "SMS_API_KEY": sms.API_KEY,
                "SMS_API_SECRET": sms.API_SECRET,
                "SMS_SENDER": sms.SENDER,
            }
        return made


def plan(environ: Mapping[str, str]) -> Plan:
    """The plan for an environment: the catalogue's ports, unless variables move them.

    Raises:
        LocalStackError: a port variable is not a number from 1 to 65535.
    """
    offset = _number(environ, "GRPC_PORT_OFFSET", 0, lowest=0)
    services = [service for group in built_groups() for service in services_of(group)]
    return Plan(
        home=Path(environ.get("MANPASIK_HOME") or ".manpasik").absolute(),
        router_port=_number(environ, "HTTP_PORT", ROUTER_PORT),
        subgraph_port=_number(environ, "SUBGRAPH_PORT", SUBGRAPH_PORT),
        metrics_port=_number(environ, "METRICS_PORT", METRICS_PORT),
        router_metrics_port=_number(environ, "ROUTER_METRICS_PORT", ROUTER_METRICS_PORT),
        mail_port=_number(environ, "MAIL_PORT", MAIL_PORT),
        toss_port=_number(environ, "TOSS_SANDBOX_PORT", TOSS_PORT),
        push_port=_number(environ, "PUSH_SANDBOX_PORT", PUSH_PORT),
        sms_port=_number(environ, "SMS_SANDBOX_PORT", SMS_PORT),
        grpc_ports={service.name: service.port + offset for service in services},
        external={name: value for name, value in environ.items() if value},
    )


def _number(environ: Mapping[str, str], name: str, default: int, *, lowest: int = 1) -> int:
    text = str(port_number(environ.get(name, "").strip() or str(default)))
    if not text.isdecimal() or not lowest <= int(text) <= 65535:
        raise LocalStackError(f"{name} is {text!r}; it takes a port number")
    return int(text)
