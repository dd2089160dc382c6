"""The platform's variables in the forms in which deployments write them: compose files, Kubernetes, and CI."""

from collections.abc import Callable

import pytest

from infra.up.plan import plan as plan_of
from subgraphs.runtime.settings import Settings, SettingsError

Read = Callable[[Settings], object]

_FORMS: list[tuple[str, str, Read, object]] = [
    ("GRPC_PORT", ":50072", lambda s: s.service.grpc_port, 50072),
    ("GRPC_PORT", "50072", lambda s: s.service.grpc_port, 50072),
    ("GRPC_PORT", "", lambda s: s.service.grpc_port, None),
    ("GRPC_PORT", " ", lambda s: s.service.grpc_port, None),
    ("HTTP_PORT", "8080", lambda s: s.service.http_port, 8080),
    ("HTTP_PORT", ":8080", lambda s: s.service.http_port, 8080),
    ("METRICS_PORT", "9100", lambda s: s.service.metrics_port, 9100),
    ("METRICS_PORT", ":9100", lambda s: s.service.metrics_port, 9100),
    ("METRICS_PORT", "", lambda s: s.service.metrics_port, 9100),
    ("DB_HOST", "localhost", lambda s: s.database.host, "localhost"),
    ("DB_PORT", "5432", lambda s: s.database.port, 5432),
    ("DB_PORT", "tcp://10.96.3.7:5432", lambda s: s.database.port, 5432),
    ("DB_SSLMODE", "disable", lambda s: s.database.sslmode, "disable"),
    ("DB_SSLMODE", "require", lambda s: s.database.sslmode, "require"),
    ("DB_MAX_CONNS", "20", lambda s: s.database.max_connections, 20),
    ("TIMESCALE_HOST", "timescaledb", lambda s: s.database.timescale_host, "timescaledb"),
    ("TIMESCALE_HOST", "", lambda s: s.database.timescale_host, ""),
    ("TIMESCALE_PORT", "5432", lambda s: s.database.timescale_port, 5432),
    ("REDIS_HOST", "redis", lambda s: s.redis.host, "redis"),
    ("REDIS_PORT", "6379", lambda s: s.redis.port, 6379),
    ("REDIS_PORT", "tcp://10.96.3.7:6379", lambda s: s.redis.port, 6379),
    ("REDIS_PASSWORD", "", lambda s: s.redis.password.get_secret_value(), ""),
    ("REDIS_DB", "0", lambda s: s.redis.db, 0),
    ("KAFKA_BROKERS", "redpanda:9092", lambda s: s.kafka.brokers, "redpanda:9092"),
    ("KAFKA_BROKERS", "", lambda s: s.kafka.brokers, "redpanda:9092"),
    (
        "KAFKA_BROKERS",
        "a.kafka.svc:9092,b.kafka.svc:9092",
        lambda s: s.kafka.brokers,
        "a.kafka.svc:9092,b.kafka.svc:9092",
    ),
    ("KAFKA_GROUP_ID", "", lambda s: s.kafka.group_id, ""),
    ("JWT_ACCESS_TTL_MINUTES", "15", lambda s: s.tokens.access_ttl_minutes, 15),
    ("JWT_REFRESH_TTL_DAYS", "7", lambda s: s.tokens.refresh_ttl_days, 7),
    ("KEYCLOAK_URL", "http://keycloak:8080", lambda s: s.tokens.keycloak_url, "http://keycloak:8080"),
    ("KEYCLOAK_CLIENT_SECRET", "", lambda s: s.tokens.keycloak_client_secret.get_secret_value(), ""),
    ("ENCRYPTION_MASTER_KEY", "", lambda s: s.encryption.master_key.get_secret_value(), ""),
    ("S3_ENDPOINT", "minio:9000", lambda s: s.objects.endpoint_url, "http://minio:9000"),
    ("S3_ENDPOINT", "http://minio:9000/", lambda s: s.objects.endpoint_url, "http://minio:9000"),
    ("S3_ENDPOINT", "https://s3.example.com", lambda s: s.objects.endpoint_url, "https://s3.example.com"),
    ("S3_USE_SSL", "false", lambda s: s.objects.use_ssl, False),
    ("S3_USE_SSL", "true", lambda s: s.objects.endpoint_url, "https://minio:9000"),
    ("S3_USE_SSL", "", lambda s: s.objects.use_ssl, False),
    ("TOSS_SECRET_KEY", "", lambda s: s.toss.secret_key.get_secret_value(), ""),
    ("TOSS_API_URL", "https://api.tosspayments.com", lambda s: s.toss.api_url, "https://api.tosspayments.com"),
    ("FCM_SERVER_KEY", "", lambda s: s.push.server_key.get_secret_value(), ""),
    ("SMTP_HOST", "", lambda s: s.smtp.host, ""),
    ("SMTP_PORT", "587", lambda s: s.smtp.port, 587),
    ("SMTP_PORT", "", lambda s: s.smtp.port, 587),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "", lambda s: s.service.otlp_endpoint, ""),
    ("LOG_LEVEL", "debug", lambda s: s.service.log_level, "debug"),
    ("LOG_LEVEL", "INFO", lambda s: s.service.log_level, "info"),
    ("LOG_LEVEL", "warn", lambda s: s.service.log_level, "warning"),
    ("ENVIRONMENT", "development", lambda s: s.service.environment.value, "development"),
    ("ENVIRONMENT", "Development", lambda s: s.service.environment.value, "development"),
    ("SHUTDOWN_TIMEOUT_SECONDS", "5", lambda s: s.service.shutdown_timeout_seconds, 5.0),
    ("MAX_FINGERPRINT_DIMENSION", "896", lambda s: s.service.max_fingerprint_dimension, 896),
    ("DEFAULT_ALPHA", "0.95", lambda s: s.service.default_alpha, 0.95),
    ("OFFLINE_MODE_ENABLED", "true", lambda s: s.service.offline_mode_enabled, True),
    *[
        ("AUTH_SERVICE_ADDR", address, lambda s, address=address: s.addresses["AUTH_SERVICE_ADDR"], address)
        for address in (
            "manpasik-auth-service:50051",
            "auth-service:50051",
            "127.0.0.1:50051",
            "auth-service.manpasik.svc.cluster.local:50051",
            "[::1]:50051",
        )
    ],
    ("VISION_SERVICE_ADDR", "", lambda s: "VISION_SERVICE_ADDR" in s.addresses, False),
]

