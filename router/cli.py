"""`router serve | compose | plan | check`."""

import asyncio
import gc
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer
from graphql import GraphQLSchema, build_schema, get_operation_ast, parse, validate
from graphql.utilities import SchemaChange, find_schema_changes

from router.errors import ClientError, RouterError
from router.planning.operation import normalize
from router.planning.planner import Planner
from router.serving.app import create_app
from router.serving.service import RouterService, logger
from router.serving.settings import RouterSettings, load_settings
from router.supergraph.read import read_supergraph

main = typer.Typer(name="router", no_args_is_help=True, add_completion=False, help="The federation router.")

_File = Annotated[Path, typer.Option(exists=True, dir_okay=False, readable=True)]


@main.command()
def serve(
    supergraph: _File,
    listen: Annotated[str | None, typer.Option(help="HOST:PORT; replaces the settings file's.")] = None,
    config: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="Settings, YAML or JSON.")] = None,
) -> None:
    """Serves a supergraph at /graphql and reloads it when its file changes."""
    import uvicorn  # noqa: PLC0415  only this command needs it

    with _told():
        settings = load_settings(config) if config else RouterSettings()
        host, port = _address(listen or settings.listen)
        app = create_app(_read(supergraph), settings, watch=_watcher(supergraph, settings.reload_interval_s))
    # What was built so far lives until the end, and requests make few cycles: collecting rarely saves much time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    uvicorn.run(app, host=host, port=port, loop="uvloop", http="httptools", log_level="warning", access_log=False)


@main.command()
def compose(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A supergraph.yaml, as Rover reads it.")],
) -> None:
    """Composes subgraphs and prints the supergraph."""
    from router import composition  # noqa: PLC0415  serving starts sooner without
    from router.composition.config import SupergraphConfigError, load_subgraphs  # noqa: PLC0415

    with _told():
        try:
            composed = composition.compose(asyncio.run(load_subgraphs(file)))
        except (composition.CompositionFailed, SupergraphConfigError) as failed:
            typer.echo(str(failed), err=True)
            raise typer.Exit(1) from failed
    for hint in composed.hints:
        typer.echo(str(hint), err=True)
    typer.echo(composed.supergraph_sdl)


@main.command()
def plan(
    supergraph: _File,
    operation: _File,
    variables: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="A JSON file.")] = None,
    name: Annotated[str | None, typer.Option(help="Which operation, if the file holds several.")] = None,
) -> None:
    """Prints the plan of an operation. `@skip`, `@include` and `@defer` are decided by the variables."""
    with _told():
        model = read_supergraph(_read(supergraph))
        document = parse(_read(operation))
        chosen = get_operation_ast(document, name)
        if chosen is None:
            raise ClientError("The file holds several operations or none of that name: use --name.")
        if errors := validate(model.api_schema, document):
            raise ClientError("\n".join(error.message for error in errors))
        values = json.loads(_read(variables)) if variables else {}
        planned = Planner(model).plan(normalize(model, document, chosen, variables=values, defer=True))
    typer.echo(str(planned.plan))


@main.command()
def check(base: _File, head: _File) -> None:
    """Prints what changes for clients from one supergraph (or schema) to another; fails if something breaks."""
    with _told():
        changes = find_schema_changes(_api(_read(base)), _api(_read(head)))
    order = {"BREAKING": 0, "DANGEROUS": 1, "SAFE": 2}
    lines = sorted((order[_severity(c)], f"{_severity(c):9} {c.type.name:32} {c.description}") for c in changes)
    for _, line in lines:
        typer.echo(line)
    if any(rank == 0 for rank, _ in lines):
        raise typer.Exit(1)


def _severity(change: SchemaChange) -> str:
    return type(change).__name__.removesuffix("Change").upper()


def _api(sdl: str) -> GraphQLSchema:
    return read_supergraph(sdl).api_schema if "join__Graph" in sdl else build_schema(sdl)


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise ClientError(f"--listen must be HOST:PORT, not {listen!r}.")
    return host.strip("[]"), int(port)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _watcher(path: Path, interval_s: float) -> Callable[[RouterService], Coroutine[Any, Any, None]]:
    def stamp() -> tuple[int, int] | None:
        try:
            stat = path.stat()
        except OSError:
            return None  # in the middle of being replaced
        return stat.st_mtime_ns, stat.st_size

    async def watch(service: RouterService) -> None:
        seen = stamp()
        while True:
            await asyncio.sleep(interval_s)
            now = stamp()
            if now is None or now == seen:
                continue
            seen = now
            try:
                await service.reload(await asyncio.to_thread(_read, path))
                logger.warning("took over the changed supergraph %s", path)
            except (RouterError, OSError, UnicodeDecodeError) as error:
                logger.error("kept the old supergraph: %s", error)

    return watch


class _told:  # noqa: N801  reads as a statement
    """Turns what a person can fix into one line on stderr."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, RouterError | OSError | ValueError):
            typer.echo(f"router: {error}", err=True)
            sys.exit(2)


if __name__ == "__main__":
    main()
