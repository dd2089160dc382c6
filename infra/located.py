"""Where the databases are that a command of the console works on."""

from collections.abc import Mapping

from infra.local.errors import LocalStackError
from infra.local.postgres import running_port
from infra.local.process import LOOPBACK
from infra.up.plan import plan
from infra.up.secrets import load_or_create


def located(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with the database that it names (`DB_HOST`), or with that of the platform that `up` runs here.

    Raises:
        LocalStackError: no database is named, and no platform runs in `MANPASIK_HOME`.
    """
    planned = plan(environ)
    if not planned.embeds_database:
        return dict(environ)
    port = running_port(planned.home / "postgres")
    if port is None:
        raise LocalStackError(f"no platform runs in {planned.home}; start one with: manpasik up, or set DB_HOST")
    secrets = load_or_create(planned.home / "secrets.json")
    known = {name: secrets[name] for name in ("JWT_SECRET", "ENCRYPTION_MASTER_KEY", "DB_PASSWORD")}
    return {**known, **environ, "DB_HOST": LOOPBACK, "DB_PORT": str(port), "DB_PASSWORD": known["DB_PASSWORD"]}
