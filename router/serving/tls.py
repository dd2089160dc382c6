"""TLS contexts from the files that the settings name. TLS 1.2 is the oldest version that is spoken."""

import asyncio
import logging
import ssl
from pathlib import Path

from router.errors import InvalidSettings
from router.serving.settings import ListenerTls, SubgraphTls

logger = logging.getLogger("router")


def client_context(tls: SubgraphTls) -> ssl.SSLContext:
    """Proves subgraphs, their names included, and shows them the router's certificate if there is one.

    Raises:
        InvalidSettings: a file cannot be read, or is no certificate or key.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ValueError) as error:
        raise InvalidSettings(f"subgraph_tls: {_files(tls.ca, tls.certificate, tls.key)}: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def server_context(tls: ListenerTls) -> ssl.SSLContext:
    """Shows clients the router's certificate, and with `client_ca` asks for theirs.

    Raises:
        InvalidSettings: a file cannot be read, or is no certificate or key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load(context, tls)
    return context


def load(context: ssl.SSLContext, tls: ListenerTls) -> None:
    """Has a listener's context use what the files hold now, from the next handshake on. Raises: InvalidSettings."""
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        if tls.client_ca is not None:
            context.load_verify_locations(tls.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:
        raise InvalidSettings(f"tls: {_files(tls.certificate, tls.key, tls.client_ca)}: {error}") from error


async def reload_when_changed(context: ssl.SSLContext, tls: ListenerTls, *, interval_s: float) -> None:
    """Loads the files again whenever they change; what cannot be read leaves the context as it is."""
    seen = _stamps(tls)
    while True:
        await asyncio.sleep(interval_s)
        now = _stamps(tls)
        if now == seen or None in now:
            continue
        seen = now
        try:
            load(context, tls)
            logger.warning("took over the changed certificate %s", tls.certificate)
        except InvalidSettings as error:
            logger.error("kept the old certificate: %s", error)


def _stamps(tls: ListenerTls) -> tuple[tuple[int, int, int] | None, ...]:
    return tuple(_stamp(path) for path in (tls.certificate, tls.key, tls.client_ca) if path is not None)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None  # in the middle of being replaced
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _files(*paths: Path | None) -> str:
    return ", ".join(str(path) for path in paths if path is not None)
