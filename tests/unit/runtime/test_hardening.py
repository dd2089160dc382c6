"""What production does not start with, and where published secrets may be used."""

import base64
import secrets
from collections.abc import Mapping

import pytest
from pydantic import SecretStr

from subgraphs.runtime.hardening import SECRETS, load_settings, secrets_of, strength_bits
from subgraphs.runtime.settings import Settings, SettingsError


def _random() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


PRODUCTION: Mapping[str, str] = {
    "ENVIRONMENT": "production",
    "JWT_SECRET": _random(),
    "ENCRYPTION_MASTER_KEY": _random(),
    "SERVICE_KEYS_DIR": "/run/keys",
    "DB_HOST": "db.internal",
    "DB_PASSWORD": secrets.token_urlsafe(24),
    "DB_SSLMODE": "verify-full",
    "KAFKA_BROKERS": "kafka-1.internal:9092,kafka-2.internal:9092",
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_USERNAME": "manpasik-identity",
    "KAFKA_SASL_PASSWORD": secrets.token_urlsafe(24),
    "REDIS_HOST": "redis.internal",
    "REDIS_TLS": "true",
    "REDIS_PASSWORD": secrets.token_urlsafe(24),
    "S3_ENDPOINT": "s3.internal:443",
    "S3_ACCESS_KEY": "AKIAQ3EGRP6M5XYZLMNO",
    "S3_SECRET_KEY": secrets.token_urlsafe(24),
    "S3_USE_SSL": "true",
    "SMTP_HOST": "smtp.internal",
    "SMTP_PASSWORD": secrets.token_urlsafe(24),
    "AUTH_JWKS_URL": "https://auth.internal:8081/.well-known/jwks.json",
    "PUBLIC_URL": "https://files.manpasik.test",
    "IDENTITY_SUBGRAPH_URL": "https://identity.internal:8081/identity/graphql",
    "CORS_ALLOW_ORIGINS": "https://app.manpasik.test, https://admin.manpasik.test",
    "TRUSTED_PROXIES": "10.4.0.0/16,fd00:1::/64",
    "GRPC_TLS_CERT": "/run/tls/tls.crt",
    "GRPC_TLS_KEY": "/run/tls/tls.key",
    "GRPC_TLS_CA": "/run/tls/ca.crt",
    "HTTP_TLS_CERT": "/run/tls/tls.crt",
    "HTTP_TLS_KEY": "/run/tls/tls.key",
    "TOSS_SECRET_KEY": "live_sk_" + secrets.token_hex(16),
    "BOOTSTRAP_ADMIN_EMAIL": "admin@manpasik.test",
    "BOOTSTRAP_ADMIN_PASSWORD": "Wr9-tulpenfeld-Kanne",
}


def refused(changed: Mapping[str, str]) -> list[str]:
    """The variables of the faults, in the order of the message's lines."""
    with pytest.raises(SettingsError) as refusal:
        load_settings({**PRODUCTION, **changed})
    text = str(refusal.value)
    for name, value in changed.items():
        assert name not in SECRETS or len(value) < 9 or value not in text
    return [line.strip().partition(":")[0] for line in text.splitlines()[1:]]


