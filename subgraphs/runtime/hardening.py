"""What an environment may not be together: rules over the settings, checked once before a process serves.

In production every rule holds, and all faults are named at once. Elsewhere one rule holds: a process that uses published
secrets, or takes callers without a credential, answers on loopback only unless `LISTEN_HOST` names another address, and
then it needs secrets of its own.

Strength is estimated by zxcvbn (Wheeler 2016, USENIX Security): the number of guesses that an attacker needs who tries
common words, names, dates, repeats and rows of keys first. A message names the variable and never its value.
"""

import base64
import binascii
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from itertools import chain
from math import log2
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr
from zxcvbn import zxcvbn

from subgraphs.runtime.preflight import preflight_faults
from subgraphs.runtime.settings import (
    DEVELOPMENT_DB_PASSWORD,
    DEVELOPMENT_JWT_SECRET,
    DEVELOPMENT_S3_KEY,
    KEY_ADVICE,
    Settings,
    SettingsError,
)

KEY_BITS = 112
"""Of a key that others are derived from. Source: NIST SP 800-131A revision 2, the least strength of a key."""
PASSWORD_BITS = 64
"""Of a password that a program types."""
PERSON_BITS = 45
"""Of a password that a person types, whose guesses are counted and slowed down."""
_MASTER_KEY_BYTES = 32
_PERSONS_PASSWORD = 12
_SHORTEST_TEXT = 12  # shorter random bytes may be printable by chance
_MOST_JUDGED = 72  # zxcvbn refuses more; what follows can only add strength

_PUBLISHED = frozenset(
    {
        DEVELOPMENT_JWT_SECRET,
        DEVELOPMENT_DB_PASSWORD,
        DEVELOPMENT_S3_KEY,
        "manpasik",
        "manpasik-dev",
        "manpasik_dev",
        "manpasik-api",
        "test_sk_sandbox",
        "sandbox-api-key",
        "sandbox-api-secret",
        "admin123!",
        "postgres",
        "redis",
    }
)
"""Values that this project or the former one has published, in lower case."""
_PLACEHOLDERS = (
    "change_me",
    "changeme",
    "change-me",
    "change-in-production",
    "dev-secret",
    "dev_2026",
    "sandbox",
    "example",
)
_LOOPBACK_NAMES = frozenset({"", "localhost"})
_TOSS_TEST_KEYS = ("test_sk_", "test_gsk_", "test_ck_")
_SHOWN_SCHEMES = ("http", "https", "grpc", "ws")
_WIDEST_V4, _WIDEST_V6 = 8, 32
_UNIQUE_LOCAL = IPv6Network("fc00::/7")


def load_settings(environ: Mapping[str, str], *, services: Sequence[str] | None = None) -> Settings:
    """The settings of a process that is about to serve.

    Args:
        services: short names of those that it serves, none for the router alone: in production, the files and keys that
            they need are checked as well. None: only the settings are.

    Raises:
        SettingsError: a value is wrong, or unsafe where it is used; every such variable is named.
    """
    try:
        settings = Settings.load(environ)
    except SettingsError as error:
        _name_all_faults(environ, error, services)
        raise
    if settings.service.is_production:
        _refuse(_faults_of(settings, services))
    else:
        require_loopback_or_own_secrets(settings)
    return settings


def _faults_of(settings: Settings, services: Sequence[str] | None) -> list[str]:
    return [*faults(settings), *(preflight_faults(settings, services) if services is not None else ())]


def _name_all_faults(environ: Mapping[str, str], error: SettingsError, services: Sequence[str] | None) -> None:
    """Judge what is left when the variables that cannot be read are taken away, so that one start names everything.

    Raises:
        SettingsError: the faults of the error and those of the other variables, in production.
    """
    unread = {fault.partition(":")[0] for fault in error.faults}
    try:
        settings = Settings.load({name: value for name, value in environ.items() if name not in unread})
    except SettingsError:
        return
    if settings.service.is_production:
        others = [
            line for line in _faults_of(settings, services) if unread.isdisjoint(line.partition(":")[0].split(", "))
        ]
        _refuse([*error.faults, *others])


def _refuse(found: Sequence[str]) -> None:
    if found:
        raise SettingsError("ENVIRONMENT=production refuses to start:\n  " + "\n  ".join(found), faults=found)


