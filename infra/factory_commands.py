"""The console commands of the factory: `manpasik cartridges ...` and `manpasik devices ...`."""

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console

T = TypeVar("T")

cartridges = typer.Typer(no_args_is_help=True, help="Cartridges: the lots that the factory has made.")
devices = typer.Typer(no_args_is_help=True, help="Readers: the factory's records of them.")
_errors = Console(stderr=True)

_File = Annotated[Path, typer.Argument(help="CSV in UTF-8 with a header; README lists the columns.")]
_Replace = Annotated[bool, typer.Option(help="Let the file change what is stored.")]


@cartridges.command("import")
def import_lots(file: _File, replace: _Replace = False) -> None:
    """Store the lots and cartridges of a lot file: all of them or none. The same file again changes nothing."""
    from infra import factory  # noqa: PLC0415 - each command imports only what it runs

    async def work() -> None:
        done = await factory.import_lots(os.environ, factory.read_file(file), replace=replace)
        typer.echo(
            f"{done.lots_added} lots and {done.cartridges_added} cartridges added, {done.replaced} replaced, "
            f"{done.unchanged} unchanged"
        )

    _run(work())


@cartridges.command()
def release(uid: Annotated[str, typer.Argument(help="The cartridge: 16 hexadecimal digits.")]) -> None:
    """End the exclusive ownership of a signed cartridge: the next person who shows its tag owns it."""
    from infra import factory  # noqa: PLC0415

    async def work() -> None:
        released = await factory.release_cartridge(os.environ, uid)
        typer.echo("released" if released else "this cartridge has no exclusive owner")

    _run(work())


@devices.command("import")
def import_devices(file: _File, replace: _Replace = False) -> None:
    """Store the readers of a file of device records: all of them or none. The same file again changes nothing."""
    from infra import factory  # noqa: PLC0415

    async def work() -> None:
        done = await factory.import_devices(os.environ, factory.read_file(file), replace=replace)
        typer.echo(f"{done.added} readers added, {done.replaced} replaced, {done.unchanged} unchanged")

    _run(work())


@devices.command("hash")
def hash_code(serial_number: Annotated[str, typer.Argument(help="Serial number of the reader.")]) -> None:
    """Ask for a claim code, and print what stands for it in a file of device records."""
    from domain.hardware.device.claims import (  # noqa: PLC0415
        MAX_CODE_CHARACTERS,
        MIN_CODE_CHARACTERS,
        claim_hash,
        normal_code,
    )

    code = normal_code(typer.prompt("Claim code", hide_input=True, err=True))
    if code is None:
        raise _fail(
            f"a claim code has {MIN_CODE_CHARACTERS} to {MAX_CODE_CHARACTERS} letters and digits; blanks and hyphens "
            "are left out"
        )
    typer.echo(claim_hash(serial_number, code).hex())


def _fail(message: object) -> typer.Exit:
    _errors.print(f"[bold red]manpasik:[/] {message}", highlight=False, soft_wrap=True)
    return typer.Exit(1)


def _run(work: Coroutine[Any, Any, T]) -> T:
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    from domain.errors import AppError  # noqa: PLC0415
    from domain.sealing import SealBroken  # noqa: PLC0415
    from infra.local.errors import LocalStackError  # noqa: PLC0415
    from subgraphs.runtime.settings import SettingsError  # noqa: PLC0415

    try:
        return asyncio.run(work)
    except AppError as error:
        raise _fail(error.message) from error
    except (LocalStackError, SettingsError, SealBroken) as error:
        raise _fail(error) from error
    except (OSError, SQLAlchemyError) as error:
        raise _fail(f"the database does not answer: {error}") from error