def test_production_starts_with_secrets_of_its_own_and_encrypted_connections() -> None:
    settings = load_settings(PRODUCTION)
    assert settings.service.is_production
    assert settings.service.listen_host == "0.0.0.0"
    assert not settings.service.allows_unverified_sessions


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("JWT_SECRET", ""),
        ("JWT_SECRET", "x"),
        ("JWT_SECRET", "x" * 64),
        ("JWT_SECRET", "0123456789abcdef" * 4),
        ("JWT_SECRET", "dev-secret-change-in-production"),
        ("JWT_SECRET", "manpasik_dev_2026"),  # published under another name
        ("JWT_SECRET", "MinioAdmin"),
        ("JWT_SECRET", "correct horse battery staple"),
        ("ENCRYPTION_MASTER_KEY", ""),
        ("ENCRYPTION_MASTER_KEY", "CHANGE_ME_AES256_CONFIG_KEY"),
        ("ENCRYPTION_MASTER_KEY", "KxO1pZ8qT0yW3fLm7dRvQA=="),
        ("ENCRYPTION_MASTER_KEY", "a text of more than thirty-two characters, and not a key"),
        ("ENCRYPTION_MASTER_KEY", "A" * 43 + "="),
        ("DB_PASSWORD", ""),
        ("DB_PASSWORD", "manpasik_dev_2026"),
        ("DB_PASSWORD", "password"),
        ("DB_PASSWORD", "manpasik123"),
        ("REDIS_PASSWORD", "redis"),
        ("KAFKA_SASL_PASSWORD", "kafka"),
        ("S3_ACCESS_KEY", "minioadmin"),
        ("S3_SECRET_KEY", "minioadmin"),
        ("S3_SECRET_KEY", ""),
        ("SMTP_PASSWORD", "hunter2"),
        ("SMS_API_SECRET", "sandbox-secret-that-opens-nothing-else"),
        ("KEYCLOAK_CLIENT_SECRET", "secret"),
        ("TOSS_SECRET_KEY", "test_sk_sandbox"),
        ("TOSS_SECRET_KEY", "test_sk_zXLkKEypNArWmo50nX3lmeaxYG5R"),
        ("TOSS_API_URL", "http://127.0.0.1:8026"),
        ("TOSS_API_URL", "http://api.tosspayments.com"),
        ("BOOTSTRAP_ADMIN_PASSWORD", "password"),
        ("BOOTSTRAP_ADMIN_PASSWORD", "Admin123!"),
        ("BOOTSTRAP_ADMIN_PASSWORD", "Manpasik2026!"),
        ("SERVICE_KEYS_DIR", ""),
        ("GRPC_AUTH", "permissive"),
        ("REDIS_HOST", "memory"),
        ("CORS_ALLOW_ORIGINS", "*"),
        ("CORS_ALLOW_ORIGINS", "https://*.manpasik.test"),
        ("CORS_ALLOW_ORIGINS", "http://app.manpasik.test"),
        ("CORS_ALLOW_ORIGINS", "null"),
        ("TRUSTED_PROXIES", "0.0.0.0/0"),
        ("TRUSTED_PROXIES", "0.0.0.0/1,128.0.0.0/1"),
        ("TRUSTED_PROXIES", "::/0"),
        ("TRUSTED_PROXIES", "2000::/3"),
        ("DB_SSLMODE", "disable"),
        ("DB_SSLMODE", "require"),
        ("DB_SSLMODE", "verify-ca"),
        ("KAFKA_SECURITY_PROTOCOL", "PLAINTEXT"),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("REDIS_TLS", "false"),
        ("S3_USE_SSL", "false"),
        ("SMTP_TLS", "none"),
        ("AUTH_JWKS_URL", "http://auth.internal/jwks"),
        ("PUBLIC_URL", "http://files.manpasik.test"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:4317"),
        ("COMMERCE_SUBGRAPH_URL", "http://commerce:8081/commerce/graphql"),
        ("GRPC_TLS_CERT", ""),
        ("GRPC_TLS_CA", ""),
        ("HTTP_TLS_KEY", ""),
        ("JWT_SECRET", base64.b64encode(b"dev-secret-change-in-production").decode()),
        ("ENCRYPTION_MASTER_KEY", base64.b64encode(b"passwordpasswordpassword12345678").decode()),
        ("ENCRYPTION_MASTER_KEY", b"manpasik_dev_2026manpasik_dev_2026".hex()),
        ("S3_ENDPOINT", "HTTP://s3.internal"),
        ("CORS_ALLOW_ORIGINS", "https://somebody@app.manpasik.test"),
        ("CORS_ALLOW_ORIGINS", "https://app.manpasik.test?page=1"),
        ("AUTH_JWKS_URL", "http://[auth"),
        ("AUTH_JWKS_URL", "auth.internal/jwks"),
        ("IDENTITY_SUBGRAPH_URL", "/identity/graphql"),
        ("TRUSTED_NETWORK", "false"),
        ("TRUSTED_NETWORK", "No"),
        ("GOOGLE_JWKS_URL", "http://www.googleapis.com/oauth2/v3/certs"),
    ],
)
def test_production_refuses_what_is_unsafe_and_names_it(variable: str, value: str) -> None:
    named = refused({variable: value})
    assert any(variable in names for names in named), named
    assert len(set(named)) <= 2, named


