"""`router serve | compose | plan | check`."""

import asyncio
import gc
import json
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from graphql import (
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    build_schema,
    get_operation_ast,
    parse,
    validate,
)

from router.errors import ClientError, InvalidSupergraph, RouterError
from router.planning.conditions import print_undecided
from router.planning.operation import condition_variables, normalize
from router.planning.plan import QueryPlan
from router.planning.planner import Planner
from router.serving.app import create_app
from router.serving.settings import RouterSettings, load_settings
from router.serving.tls import server_context
from router.serving.watching import watcher
from router.supergraph.changes import Severity, find_changes
from router.supergraph.read import read_supergraph

main = typer.Typer(
    name="router", no_args_is_help=True, add_completion=False, rich_markup_mode=None, help="The federation router."
)

_SupergraphFile = Annotated[Path, typer.Option("--supergraph", help="Supergraph SDL, in the join specification.")]


@main.command()
def serve(
    supergraph: _SupergraphFile,
    listen: Annotated[str | None, typer.Option(help="HOST:PORT; replaces the settings file's.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings, YAML or JSON.")] = None,
) -> None:
    """Serves a supergraph at /graphql and reloads it when its file changes."""
    from router.serving.server import serve_forever  # noqa: PLC0415  only this command needs it

    with _told():
        settings = load_settings(config) if config else RouterSettings()
        host, port = _address(listen or settings.listen)
        watch = watcher(supergraph, settings.reload_interval_s)
        gc.disable()  # nothing that is built here is garbage
        try:
            app = create_app(_read(supergraph), settings, watch=watch)
        finally:
            gc.enable()
        if settings.tls is not None:
            server_context(settings.tls)  # what is wrong with the files is told before anything is served
    serve_forever(app, host, port, settings.tls)


@main.command()
def compose(
    file: Annotated[Path, typer.Argument(help="A supergraph.yaml, as Rover reads it.")],
    output: Annotated[
        Path | None, typer.Option(help="Where to write the supergraph; without it, it is printed.")
    ] = None,
    include_tag: Annotated[
        list[str] | None, typer.Option(help="Keep in the API only what carries this tag; may be repeated.")
    ] = None,
    exclude_tag: Annotated[
        list[str] | None, typer.Option(help="Leave out of the API what carries this tag; may be repeated.")
    ] = None,
) -> None:
    """Composes subgraphs, from files or running ones, into a supergraph.

    Errors and hints go to stderr. Nothing is written unless the subgraphs compose (exit code 1 where they do not).
    """
    from router import composition  # noqa: PLC0415  serving starts sooner without
    from router.composition.config import SupergraphConfigError, load_subgraphs  # noqa: PLC0415

    with _told():
        try:
            subgraphs = asyncio.run(load_subgraphs(file))
        except SupergraphConfigError as failed:
            raise ClientError(str(failed)) from failed
        try:
            composed = composition.compose(subgraphs, include_tags=include_tag or (), exclude_tags=exclude_tag or ())
        except composition.CompositionFailed as failed:
            typer.echo(str(failed), err=True)
            raise typer.Exit(1) from failed
        for hint in composed.hints:
            typer.echo(str(hint), err=True)
        if output is None:
            typer.echo(composed.supergraph_sdl)
        else:
            _replace(output, composed.supergraph_sdl)


@main.command()
def plan(
    supergraph: _SupergraphFile,
    operation: Annotated[Path, typer.Option(help="A GraphQL document.")],
    variables: Annotated[Path | None, typer.Option(help="A JSON file.")] = None,
    name: Annotated[str | None, typer.Option(help="Which operation, if the file holds several.")] = None,
) -> None:
    """Prints the plan of an operation. `@skip`, `@include` and `@defer` are decided by the variables, if any are given."""
    with _told():
        model = read_supergraph(_read(supergraph))
        document = _parsed(operation)
        chosen = get_operation_ast(document, name)
        if chosen is None:
            raise ClientError(_no_operation(document, name))
        if errors := validate(model.api_schema, document):
            raise ClientError("\n".join(_located(error, operation) for error in errors))
        planner = Planner(model)

        def planned(values: Mapping[str, object]) -> QueryPlan:
            return planner.plan(normalize(model, document, chosen, variables=values, defer=True)).plan

        if variables:
            typer.echo(str(planned(_variables(variables))))
        else:
            typer.echo(print_undecided(planned, condition_variables(document)))


