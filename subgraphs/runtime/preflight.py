"""What a process needs of its machine in production: the files that its settings name, and the keys of its services.

Checked together with the settings (`hardening`), so that one start names everything that is missing. The files are read
again when they are used, and while the process runs.
"""

import ssl
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography.x509 import load_pem_x509_certificates

from domain.catalog import workload
from subgraphs.runtime.keys import load_service_keys
from subgraphs.runtime.service_keys import ServiceKeyError
from subgraphs.runtime.settings import Settings

_MOST_BYTES = 1024 * 1024  # of a file of certificates: bundles of all public authorities have a quarter of that


def preflight_faults(settings: Settings, services: Sequence[str]) -> Iterator[str]:
    """What production lacks, one line each: the variable, what is wrong, what to do.

    Args:
        services: short names of those that the process serves; none for the router alone.
    """
    for certificate, key in _pairs(settings):
        yield from _pair_faults(certificate, key)
    for authorities in _authorities(settings):
        yield from _authority_faults(*authorities)
    if settings.service.supergraph_file and (why := _unreadable(settings.service.supergraph_file)):
        yield f"SUPERGRAPH_FILE: {settings.service.supergraph_file} {why}"
    if services and settings.service_keys.is_given:
        yield from _service_key_faults(settings, services)
    if "payment" in services and not settings.toss.secret_key.get_secret_value():
        yield "TOSS_SECRET_KEY: is not set; set the merchant's live secret key"


_Named = tuple[str, str]
"""A variable and its value."""


def _pairs(settings: Settings) -> list[tuple[_Named, _Named]]:
    transport, database, kafka, redis = settings.transport, settings.database, settings.kafka, settings.redis
    return [
        (("GRPC_TLS_CERT", transport.grpc_cert), ("GRPC_TLS_KEY", transport.grpc_key)),
        (("HTTP_TLS_CERT", transport.http_cert), ("HTTP_TLS_KEY", transport.http_key)),
        (("DB_SSLCERT", database.ssl_cert), ("DB_SSLKEY", database.ssl_key)),
        (("KAFKA_SSL_CERTFILE", kafka.ssl_cert), ("KAFKA_SSL_KEYFILE", kafka.ssl_key)),
        (("REDIS_SSL_CERTFILE", redis.ssl_cert), ("REDIS_SSL_KEYFILE", redis.ssl_key)),
    ]


def _authorities(settings: Settings) -> list[_Named]:
    return [
        ("GRPC_TLS_CA", settings.transport.grpc_ca),
        ("DB_SSLROOTCERT", settings.database.ssl_root_cert),
        ("KAFKA_SSL_CAFILE", settings.kafka.ssl_ca),
        ("REDIS_SSL_CAFILE", settings.redis.ssl_ca),
    ]


def _pair_faults(certificate: _Named, key: _Named) -> Iterator[str]:
    """Faults of a certificate and its private key, which may be in the certificate's file."""
    if key[1] and not certificate[1]:
        yield f"{certificate[0]}: is not set, and {key[0]} is; set both"
    if not certificate[1]:
        return
    unreadable = [(name, path, why) for name, path in (certificate, key) if path and (why := _unreadable(path))]
    yield from (f"{name}: {path} {why}" for name, path, why in unreadable)
    if unreadable:
        return
    fault = _certificate_fault(certificate[1])
    if fault:
        yield f"{certificate[0]}: {certificate[1]} {fault}"
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate[1], key[1] or None)
    except (OSError, ValueError):
        name, path = key if key[1] else certificate
        yield f"{name}: {path} is not the private key of the certificate {certificate[1]}"


def _authority_faults(name: str, path: str) -> Iterator[str]:
    if not path:
        return
    why = _unreadable(path)
    if why is None:
        try:
            load_pem_x509_certificates(Path(path).read_bytes())
        except ValueError:
            why = "holds no certificate (PEM)"
    if why:
        yield f"{name}: {path} {why}"


def _certificate_fault(path: str) -> str | None:
    try:
        leaf = load_pem_x509_certificates(Path(path).read_bytes())[0]
    except (ValueError, IndexError):
        return "holds no certificate (PEM)"
    now = datetime.now(UTC)
    if leaf.not_valid_after_utc < now:
        return f"expired at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; renew it"
    if leaf.not_valid_before_utc > now:
        return f"holds only from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on; compare the clocks"
    return None


def _unreadable(path: str) -> str | None:
    try:
        with Path(path).open("rb") as file:
            return None if len(file.read(_MOST_BYTES + 1)) <= _MOST_BYTES else "is too large for what it should hold"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _service_key_faults(settings: Settings, services: Sequence[str]) -> Iterator[str]:
    groups = dict.fromkeys(workload(name).group for name in services)
    try:
        load_service_keys(settings, groups)
    except ServiceKeyError as error:
        chosen = settings.service_keys
        yield f"{'SERVICE_KEYS_DIR' if chosen.folder else 'SERVICE_KEY'}: {error}"
