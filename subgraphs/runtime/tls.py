"""TLS of this process: contexts for servers and clients, from files that are read again when they change.

Certificates are replaced while a process runs (cert-manager writes new files some days before the old ones end). A server
uses the new ones for the next handshake; connections that are open stay. TLS 1.2 is the oldest version that is spoken.
Private authorities of https addresses are named by `SSL_CERT_FILE`, as OpenSSL defines it.
"""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import structlog

from subgraphs.runtime.settings import KafkaSettings, RedisSettings, SettingsError, TransportSettings

_log = structlog.get_logger("tls")

LOOK_EVERY_S = 10.0
"""How often the files of a running server are looked at."""


def client_context(*, ca: str = "", cert: str = "", key: str = "", check_hostname: bool = True) -> ssl.SSLContext:
    """A context that proves the server, and with `cert` shows who we are.

    Args:
        ca: file of authorities; empty for those of the system.
        cert: file of our certificate; its key is in the same file when `key` is empty.

    Raises:
        SettingsError: a file cannot be read or is no certificate or key.
    """
    try:
        context = ssl.create_default_context(cafile=ca or None)
        if cert:
            context.load_cert_chain(cert, key or None)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{', '.join(filter(None, (ca, cert, key)))}: {_why(error)}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = check_hostname
    return context


def server_context(cert: str, key: str) -> ssl.SSLContext:
    """A context that shows a certificate.

    Raises:
        SettingsError: a file cannot be read, or is no certificate or key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, cert, key)
    return context


def load_certificate(context: ssl.SSLContext, cert: str, key: str) -> None:
    """Have a context show the certificate of the files from its next handshake on. Raises: SettingsError."""
    try:
        context.load_cert_chain(cert, key or None)
    except (OSError, ValueError) as error:
        raise SettingsError(f"{cert}, {key}: {_why(error)}") from None


def _why(error: Exception) -> str:
    return str(error.strerror if isinstance(error, OSError) and error.strerror else error)


class WatchedFiles:
    """Tells whether files have changed since they were last asked about."""

    def __init__(self, *paths: str) -> None:
        self._paths = [Path(path) for path in paths if path]
        self._seen = self._state()

    def changed(self) -> bool:
        """Whether they have; once for each change. While one is missing, which is so for a moment, nothing has."""
        state = self._state()
        if state == self._seen or None in state:
            return False
        self._seen = state
        return True

    def _state(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_state_of(path) for path in self._paths)


def _state_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


# --- gRPC


def grpc_server_credentials(transport: TransportSettings) -> grpc.ServerCredentials | None:
    """What a gRPC server shows, read again when the files change; None without `GRPC_TLS_CERT`.

    Raises:
        SettingsError: a file cannot be read, or a part of the pair is missing.
    """
    if not transport.grpc_cert and not transport.grpc_key:
        return None
    if not (transport.grpc_cert and transport.grpc_key):
        raise SettingsError("GRPC_TLS_CERT, GRPC_TLS_KEY: set both, or neither")
    if transport.grpc_clients == "require" and not transport.grpc_ca:
        raise SettingsError("GRPC_TLS_CLIENTS: require needs GRPC_TLS_CA, the authorities of the callers' certificates")
    watched = WatchedFiles(transport.grpc_cert, transport.grpc_key, transport.grpc_ca)

    def configuration() -> grpc.ServerCertificateConfiguration:
        pair = (_read(transport.grpc_key), _read(transport.grpc_cert))
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=_read(transport.grpc_ca) or None)

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """The new files at a handshake; None, which keeps the old ones, while there are none that can be read."""
        if not watched.changed():
            return None
        try:
            fresh = configuration()
        except SettingsError as error:
            _log.error("certificate not reloaded", error=str(error))
            return None
        _log.info("certificate reloaded", file=transport.grpc_cert)
        return fresh

    credentials: grpc.ServerCredentials = grpc.dynamic_ssl_server_credentials(
        configuration(),
        fetch,  # type: ignore[arg-type]  # the stubs forget that None keeps what is there
        require_client_authentication=transport.grpc_clients == "require",
    )
    return credentials


def grpc_channel_credentials(
    transport: TransportSettings,
) -> tuple[Callable[[], grpc.ChannelCredentials], Callable[[], WatchedFiles]] | None:
    """What makes the credentials of a channel, and a watch of the files that they come from; None without `GRPC_TLS_CA`.

    Raises:
        SettingsError: a file cannot be read.
    """
    if not transport.grpc_ca:
        return None

    def make() -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(
            _read(transport.grpc_ca), _read(transport.grpc_key) or None, _read(transport.grpc_cert) or None
        )

    make()
    return make, lambda: WatchedFiles(transport.grpc_ca, transport.grpc_cert, transport.grpc_key)


def _read(path: str) -> bytes:
    if not path:
        return b""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None


# --- clients of other servers


def kafka_connection(kafka: KafkaSettings) -> dict[str, Any]:
    """The arguments by which every client of the broker connects: addresses, SASL and TLS.

    Raises:
        SettingsError: a file cannot be read.
    """
    arguments: dict[str, Any] = {
        "bootstrap_servers": kafka.brokers,
        "security_protocol": kafka.security_protocol,
    }
    if kafka.security_protocol.endswith("SSL"):
        arguments["ssl_context"] = client_context(ca=kafka.ssl_ca, cert=kafka.ssl_cert, key=kafka.ssl_key)
    if kafka.security_protocol.startswith("SASL"):
        arguments |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": kafka.sasl_password.get_secret_value(),
        }
    return arguments


def redis_connection(redis: RedisSettings) -> dict[str, Any]:
    """The arguments by which clients of Redis connect. Raises: SettingsError: a file cannot be read."""
    arguments: dict[str, Any] = {
        "host": redis.host,
        "port": redis.port,
        "db": redis.db,
        "username": redis.username or None,
        "password": redis.password.get_secret_value() or None,
    }
    if redis.tls:
        client_context(ca=redis.ssl_ca, cert=redis.ssl_cert, key=redis.ssl_key)  # a wrong file stops the start
        arguments |= {
            "ssl": True,
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_min_version": ssl.TLSVersion.TLSv1_2,
            "ssl_ca_certs": redis.ssl_ca or None,
            "ssl_certfile": redis.ssl_cert or None,
            "ssl_keyfile": redis.ssl_key or None,
        }
    return arguments
