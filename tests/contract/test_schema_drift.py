"""The published contracts in `schema/` are those of the code, and nothing else lies there."""

from pathlib import Path

from infra.codegen.schema import SCHEMA, generate
from router.serving.app import create_app
from router.serving.settings import RouterSettings


def _texts(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_the_published_schemas_are_what_the_code_says(tmp_path: Path) -> None:
    generate(tmp_path)
    generated, published = _texts(tmp_path), _texts(SCHEMA)
    assert sorted(generated) == sorted(published), "run: make schema"
    for name, text in generated.items():
        assert published[name] == text, f"{name} has drifted; run: make schema"


def test_generating_twice_gives_the_same(tmp_path: Path) -> None:
    generate(tmp_path / "once")
    generate(tmp_path / "again")
    assert _texts(tmp_path / "once") == _texts(tmp_path / "again")


def test_what_is_no_longer_published_is_removed(tmp_path: Path) -> None:
    generate(tmp_path)
    stale = tmp_path / "events" / "gone.json"
    stale.write_text("{}")
    generate(tmp_path)
    assert not stale.exists()


def test_the_router_takes_the_published_supergraph() -> None:
    app = create_app((SCHEMA / "supergraph.graphql").read_text(), RouterSettings())
    assert app.state.router.engine is not None