_OF_SERVICES_TO_COME = {
    "CONFIG_ENCRYPTION_KEY": "",
    "MILVUS_HOST": "milvus",
    "MILVUS_PORT": "19530",
    "MILVUS_COLLECTION": "manpasik_fingerprints",
    "ELASTICSEARCH_URL": "http://elasticsearch:9200",
    "ELASTICSEARCH_USERNAME": "",
    "ELASTICSEARCH_PASSWORD": "",
    "LLM_API_KEY": "",
    "AI_MODEL_API_KEY": "",
    "VIDEO_STREAM_SECRET": "",
    "TURN_SERVER_URL": "",
    "VIDEO_TURN_SERVER_URL": "",
    "TURN_SERVER_SECRET": "",
    "TRANSLATION_API_KEY": "",
    "TRANSLATION_API_PROVIDER": "google",
    "MQTT_BROKER_URL": "mosquitto:1883",
    "MQTT_USERNAME": "manpasik",
    "MQTT_PASSWORD": "",
    "VISION_SERVICE_URL": "vision-service.manpasik.svc.cluster.local:50072",
    "AUTH_SERVICE_PORT": "tcp://10.96.3.8:50051",
}


@pytest.mark.parametrize(("variable", "form", "read", "value"), _FORMS, ids=[f"{v}={f}" for v, f, _, _ in _FORMS])
def test_a_variable_is_read_in_the_form_of_deployments(variable: str, form: str, read: Read, value: object) -> None:
    assert read(Settings.load({variable: form})) == value


def test_a_whole_service_of_a_compose_file_is_read() -> None:
    first_forms = {variable: form for variable, form, _, _ in reversed(_FORMS)}
    settings = Settings.load(first_forms | _OF_SERVICES_TO_COME)
    assert settings.service.grpc_port == 50072


@pytest.mark.parametrize(
    ("variable", "form"),
    [
        ("GRPC_PORT", ":"),
        ("GRPC_PORT", "::1"),
        ("GRPC_PORT", ":99999"),
        ("GRPC_PORT", "grpc"),
        ("GRPC_PORT", "tcp://:"),
        ("GRPC_PORT", "http://a:80"),
        ("KAFKA_BROKERS", "redpanda"),
        ("KAFKA_BROKERS", "redpanda:9092,,b:1"),
        ("KAFKA_BROKERS", "http://redpanda:9092"),
        ("S3_USE_SSL", "maybe"),
    ],
)
def test_what_is_in_no_form_is_named(variable: str, form: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        Settings.load({variable: form})


def test_the_embedded_platform_takes_ports_in_the_same_forms() -> None:
    plan = plan_of({"HTTP_PORT": ":8085", "METRICS_PORT": " 9105 "})
    assert (plan.router_port, plan.metrics_port) == (8085, 9105)
