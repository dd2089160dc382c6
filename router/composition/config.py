"""Rover's `supergraph.yaml`: which subgraphs there are and where their SDL comes from.

```yaml
subgraphs:
  products:
    routing_url: https://products.example/graphql
    schema:
      file: ./products.graphql
  reviews:
    schema:
      subgraph_url: http://127.0.0.1:4002/graphql
```

Source: https://www.apollographql.com/docs/rover/commands/supergraphs
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yaml

from router.composition.pipeline import Subgraph

_SDL_QUERY = "query SubgraphSdl { _service { sdl } }"


class SupergraphConfigError(Exception):
    """The file cannot be understood, or a subgraph's SDL cannot be had; the message names the subgraph and key."""


@dataclass(frozen=True, slots=True)
class SubgraphSource:
    """One entry of the file. Exactly one of `file`, `subgraph_url` and `sdl` is set."""

    name: str
    routing_url: str | None
    file: Path | None = None
    subgraph_url: str | None = None
    sdl: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with the introspection request."""


def read_config(path: Path) -> tuple[SubgraphSource, ...]:
    """The subgraphs that the file lists; relative schema files are relative to it.

    Raises:
        SupergraphConfigError: the file is missing, is not YAML, or an entry lacks its schema.
    """
    try:
        document: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SupergraphConfigError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise SupergraphConfigError(f"{path}: not YAML: {_one_line(error)}") from error
    except UnicodeDecodeError as error:
        raise SupergraphConfigError(f"{path}: not text in UTF-8") from error
    subgraphs = document.get("subgraphs") if isinstance(document, dict) else None
    if not isinstance(subgraphs, dict) or not subgraphs:
        raise SupergraphConfigError(f"{path}: `subgraphs` must list at least one subgraph")
    return tuple(_source(str(name), entry, path.parent) for name, entry in subgraphs.items())


def _one_line(error: yaml.YAMLError) -> str:
    problem = getattr(error, "problem", None)
    mark = getattr(error, "problem_mark", None)
    if problem is None or mark is None:
        return " ".join(str(error).split())
    return f"{problem} at line {mark.line + 1}, column {mark.column + 1}"


def _source(name: str, entry: object, folder: Path) -> SubgraphSource:
    if not isinstance(entry, dict) or not isinstance(entry.get("schema"), dict):
        raise SupergraphConfigError(f"subgraphs.{name}.schema: missing")
    schema: Mapping[object, object] = entry["schema"]
    routing_url = entry.get("routing_url")
    if routing_url is not None and not isinstance(routing_url, str):
        raise SupergraphConfigError(f"subgraphs.{name}.routing_url: must be a string")
    given = [key for key in ("file", "subgraph_url", "sdl") if key in schema]
    if len(given) != 1:
        raise SupergraphConfigError(f"subgraphs.{name}.schema: needs one of `file`, `subgraph_url` and `sdl`")
    value = schema[given[0]]
    if not isinstance(value, str):
        raise SupergraphConfigError(f"subgraphs.{name}.schema.{given[0]}: must be a string")
    headers = schema.get("introspection_headers", {})
    if not isinstance(headers, dict):
        raise SupergraphConfigError(f"subgraphs.{name}.schema.introspection_headers: must be a mapping")
    return SubgraphSource(
        name=name,
        routing_url=routing_url,
        file=folder / value if given[0] == "file" else None,
        subgraph_url=value if given[0] == "subgraph_url" else None,
        sdl=value if given[0] == "sdl" else None,
        headers=tuple((str(key), str(header)) for key, header in headers.items()),
    )


async def load_subgraphs(path: Path, *, timeout_s: float = 10.0) -> tuple[Subgraph, ...]:
    """The subgraphs of a `supergraph.yaml`, with their SDL read from files or asked of running subgraphs, in its order.

    Raises:
        SupergraphConfigError: as `read_config`, and where a file or a subgraph does not give its SDL.
    """
    sources = read_config(path)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_s)) as session:
        return tuple(await asyncio.gather(*(_load(source, session) for source in sources)))


async def _load(source: SubgraphSource, session: aiohttp.ClientSession) -> Subgraph:
    if source.file is not None:
        try:
            sdl = await asyncio.to_thread(source.file.read_text, encoding="utf-8")
        except OSError as error:
            raise SupergraphConfigError(
                f"subgraphs.{source.name}.schema.file: {source.file}: {error.strerror}"
            ) from error
        except UnicodeDecodeError as error:
            raise SupergraphConfigError(
                f"subgraphs.{source.name}.schema.file: {source.file}: not text in UTF-8"
            ) from error
    elif source.subgraph_url is not None:
        sdl = await fetch_sdl(session, source.subgraph_url, name=source.name, headers=dict(source.headers))
    else:
        sdl = source.sdl or ""
    return Subgraph(source.name, source.routing_url or source.subgraph_url or "", sdl)


async def fetch_sdl(
    session: aiohttp.ClientSession, url: str, *, name: str, headers: Mapping[str, str] | None = None
) -> str:
    """The SDL that a running subgraph answers to `_service { sdl }`.

    Raises:
        SupergraphConfigError: it cannot be reached, or answers something else.
    """
    at = f'subgraph "{name}" at {url}'
    try:
        async with session.post(url, json={"query": _SDL_QUERY}, headers=headers) as response:
            text = await response.text()
            status, media_type = response.status, response.content_type
    except aiohttp.InvalidURL as error:
        raise SupergraphConfigError(f"{at}: this is no URL") from error
    except TimeoutError as error:
        raise SupergraphConfigError(f"{at} did not answer in time") from error
    except (aiohttp.ClientError, ValueError) as error:
        raise SupergraphConfigError(f"{at} cannot be reached: {str(error) or type(error).__name__}") from error
    try:
        body: object = json.loads(text)
    except ValueError as error:
        raise SupergraphConfigError(f"{at} answered HTTP {status} with {media_type}, not with JSON") from error
    answer = body.get("data") if isinstance(body, dict) else None
    service = answer.get("_service") if isinstance(answer, dict) else None
    sdl = service.get("sdl") if isinstance(service, dict) else None
    if not isinstance(sdl, str):
        told = _first_error(body) or f"HTTP {status} without `data._service.sdl`"
        raise SupergraphConfigError(f"{at} gave no SDL: {told}")
    return sdl


def _first_error(body: object) -> str | None:
    errors = body.get("errors") if isinstance(body, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else None
    message = first.get("message") if isinstance(first, dict) else None
    return message if isinstance(message, str) else None