def test_kafka_needs_to_know_its_clients() -> None:
    assert refused({"KAFKA_SECURITY_PROTOCOL": "SSL"}) == ["KAFKA_SSL_CERTFILE"]
    assert refused({"KAFKA_SASL_USERNAME": ""}) == ["KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD"]
    load_settings({**PRODUCTION, "KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CERTFILE": "/run/tls/kafka.crt"})


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as refusal:
        load_settings({"ENVIRONMENT": "production", "CORS_ALLOW_ORIGINS": "*", "TRUSTED_PROXIES": "0.0.0.0/0"})
    text = str(refusal.value)
    for variable in (
        "JWT_SECRET",
        "ENCRYPTION_MASTER_KEY",
        "SERVICE_KEYS_DIR",
        "DB_PASSWORD",
        "DB_SSLMODE",
        "KAFKA_SECURITY_PROTOCOL",
        "REDIS_TLS",
        "S3_SECRET_KEY",
        "S3_USE_SSL",
        "GRPC_TLS_CA",
        "CORS_ALLOW_ORIGINS",
        "TRUSTED_PROXIES",
    ):
        assert f"\n  {variable}" in text


def test_what_cannot_be_read_is_named_beside_all_other_faults() -> None:
    unread = {"DB_PORT": "abc", "SMTP_TLS": "perhaps", "AUTH_SERVICE_ADDR": "nowhere", "TRUSTED_NETWORK": "false"}
    named = refused({**unread, "JWT_SECRET": "x", "REDIS_TLS": "false", "CORS_ALLOW_ORIGINS": "*"})
    assert sorted(named) == sorted([*unread, "JWT_SECRET", "REDIS_TLS", "CORS_ALLOW_ORIGINS"])


