"""The `router` command."""

from pathlib import Path

from typer.testing import CliRunner

from router.cli import main
from tests.federation.shop import SHOP

run = CliRunner().invoke


def _write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_plan_prints_the_plan(tmp_path: Path) -> None:
    supergraph = _write(tmp_path / "s.graphql", SHOP)
    operation = _write(tmp_path / "o.graphql", "query($x: Boolean!) { me { name reviews @include(if: $x) { body } } }")
    variables = _write(tmp_path / "v.json", '{"x": true}')

    shown = run(main, ["plan", "--supergraph", supergraph, "--operation", operation, "--variables", variables])

    assert shown.exit_code == 0
    assert shown.stdout.startswith("QueryPlan {\n  Sequence {")


def test_plan_says_what_is_wrong_with_an_operation(tmp_path: Path) -> None:
    supergraph = _write(tmp_path / "s.graphql", SHOP)
    shown = run(main, ["plan", "--supergraph", supergraph, "--operation", _write(tmp_path / "o.graphql", "{ nope }")])
    assert shown.exit_code == 2
    assert "Cannot query field" in shown.stderr


def test_compose_prints_a_supergraph_that_plan_reads(tmp_path: Path) -> None:
    link = 'extend schema @link(url: "https://specs.apollo.dev/federation/v2.3", import: ["@key"])'
    _write(
        tmp_path / "a.graphql",
        f'{link} type Query {{ user: User }} type User @key(fields: "id") {{ id: ID! name: String }}',
    )
    _write(tmp_path / "b.graphql", f'{link} type User @key(fields: "id") {{ id: ID! age: Int }}')
    entries = "".join(f"  {n}: {{routing_url: 'http://{n}', schema: {{file: {n}.graphql}}}}\n" for n in ("a", "b"))
    composed = run(main, ["compose", _write(tmp_path / "supergraph.yaml", f"subgraphs:\n{entries}")])
    assert composed.exit_code == 0, composed.stderr

    supergraph = _write(tmp_path / "s.graphql", composed.stdout)
    operation = _write(tmp_path / "o.graphql", "{ user { name age } }")
    shown = run(main, ["plan", "--supergraph", supergraph, "--operation", operation])

    assert 'Flatten(path: "user")' in shown.stdout


def test_check_fails_on_breaking_changes_only(tmp_path: Path) -> None:
    base = _write(tmp_path / "base.graphql", SHOP)
    safe = _write(tmp_path / "safe.graphql", SHOP.replace("language: String", "dialect: String language: String"))
    breaking = _write(tmp_path / "breaking.graphql", SHOP.replace("minutes: Int", ""))

    allowed = run(main, ["check", "--base", base, "--head", safe])
    refused = run(main, ["check", "--base", base, "--head", breaking])

    assert allowed.exit_code == 0
    assert "SAFE" in allowed.stdout
    assert refused.exit_code == 1
    assert "Movie.minutes" in refused.stdout


def test_serve_refuses_settings_that_name_no_such_key(tmp_path: Path) -> None:
    supergraph = _write(tmp_path / "s.graphql", SHOP)
    config = _write(tmp_path / "c.yaml", "limits: {max_depht: 3}")
    shown = run(main, ["serve", "--supergraph", supergraph, "--config", config])
    assert shown.exit_code == 2
    assert "limits.max_depht" in shown.stderr