def require_loopback_or_own_secrets(settings: Settings) -> None:
    """Raises: SettingsError: a published or guessable secret would be used on an address that others reach."""
    host = settings.service.listen_host
    if _is_loopback(host):
        return
    known = [
        name
        for name, secret in secrets_of(settings).items()
        if name in _OURS and secret and (_is_published(secret) or strength_bits(secret) < SECRETS[name].bits)
    ]
    if known:
        raise SettingsError(
            f"LISTEN_HOST={host} is reached by others, and published or guessable development secrets are used: set "
            f"{', '.join(known)} to random secrets of your own, or LISTEN_HOST to 127.0.0.1"
        )


def faults(settings: Settings) -> Iterator[str]:
    """What production does not start with, one line each: the variable, what is wrong, what to do."""
    return chain.from_iterable(rule(settings) for rule in RULES)


# --- secrets


@dataclass(frozen=True, slots=True)
class SecretRule:
    """What a secret must be.

    Args:
        needed: whether production does without it.
        bits: least strength.
        is_key: whether it must be 32 bytes or more in base64 or hexadecimal digits.
        is_word: whether it is made of characters, so that its strength can be estimated; files and PEM texts are not.
    """

    needed: bool = False
    bits: int = PASSWORD_BITS
    is_key: bool = False
    is_word: bool = True


SECRETS: Mapping[str, SecretRule] = {
    "DB_PASSWORD": SecretRule(needed=True),
    "KAFKA_SASL_PASSWORD": SecretRule(),
    "REDIS_PASSWORD": SecretRule(),
    "JWT_SECRET": SecretRule(needed=True, bits=KEY_BITS),
    "KEYCLOAK_CLIENT_SECRET": SecretRule(),
    "BOOTSTRAP_ADMIN_PASSWORD": SecretRule(bits=PERSON_BITS),
    "SERVICE_KEY": SecretRule(is_word=False),  # checked when the key is read
    "ENCRYPTION_MASTER_KEY": SecretRule(needed=True, bits=KEY_BITS, is_key=True),
    "S3_ACCESS_KEY": SecretRule(bits=0),  # a name, if a secret one
    "S3_SECRET_KEY": SecretRule(),
    "SMTP_PASSWORD": SecretRule(bits=PERSON_BITS),
    "TOSS_SECRET_KEY": SecretRule(),  # payment-service itself does not start without it
    "FCM_SERVER_KEY": SecretRule(is_word=False),  # a service account's JSON, or the path of its file
    "SMS_API_SECRET": SecretRule(),
}
"""Every secret of the settings, by its variable."""

_OURS = frozenset({"JWT_SECRET", "ENCRYPTION_MASTER_KEY", "BOOTSTRAP_ADMIN_PASSWORD"})
"""Secrets by which others get in here; the rest opens other servers."""


def secrets_of(settings: Settings) -> dict[str, str]:
    """All secrets by the names of their variables; an empty text for one that is not set."""
    found: dict[str, str] = {}
    for name in type(settings).model_fields:
        concern = getattr(settings, name)
        for field, described in getattr(type(concern), "model_fields", {}).items():
            value = getattr(concern, field)
            if isinstance(value, SecretStr) and described.alias:
                found[described.alias] = value.get_secret_value()
    return found


def strength_bits(secret: str) -> float:
    """Binary logarithm of the guesses that a secret takes."""
    texts = [secret[:_MOST_JUDGED], *(text[:_MOST_JUDGED] for text in _texts_within(secret))]
    return min(log2(float(zxcvbn(text, user_inputs=["manpasik"])["guesses"])) if text else 0.0 for text in texts)


def _texts_within(secret: str) -> list[str]:
    """What was written in base64 or hexadecimal digits, when it is a text: encoding adds nothing to its strength."""
    decoded = _decoded(secret)
    is_text = len(decoded) >= _SHORTEST_TEXT and decoded.isascii() and decoded.decode("ascii").isprintable()
    return [decoded.decode("ascii")] if is_text else []


def _secret_faults(settings: Settings) -> Iterator[str]:
    uses_s3 = not settings.objects.directory
    for name, secret in secrets_of(settings).items():
        rule = SECRETS[name]
        if name.startswith("S3_") and not uses_s3:
            continue
        if not secret:
            if rule.needed:
                yield f"{name}: is not set; {_advice(rule)}"
        elif _is_published(secret):
            yield f"{name}: is a published or placeholder value; {_advice(rule)}"
        elif rule.is_key and len(_decoded(secret)) < _MASTER_KEY_BYTES:
            yield f"{name}: is not {_MASTER_KEY_BYTES} bytes in base64 or hexadecimal digits; {_advice(rule)}"
        elif rule.is_word and strength_bits(secret) < rule.bits:
            yield f"{name}: can be guessed (below {rule.bits} bits); {_advice(rule)}"
    password = settings.tokens.bootstrap_admin_password.get_secret_value()
    if password and len(password) < _PERSONS_PASSWORD:
        yield f"BOOTSTRAP_ADMIN_PASSWORD: has fewer than {_PERSONS_PASSWORD} characters"