@pytest.mark.parametrize(
    "changed",
    [
        {"AUTH_JWKS_URL": "http://name:kept-back@auth.internal/jwks?token=kept-back"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://kept-back@otel:4317"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "name:kept-back@otel:4317"},
        {"CORS_ALLOW_ORIGINS": "https://name:kept-back@app.manpasik.test"},
        {"COMMERCE_SUBGRAPH_URL": "http://name:kept-back@commerce/graphql"},
        {"TOSS_API_URL": "http://name:kept-back@127.0.0.1:8026"},
        {"AUTH_SERVICE_ADDR": "http://name:kept-back@auth"},
        {"GOOGLE_JWKS_URL": "http://[kept-back"},
    ],
)
def test_no_message_shows_what_an_address_hides(changed: Mapping[str, str]) -> None:
    with pytest.raises(SettingsError) as refusal:
        load_settings({**PRODUCTION, **changed})
    assert next(iter(changed)) in str(refusal.value)
    assert "kept-back" not in str(refusal.value)


@pytest.mark.parametrize("same", [("JWT_SECRET", "ENCRYPTION_MASTER_KEY"), ("DB_PASSWORD", "REDIS_PASSWORD")])
def test_one_value_for_two_secrets_is_refused(same: tuple[str, str]) -> None:
    assert refused(dict.fromkeys(same, _random())) == [", ".join(name for name in SECRETS if name in same)]


@pytest.mark.parametrize("variable", ["DB_HOST", "KAFKA_BROKERS", "REDIS_HOST", "S3_ENDPOINT", "SMTP_HOST"])
def test_plain_text_is_allowed_on_loopback(variable: str) -> None:
    plain = {
        "DB_HOST": {"DB_SSLMODE": "disable"},
        "KAFKA_BROKERS": {"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"},
        "REDIS_HOST": {"REDIS_TLS": "false"},
        "S3_ENDPOINT": {"S3_USE_SSL": "false"},
        "SMTP_HOST": {"SMTP_TLS": "none"},
    }[variable]
    host = "127.0.0.1:9000" if variable in ("KAFKA_BROKERS", "S3_ENDPOINT") else "127.0.0.1"
    load_settings({**PRODUCTION, **plain, variable: host})


def test_a_network_that_encrypts_by_itself_may_be_named() -> None:
    plain = {
        "DB_SSLMODE": "disable",
        "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        "REDIS_TLS": "false",
        "GRPC_TLS_CERT": "",
        "IDENTITY_SUBGRAPH_URL": "http://identity:8081/identity/graphql",
    }
    load_settings({**PRODUCTION, **plain, "TRUSTED_NETWORK": "istio"})
    # What leaves the network is encrypted nevertheless.
    assert refused({**plain, "TRUSTED_NETWORK": "istio", "APPLE_JWKS_URL": "http://apple/keys"}) == ["APPLE_JWKS_URL"]


def test_every_secret_of_the_settings_has_a_rule() -> None:
    assert set(secrets_of(Settings.load({}))) == set(SECRETS)


def test_every_secret_hides_itself() -> None:
    settings = Settings.load(PRODUCTION)
    for text in (repr(settings), settings.model_dump_json()):
        assert not [name for name, value in secrets_of(settings).items() if len(value) > 12 and value in text]


def test_random_secrets_are_strong_and_typed_ones_are_not() -> None:
    for _ in range(50):
        assert strength_bits(_random()) > 128
        assert strength_bits(secrets.token_hex(32)) > 128
        assert strength_bits(secrets.token_urlsafe(24)) > 90
    for typed in ("", "x" * 200, "abcabcabcabcabcabcabcabcabc", "20261201", "qwertyuiopasdfghjklzxcvbnm", "manpasik"):
        assert strength_bits(typed) < 45


# --- development


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "manpasik-auth-service"])
@pytest.mark.parametrize("environment", ["", "development", "test"])
def test_published_secrets_are_used_on_loopback_only(host: str, environment: str) -> None:
    with pytest.raises(SettingsError, match="JWT_SECRET"):
        load_settings({"ENVIRONMENT": environment, "LISTEN_HOST": host})
    own = {"JWT_SECRET": _random(), "ENCRYPTION_MASTER_KEY": _random()}
    assert load_settings({"ENVIRONMENT": environment, "LISTEN_HOST": host, **own}).service.listen_host == host


@pytest.mark.parametrize(
    ("variable", "value"),
    [("JWT_SECRET", "x"), ("ENCRYPTION_MASTER_KEY", "secret"), ("BOOTSTRAP_ADMIN_PASSWORD", "password")],
)
def test_guessable_secrets_are_used_on_loopback_only(variable: str, value: str) -> None:
    own = {"JWT_SECRET": _random(), "ENCRYPTION_MASTER_KEY": _random(), variable: value}
    with pytest.raises(SettingsError, match=variable):
        load_settings({"LISTEN_HOST": "0.0.0.0", **own})
    assert load_settings(own).service.listen_host == "127.0.0.1"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_a_development_process_needs_no_secrets_on_loopback(host: str) -> None:
    assert load_settings({"LISTEN_HOST": host}).service.listen_host == host


def test_a_development_process_answers_on_loopback_unless_told_otherwise() -> None:
    assert load_settings({}).service.listen_host == "127.0.0.1"


def test_secrets_are_of_the_type_that_hides_them() -> None:
    for name in Settings.model_fields:
        concern = Settings.model_fields[name].annotation
        for described in getattr(concern, "model_fields", {}).values():
            if any(word in (described.alias or "") for word in ("SECRET", "PASSWORD")):
                assert described.annotation is SecretStr, described.alias