class _Format(StrEnum):
    TEXT = "text"
    JSON = "json"


@main.command()
def check(
    base: Annotated[Path, typer.Option(help="The schema that clients use: a supergraph, or plain SDL.")],
    head: Annotated[Path, typer.Option(help="The schema that is to replace it.")],
    output_format: Annotated[_Format, typer.Option("--format", help="How to print the changes.")] = _Format.TEXT,
) -> None:
    """Prints what changes for clients from one schema to another, and fails (exit code 1) if something breaks."""
    with _told():
        changes = find_changes(_api(base), _api(head))
        counts = {severity: sum(change.severity is severity for change in changes) for severity in Severity}
        if output_format is _Format.JSON:
            listed = [
                {"severity": change.severity.value, "code": change.code, "message": change.message}
                for change in changes
            ]
            told = {severity.value: count for severity, count in counts.items()}
            typer.echo(json.dumps({**told, "changes": listed}, indent=2))
        else:
            for change in changes:
                typer.echo(f"{change.severity.name:9} {change.code:32} {change.message}")
            typer.echo(", ".join(f"{count} {severity.value}" for severity, count in counts.items()))
        if counts[Severity.BREAKING]:
            raise typer.Exit(1)


def _api(path: Path) -> GraphQLSchema:
    sdl = _read(path)
    if "join__Graph" in sdl:
        return read_supergraph(sdl).api_schema
    try:
        return build_schema(sdl)
    except GraphQLError as error:
        raise InvalidSupergraph(_located(error, path)) from error
    except TypeError as error:
        told = "; ".join(line for line in str(error).splitlines() if line)
        raise InvalidSupergraph(f"{path}: {told}") from error


def _parsed(path: Path) -> DocumentNode:
    try:
        return parse(_read(path))
    except GraphQLError as error:
        raise ClientError(_located(error, path)) from error


def _located(error: GraphQLError, path: Path) -> str:
    at = error.locations[0] if error.locations else None
    return f"{path}:{at.line}:{at.column}: {error.message}" if at else f"{path}: {error.message}"


def _no_operation(document: DocumentNode, name: str | None) -> str:
    names = [
        node.name.value if node.name else "(unnamed)"
        for node in document.definitions
        if isinstance(node, OperationDefinitionNode)
    ]
    if not names:
        return "The file holds no operation."
    if name is not None:
        return f"The file holds no operation {name!r}; it holds {', '.join(names)}."
    return f"The file holds several operations; choose one by --name: {', '.join(names)}."


def _variables(path: Path) -> dict[str, object]:
    try:
        values: object = json.loads(_read(path))
    except ValueError as error:
        raise ClientError(f"{path}: not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ClientError(f"{path}: variables are a JSON object.")
    return values


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise ClientError(f"--listen must be HOST:PORT, not {listen!r}.")
    return host.strip("[]"), int(port)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ClientError(f"{path}: not text in UTF-8.") from error


def _replace(path: Path, text: str) -> None:
    """Write the file whole: a router that watches it never reads half of it."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)


class _told:  # noqa: N801  reads as a statement
    """Turns what a person can fix into one line on stderr."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and error.filename is not None:
            typer.echo(f"router: {error.filename}: {error.strerror}", err=True)
            sys.exit(2)
        if isinstance(error, RouterError | OSError | ValueError):
            typer.echo(f"router: {error}", err=True)
            sys.exit(2)


if __name__ == "__main__":
    main()
