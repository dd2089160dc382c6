"""A watched supergraph: whatever the file holds, the router goes on, tells it, and takes the next good one."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import InvalidSupergraph, RouterError
from router.serving.app import create_app
from router.serving.engine import Engine
from router.serving.service import RouterService
from router.serving.settings import RouterSettings
from router.serving.watching import watcher
from router.supergraph.read import read_supergraph
from tests.federation.shop import SHOP
from tests.support.patience import PATIENCE_S

_UNKNOWN_GRAPH = SHOP.replace("type User", "type Strange @join__type(graph: NOPE) { id: ID }\ntype User", 1)
_LINES = SHOP.splitlines()


def _refused(service: RouterService) -> float:
    return service.registry.get_sample_value("router_reloads_total", {"result": "refused"}) or 0.0


@contextlib.asynccontextmanager
async def watching(path: Path) -> AsyncIterator[RouterService]:
    _put(path, SHOP.encode())
    app = create_app(SHOP, RouterSettings(), watch=watcher(path, 0.01))
    async with app.router.lifespan_context(app):
        yield app.state.router


def _put(path: Path, content: bytes) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(content)
    part.replace(path)


async def _until_refused(service: RouterService, more_than: float) -> None:
    while _refused(service) <= more_than:  # noqa: ASYNC110  the metric is what is tried
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "content",
    [
        _UNKNOWN_GRAPH.encode(),
        b"type {",
        b"",
        b"\xff\xfe not text",
        SHOP.replace(": String", ": Strnig").encode(),
        b"type Query { a: Int }",
    ],
)
async def test_a_file_that_cannot_be_served_is_told_and_the_next_good_one_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    caplog.set_level(logging.ERROR, "router")
    path = tmp_path / "supergraph.graphql"
    async with asyncio.timeout(PATIENCE_S), watching(path) as service:
        before = service.engine
        _put(path, content)
        await _until_refused(service, 0)
        assert service.engine is before
        while "kept the old supergraph" not in caplog.text:  # noqa: ASYNC110  the log is what is tried
            await asyncio.sleep(0.01)
        _put(path, SHOP.replace("name: String", "title: String").encode())
        while service.engine is before:  # noqa: ASYNC110  taken over by the watcher alone
            await asyncio.sleep(0.01)


async def test_the_watcher_survives_what_no_one_has_thought_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "supergraph.graphql"
    async with asyncio.timeout(PATIENCE_S), watching(path) as service:
        before = service.engine
        with monkeypatch.context() as patched:
            patched.setattr("router.serving.service.Engine", lambda *_: 1 / 0)
            _put(path, SHOP.encode() + b"\n")
            await _until_refused(service, 0)
        _put(path, SHOP.encode() + b"\n\n")
        while service.engine is before:  # noqa: ASYNC110  taken over by the watcher alone
            await asyncio.sleep(0.01)
    assert "cannot be served" in caplog.text


def test_the_line_of_an_unknown_graph_is_named() -> None:
    line = _UNKNOWN_GRAPH.splitlines().index("type Strange @join__type(graph: NOPE) { id: ID }") + 1
    with pytest.raises(InvalidSupergraph, match=rf"line {line}: no join__Graph is called NOPE"):
        read_supergraph(_UNKNOWN_GRAPH)


def test_the_line_of_what_is_no_sdl_is_named() -> None:
    with pytest.raises(InvalidSupergraph, match="line 3: "):
        read_supergraph("type A { a: Int }\n\ntype {")


_WORDS = sorted({word for line in _LINES for word in line.replace("(", " ").replace(")", " ").split()})


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """The shop's supergraph with a line, a word or a character that is missing, doubled or another's."""
    lines = list(_LINES)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(("drop", "double", "word", "character", "cut"))):
            case "drop":
                del lines[at]
            case "double":
                lines.insert(at, lines[at])
            case "word":
                words = lines[at].split(" ")
                words[draw(st.integers(0, len(words) - 1))] = draw(st.sampled_from(_WORDS))
                lines[at] = " ".join(words)
            case "character":
                position = draw(st.integers(0, len(lines[at])))
                lines[at] = (
                    lines[at][:position] + draw(st.sampled_from('{}()[]:!@"#$=|&X0')) + lines[at][position + 1 :]
                )
            case "cut":
                lines[at] = lines[at][: draw(st.integers(0, len(lines[at])))]
    return "\n".join(lines)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(mutated())
def test_a_changed_supergraph_is_served_or_refused_and_raises_nothing_else(sdl: str) -> None:
    with contextlib.suppress(RouterError):
        Engine(sdl, RouterSettings()).close()
