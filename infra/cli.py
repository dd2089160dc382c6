"""The console command `manpasik`: `up` runs everything on this machine, `serve` runs one workload or several."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from infra.factory_commands import cartridges, devices

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The ManPaSik platform: readers, measurements, and one GraphQL graph over them.",
)
app.add_typer(cartridges, name="cartridges")
app.add_typer(devices, name="devices")
_errors = Console(stderr=True)


def _fail(message: object) -> typer.Exit:
    _errors.print(f"[bold red]manpasik:[/] {message}", highlight=False, soft_wrap=True)
    return typer.Exit(1)


@app.command()
def up(
    demo: Annotated[bool, typer.Option(help="Load demo people and replay real glucose readings.")] = True,
) -> None:
    """Run the whole platform here: database, broker, services, router and demo readers. Ctrl-C stops it."""
    from infra.local.errors import LocalStackError  # noqa: PLC0415 - each command imports only what it runs
    from infra.up.stack import run  # noqa: PLC0415

    try:
        asyncio.run(run(dict(os.environ), demo=demo))
    except LocalStackError as error:
        raise _fail(error) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@app.command()
def token() -> None:
    """Print an access token of a demo person, for trying queries against a platform that `up` started here."""
    from infra.demo.graph import GraphRefused  # noqa: PLC0415
    from infra.demo.run import demo_token  # noqa: PLC0415
    from infra.local.errors import LocalStackError  # noqa: PLC0415

    try:
        typer.echo(asyncio.run(demo_token(dict(os.environ))))
    except (LocalStackError, GraphRefused) as error:
        raise _fail(error) from error
    except OSError as error:
        raise _fail(f"the router does not answer ({error}); start the platform with: manpasik up") from error


@app.command()
def books() -> None:
    """Add up all payments, orders and stock, and say what does not balance (exit code 1)."""
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - each command imports only what it runs

    from infra.books import audit  # noqa: PLC0415
    from infra.local.errors import LocalStackError  # noqa: PLC0415
    from subgraphs.runtime.settings import SettingsError  # noqa: PLC0415

    try:
        found = asyncio.run(audit(dict(os.environ)))
    except (LocalStackError, SettingsError) as error:
        raise _fail(error) from error
    except (OSError, SQLAlchemyError) as error:
        raise _fail(f"the database does not answer: {error}") from error
    sums = found.totals
    typer.echo(
        f"captured {sums.captured_krw:,} won, paid back {sums.refunded_krw:,} won, being paid back {sums.reserved_krw:,} won"
    )
    for difference in found.differences:
        typer.echo(f"{difference.subject}: {difference.says} (not so: {difference.check})")
    typer.echo("the books balance" if not found.differences else f"{len(found.differences)} differences")
    raise typer.Exit(1 if found.differences else 0)


@app.command()
def service_keys(
    folder: Annotated[Path, typer.Argument(help="Folder of private keys; the public ones are in its folder `public`.")],
    names: Annotated[list[str], typer.Argument(help="Services; without names, all of them.")] = [],  # noqa: B006
    replace: Annotated[bool, typer.Option(help="Make a new pair; the old public key stays valid beside it.")] = False,
    retire: Annotated[bool, typer.Option(help="Remove the public keys that no private key belongs to.")] = False,
) -> None:
    """Make the key pairs by which services know each other and sign events: those that are missing, or new ones."""
    from domain.catalog import EXTERNAL_CALLERS, WORKLOADS, workload  # noqa: PLC0415 - each command imports only what it runs
    from subgraphs.runtime.service_keys import (  # noqa: PLC0415
        ServiceKeyError,
        make_missing_keys,
        replace_key,
        retire_old_keys,
    )

    try:
        chosen = [name if name in EXTERNAL_CALLERS else workload(name).name for name in names] or [
            service.name for service in WORKLOADS
        ]
        make_missing_keys(folder, chosen)
        for service in chosen:
            if replace:
                typer.echo(f"{service}: {replace_key(folder, service).kid} signs from the next start on")
            if retire:
                typer.echo(f"{service}: {retire_old_keys(folder, service)} old keys are not valid any more")
    except (ServiceKeyError, KeyError) as error:
        raise _fail(error.args[0]) from error


@app.command()
def dead_letters(
    topic: Annotated[str, typer.Option(help="Only those of this topic.")] = "",
    reason: Annotated[str, typer.Option(help="Only those with this reason, such as KEY_UNKNOWN.")] = "",
    again: Annotated[bool, typer.Option(help="Send them to their topics again.")] = False,
) -> None:
    """Count the events that consumers refused or could not handle, without their content; or send them again."""
    from aiokafka.errors import KafkaError  # noqa: PLC0415 - each command imports only what it runs

    from infra.dead_letters import chosen, send_again, summary  # noqa: PLC0415
    from subgraphs.runtime.settings import Settings, SettingsError  # noqa: PLC0415

    async def run() -> None:
        settings = Settings.load(os.environ)
        found = await chosen(settings, topic=topic, reason=reason)
        for name, group, code, count in summary(found):
            typer.echo(f"{count:>7}  {name}  {group}  {code}")
        typer.echo(f"{len(found)} dead letters")
        if again:
            typer.echo(f"{await send_again(settings, found)} records sent again")

    try:
        asyncio.run(run())
    except (SettingsError, KafkaError) as error:
        raise _fail(error) from error


@app.command()
def serve(
    names: Annotated[list[str], typer.Argument(help="Services (auth), groups (identity), or router.")],
    grpc_port: Annotated[list[str], typer.Option(help="NAME=PORT where a gRPC port is to differ.")] = [],  # noqa: B006
) -> None:
    """Serve workloads in this process, configured by the environment."""
    from infra.serve import ServeError, run  # noqa: PLC0415

    try:
        run(names, grpc_port, os.environ)
    except ServeError as error:
        raise _fail(error) from error


def main() -> None:
    """The entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