def _shared_secret_faults(settings: Settings) -> Iterator[str]:
    users: defaultdict[str, list[str]] = defaultdict(list)
    for name, secret in secrets_of(settings).items():
        if secret:
            users[secret].append(name)
    for names in users.values():
        if len(names) > 1:
            yield f"{', '.join(names)}: have one value; give each a secret of its own"


def _advice(rule: SecretRule) -> str:
    return "set 32 random bytes in base64" if rule.bits == KEY_BITS else "set a random one of your own"


def _is_published(secret: str) -> bool:
    return any(
        text in _PUBLISHED or any(placeholder in text for placeholder in _PLACEHOLDERS)
        for text in (found.lower() for found in (secret, *_texts_within(secret)))
    )


def _decoded(secret: str) -> bytes:
    """The bytes that a text stands for: the fewest that base64 or hexadecimal digits may mean; none when it is neither."""
    try:
        return bytes.fromhex(secret)
    except ValueError:
        pass
    try:
        return base64.b64decode(
            secret + "=" * (-len(secret) % 4), altchars=b"-_" if set("-_") & set(secret) else None, validate=True
        )
    except (binascii.Error, ValueError):
        return b""


# --- what it talks to, and what talks to it


def _service_key_faults(settings: Settings) -> Iterator[str]:
    if not settings.service_keys.is_given:
        yield f"SERVICE_KEYS_DIR: {KEY_ADVICE}"
    elif not (settings.service_keys.folder or settings.service_keys.public_folder):
        yield "SERVICE_PUBLIC_KEYS_DIR: name the folder of all services' public keys"


def _open_door_faults(settings: Settings) -> Iterator[str]:
    service = settings.service
    if service.grpc_auth == "permissive":
        yield "GRPC_AUTH: permissive is for development networks only; set strict"
    if settings.redis.host == "memory":
        yield "REDIS_HOST: memory does not limit across processes; name a Redis"
    for network in service.trusted_proxies:
        if _is_too_wide(network):
            yield f"TRUSTED_PROXIES: {network} trusts strangers; name the router's own network"
    for origin in service.cors_allow_origins:
        parts = _parts(origin)
        rest = (parts.path.strip("/"), parts.query, parts.fragment, parts.username or "")
        if parts.scheme != "https" or not parts.hostname or "*" in origin or any(rest):
            yield f"CORS_ALLOW_ORIGINS: {_shown(origin)} is not an https origin such as https://app.example.com"


def _is_too_wide(network: IPv4Network | IPv6Network) -> bool:
    if isinstance(network, IPv4Network):
        return network.prefixlen < (_WIDEST_V4 if network.is_private else 16)
    return network.prefixlen < (7 if network.subnet_of(_UNIQUE_LOCAL) else _WIDEST_V6)


def _provider_faults(settings: Settings) -> Iterator[str]:
    """Payment, push and text messages go to the real provider: a sandbox would take money that is none."""
    if settings.toss.secret_key.get_secret_value().startswith(_TOSS_TEST_KEYS):
        yield "TOSS_SECRET_KEY: is a key of the provider's test environment; set the live one"
    urls = {"TOSS_API_URL": settings.toss.api_url}
    if settings.push.server_key.get_secret_value():
        urls["FCM_API_URL"] = settings.push.api_url
    if settings.sms.api_key:
        urls["SMS_API_URL"] = settings.sms.api_url
    for name, url in urls.items():
        if _is_loopback(_parts(url).hostname or ""):
            yield f"{name}: {_shown(url)} is a sandbox on this machine; leave it unset for the provider"
    tokens = settings.tokens
    urls |= {"GOOGLE_JWKS_URL": tokens.google_jwks_url, "APPLE_JWKS_URL": tokens.apple_jwks_url}
    urls |= {"KAKAO_USERINFO_URL": tokens.kakao_userinfo_url, "KAKAO_TOKENINFO_URL": tokens.kakao_tokeninfo_url}
    urls |= {"NAVER_USERINFO_URL": tokens.naver_userinfo_url}
    for name, url in urls.items():
        if _parts(url).scheme != "https":
            yield f"{name}: {_shown(url)} is not an https address"


