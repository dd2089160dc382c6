import pytest

from domain.catalog import Group
from subgraphs.runtime.settings import Environment, ServiceSettings, Settings, SettingsError


def test_an_empty_environment_is_a_development_network() -> None:
    settings = Settings.load({})
    assert settings.service.environment is Environment.DEVELOPMENT
    assert settings.service.grpc_auth == "strict"
    assert settings.service.allows_unverified_sessions
    assert settings.service.takes_unknown_devices


@pytest.mark.parametrize(
    ("environment", "chosen", "taken"),
    [
        ("development", None, True),
        ("production", None, False),
        ("production", "allow", True),
        ("test", "refuse", False),
    ],
)
def test_readers_without_a_factory_record_are_accepted_outside_of_production_by_default(
    environment: str, chosen: str | None, taken: bool
) -> None:
    settings = ServiceSettings.model_validate({"environment": environment, "unknown_devices": chosen})
    assert settings.takes_unknown_devices is taken


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DB_PORT", "postgres"),
        ("TRUSTED_PROXIES", "router"),
        ("TRUSTED_PROXIES", "10.1.2.3/8"),
        ("DB_PORT", "70000"),
        ("DB_NAME", 'x"; DROP DATABASE y'),
        ("DB_SSLMODE", "sometimes"),
        ("DB_MAX_CONNS", "0"),
        ("REDIS_DB", "-1"),
        ("JWT_ACCESS_TTL_MINUTES", "0"),
        ("KEYCLOAK_ENABLED", "perhaps"),
        ("S3_USE_SSL", "2"),
        ("SMTP_TLS", "always"),
        ("ENVIRONMENT", "staging"),
        ("LOG_LEVEL", "loud"),
        ("GRPC_AUTH", "off"),
        ("GRPC_PORT", "-1"),
        ("SHUTDOWN_TIMEOUT_SECONDS", "soon"),
        ("MAX_FINGERPRINT_DIMENSION", "4096"),
        ("DEFAULT_ALPHA", "0"),
        ("UNVERIFIED_SESSIONS", "maybe"),
        ("UNKNOWN_DEVICES", "maybe"),
        ("AUTH_SERVICE_ADDR", "http://auth:50051/"),
        ("AUTH_SERVICE_ADDR", "auth"),
    ],
)
def test_a_wrong_value_is_named(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{variable}: "):
        Settings.load({variable: value})


def test_all_wrong_values_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as refusal:
        Settings.load({"DB_PORT": "x", "SMTP_PORT": "y", "GRPC_AUTH": "z", "USER_SERVICE_ADDR": "u"})
    for variable in ("DB_PORT", "SMTP_PORT", "GRPC_AUTH", "USER_SERVICE_ADDR"):
        assert variable in str(refusal.value)


@pytest.mark.parametrize("address", ["auth:50051", "dns:///auth:50051", "[::1]:50051", "127.0.0.1:1", "unix:/run/a"])
def test_addresses_of_services_are_taken(address: str) -> None:
    assert Settings.load({"AUTH_SERVICE_ADDR": address}).addresses == {"AUTH_SERVICE_ADDR": address}


def test_an_empty_variable_is_an_unset_one() -> None:
    settings = Settings.load({"DB_PORT": "", "GRPC_PORT": "", "AUTH_SERVICE_ADDR": "", "LOG_LEVEL": ""})
    assert settings == Settings.load({})


def test_variables_of_others_are_ignored() -> None:
    assert Settings.load({"PATH": "/bin", "DB_COLOUR": "red"}) == Settings.load({})


def test_names_of_levels_and_environments_may_be_written_large() -> None:
    settings = Settings.load({"LOG_LEVEL": "WARNING", "ENVIRONMENT": "Test"}).service
    assert (settings.log_level, settings.environment) == ("warning", Environment.TEST)


def test_secrets_are_hidden() -> None:
    secrets = {
        name: f"hunter2-{name}"
        for name in (
            "DB_PASSWORD",
            "REDIS_PASSWORD",
            "JWT_SECRET",
            "SERVICE_KEY",
            "KEYCLOAK_CLIENT_SECRET",
            "ENCRYPTION_MASTER_KEY",
            "S3_ACCESS_KEY",
            "S3_SECRET_KEY",
            "SMTP_PASSWORD",
        )
    }
    settings = Settings.load(secrets)
    assert settings.database.password.get_secret_value() == "hunter2-DB_PASSWORD"
    for text in (repr(settings), str(settings), repr(settings.database), settings.model_dump_json()):
        assert "hunter2" not in text


def test_a_refusal_does_not_show_secrets() -> None:
    with pytest.raises(SettingsError) as refusal:
        Settings.load({"DB_PASSWORD": "hunter2", "DB_PORT": "x"})
    assert "hunter2" not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert refusal.value.__context__ is None


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.load({}).database.port = 1  # type: ignore[misc]  # that is the point


def test_one_secret_stands_in_for_the_master_key_in_development() -> None:
    assert Settings.load({"JWT_SECRET": "one"}).master_secret == "one"
    assert Settings.load({"JWT_SECRET": "one", "ENCRYPTION_MASTER_KEY": "two"}).master_secret == "two"


def test_the_secret_that_services_shared_is_refused_with_what_took_its_place() -> None:
    with pytest.raises(SettingsError, match=r"^SERVICE_TOKEN_SECRET: .*manpasik service-keys"):
        Settings.load({"SERVICE_TOKEN_SECRET": "hunter2"})
    assert Settings.load({"SERVICE_TOKEN_SECRET": "hunter2", "SERVICE_KEYS_DIR": "/run/keys"}).service_keys.is_given


def test_proxies_are_listed_as_networks_and_loopback_is_the_default() -> None:
    assert [str(network) for network in Settings.load({}).service.trusted_proxies] == ["127.0.0.0/8", "::1/128"]
    listed = Settings.load({"TRUSTED_PROXIES": "10.1.0.0/16, fd00::/8,192.0.2.7"}).service.trusted_proxies
    assert [str(network) for network in listed] == ["10.1.0.0/16", "fd00::/8", "192.0.2.7/32"]


def test_measurements_may_be_on_a_server_of_their_own() -> None:
    settings = Settings.load({"DB_HOST": "pg", "TIMESCALE_HOST": "ts", "TIMESCALE_PORT": "5433"}).database
    servers = {group: (settings.of(group).host, settings.of(group).port) for group in Group}
    assert servers.pop(Group.MEASUREMENT) == ("ts", 5433)
    assert set(servers.values()) == {("pg", 5432)}
    assert Settings.load({"DB_HOST": "pg"}).database.of(Group.MEASUREMENT).host == "pg"