def _plain_text_faults(settings: Settings) -> Iterator[str]:
    """Connections that are not encrypted: on loopback, or in a network that encrypts by itself, they may be."""
    if settings.transport.trusted_network:
        return
    yield from _plain_servers(settings)
    yield from _plain_urls(settings)
    yield from _plain_listeners(settings)


def _plain_servers(settings: Settings) -> Iterator[str]:
    database, kafka = settings.database, settings.kafka
    hosts = [database.host, *([database.timescale_host] if database.timescale_host else [])]
    if database.sslmode != "verify-full" and not all(_is_loopback(host) for host in hosts):
        yield f"DB_SSLMODE: {database.sslmode} does not prove the server; set verify-full, and DB_SSLROOTCERT where needed"
    if not kafka.security_protocol.endswith("SSL") and not all(
        _is_loopback(_host(broker)) for broker in kafka.brokers.split(",")
    ):
        yield f"KAFKA_SECURITY_PROTOCOL: {kafka.security_protocol} is not encrypted; set SASL_SSL, or SSL with a certificate"
    elif kafka.security_protocol == "SSL" and not kafka.ssl_cert:
        yield "KAFKA_SSL_CERTFILE: without it or SASL the broker does not know its clients"
    if kafka.security_protocol.startswith("SASL") and not (
        kafka.sasl_username and kafka.sasl_password.get_secret_value()
    ):
        yield "KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD: are needed with SASL"
    if settings.redis.host != "memory" and not settings.redis.tls and not _is_loopback(settings.redis.host):
        yield "REDIS_TLS: set it to true"
    if (
        not settings.objects.directory
        and _parts(settings.objects.endpoint_url).scheme != "https"
        and not _is_loopback(_parts(settings.objects.endpoint_url).hostname or "?")
    ):
        named = (
            "S3_ENDPOINT: is not an https address"
            if "://" in settings.objects.endpoint
            else "S3_USE_SSL: set it to true"
        )
        yield named
    if settings.smtp.host and settings.smtp.tls == "none" and not _is_loopback(settings.smtp.host):
        yield "SMTP_TLS: none sends mail and password in clear; set starttls or tls"


def _plain_urls(settings: Settings) -> Iterator[str]:
    tokens = settings.tokens
    urls = {
        "AUTH_JWKS_URL": tokens.jwks_url,
        "PUBLIC_URL": settings.service.public_url,
        "OTEL_EXPORTER_OTLP_ENDPOINT": settings.service.otlp_endpoint,
        **settings.subgraph_urls,
    }
    if tokens.keycloak_enabled:
        urls["KEYCLOAK_URL"] = tokens.keycloak_url
    for name, url in urls.items():
        parts = _parts(url)
        if url and parts.scheme != "https" and not (parts.hostname and _is_loopback(parts.hostname)):
            yield f"{name}: {_shown(url)} is not an https address"


def _plain_listeners(settings: Settings) -> Iterator[str]:
    transport = settings.transport
    if _is_loopback(settings.service.listen_host):
        return
    pairs = {
        "GRPC_TLS_CERT, GRPC_TLS_KEY": transport.grpc_cert and transport.grpc_key,
        "GRPC_TLS_CA": transport.grpc_ca,
        "HTTP_TLS_CERT, HTTP_TLS_KEY": transport.http_cert and transport.http_key,
    }
    for names, given in pairs.items():
        if not given:
            yield f"{names}: set them, or TRUSTED_NETWORK to the name of the network that encrypts"


def _parts(url: str) -> SplitResult:
    """An address taken apart; all empty when it is none."""
    try:
        parts = urlsplit(url)
        parts.hostname, parts.port  # noqa: B018 - read only when they are asked for
    except ValueError:
        return SplitResult("", "", "", "", "")
    return parts


def _shown(url: str) -> str:
    """What a message may show of an address: neither its name and password nor its query, which may hold a token."""
    parts = _parts(url)
    if parts.scheme in _SHOWN_SCHEMES and parts.hostname:
        return f"{parts.scheme}://{parts.hostname}"[:100]
    return "*" if url == "*" else "it"


def _host(address: str) -> str:
    """The host of `host:port`, or of `[address]:port`."""
    host, separator, _ = address.strip().rpartition(":")
    return (host if separator else address.strip()).strip("[]")


def _is_loopback(host: str) -> bool:
    if host.lower() in _LOOPBACK_NAMES or host.startswith("/"):  # a folder of a Unix socket
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


Rule = Callable[[Settings], Iterator[str]]
RULES: tuple[Rule, ...] = (
    _secret_faults,
    _shared_secret_faults,
    _service_key_faults,
    _open_door_faults,
    _provider_faults,
    _plain_text_faults,
)
