"""The `router` command."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from router.cli import main
from router.supergraph.read import read_supergraph
from tests.federation.shop import SHOP

run = CliRunner().invoke


def _write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def _one_subgraph(folder: Path, sdl: str) -> str:
    link = 'extend schema @link(url: "https://specs.apollo.dev/federation/v2.3", import: ["@key", "@tag"])\n'
    _write(folder / "a.graphql", link + sdl)
    return _write(folder / "supergraph.yaml", "subgraphs: {a: {routing_url: 'http://a', schema: {file: a.graphql}}}")


def test_plan_prints_the_plan(tmp_path: Path) -> None:
    supergraph = _write(tmp_path / "s.graphql", SHOP)
    operation = _write(tmp_path / "o.graphql", "query($x: Boolean!) { me { name reviews @include(if: $x) { body } } }")
    variables = _write(tmp_path / "v.json", '{"x": true}')

    shown = run(main, ["plan", "--supergraph", supergraph, "--operation", operation, "--variables", variables])

    assert shown.exit_code == 0
    assert shown.stdout.startswith("QueryPlan {\n  Sequence {")


@pytest.mark.parametrize(("later", "begins"), [("true", "Defer {"), ("false", "Fetch(")])
def test_plan_shows_what_is_deferred(tmp_path: Path, later: str, begins: str) -> None:
    supergraph = _write(tmp_path / "s.graphql", SHOP)
    operation = _write(tmp_path / "o.graphql", "query($x: Boolean!) { me { name ... @defer(if: $x) { role } } }")
    variables = _write(tmp_path / "v.json", f'{{"x": {later}}}')

    shown = run(main, ["plan", "--supergraph", supergraph, "--operation", operation, "--variables", variables])

    assert shown.stdout.startswith(f"QueryPlan {{\n  {begins}")


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


def test_compose_writes_a_file_and_filters_the_api_by_tags(tmp_path: Path) -> None:
    config = _one_subgraph(tmp_path, 'type Query { shown: Int hidden: Int @tag(name: "internal") }')
    output = tmp_path / "supergraph.graphql"

    composed = run(main, ["compose", config, "--output", str(output), "--exclude-tag", "internal"])

    assert composed.exit_code == 0, composed.stderr
    assert composed.stdout == ""
    api = read_supergraph(output.read_text(encoding="utf-8")).api_schema
    assert api.query_type is not None
    assert list(api.query_type.fields) == ["shown"]
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


def test_compose_includes_only_what_carries_a_tag(tmp_path: Path) -> None:
    config = _one_subgraph(tmp_path, 'type Query { shown: Int @tag(name: "public") hidden: Int }')
    composed = run(main, ["compose", config, "--include-tag", "public"])
    api = read_supergraph(composed.stdout).api_schema
    assert api.query_type is not None
    assert list(api.query_type.fields) == ["shown"]


def test_compose_tells_every_error_with_its_line_and_writes_nothing(tmp_path: Path) -> None:
    config = _one_subgraph(tmp_path, 'type Query { t: T }\ntype T @key(fields: "nope") { id: ID! }')
    output = tmp_path / "supergraph.graphql"

    composed = run(main, ["compose", config, "--output", str(output)])

    assert composed.exit_code == 1
    assert composed.stderr.startswith("KEY_INVALID_FIELDS: [a] On type")
    assert "(a:3:8)" in composed.stderr
    assert not output.exists()


def test_check_fails_on_breaking_changes_only(tmp_path: Path) -> None:
    base = _write(tmp_path / "base.graphql", SHOP)
    safe = _write(tmp_path / "safe.graphql", SHOP.replace("language: String", "dialect: String language: String"))
    breaking = _write(tmp_path / "breaking.graphql", SHOP.replace("minutes: Int", ""))

    allowed = run(main, ["check", "--base", base, "--head", safe])
    refused = run(main, ["check", "--base", base, "--head", breaking])

    assert allowed.exit_code == 0
    assert "SAFE" in allowed.stdout
    assert allowed.stdout.endswith("0 breaking, 0 dangerous, 1 safe\n")
    assert refused.exit_code == 1
    assert "Movie.minutes" in refused.stdout


def test_check_tells_changes_to_programs_too(tmp_path: Path) -> None:
    base = _write(tmp_path / "base.graphql", "type Query { a: Int b(x: Int = 2): E! } enum E { A }")
    head = _write(
        tmp_path / "head.graphql", 'type Query { a: Int @deprecated(reason: "b") b(x: Int = 1): E } enum E { A B }'
    )

    shown = run(main, ["check", "--base", base, "--head", head, "--format", "json"])

    told = json.loads(shown.stdout)
    assert shown.exit_code == 1
    assert [(change["severity"], change["code"]) for change in told["changes"]] == [
        ("breaking", "FIELD_CHANGED_KIND"),
        ("dangerous", "ARG_DEFAULT_VALUE_CHANGE"),
        ("dangerous", "VALUE_ADDED_TO_ENUM"),
        ("safe", "DEPRECATION_ADDED"),
    ]
    assert (told["breaking"], told["dangerous"], told["safe"]) == (1, 2, 1)


def test_check_finds_nothing_between_a_schema_and_itself(tmp_path: Path) -> None:
    base = _write(tmp_path / "base.graphql", SHOP)
    shown = run(main, ["check", "--base", base, "--head", base])
    assert shown.exit_code == 0
    assert shown.stdout == "0 breaking, 0 dangerous, 0 safe\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "--supergraph", "none.graphql", "--operation", "good"], "none.graphql: No such file or directory"),
        (["plan", "--supergraph", "shop", "--operation", "cut"], "cut:1:5: Syntax Error: Expected Name, found <EOF>."),
        (["plan", "--supergraph", "shop", "--operation", "two"], "choose one by --name: One, Two"),
        (
            ["plan", "--supergraph", "shop", "--operation", "two", "--name", "Three"],
            "no operation 'Three'; it holds One",
        ),
        (["plan", "--supergraph", "shop", "--operation", "type"], "The file holds no operation."),
        (["plan", "--supergraph", "cut", "--operation", "good"], "The supergraph is not valid SDL"),
        (["plan", "--supergraph", "shop", "--operation", "good", "--variables", "cut"], "not JSON"),
        (["plan", "--supergraph", "shop", "--operation", "good", "--variables", "list"], "variables are a JSON object"),
        (["check", "--base", "shop", "--head", "type"], "Unknown type 'Nope'"),
        (["check", "--base", "shop", "--head", "bytes"], "not text in UTF-8"),
        (["compose", "none.yaml"], "none.yaml: No such file or directory"),
        (["compose", "list"], "`subgraphs` must list at least one subgraph"),
        (["compose", "torn"], "not YAML: "),
        (["compose", "remote"], 'subgraph "a" at http://127.0.0.1:9/ cannot be reached'),
        (["serve", "--supergraph", "none.graphql"], "none.graphql: No such file or directory"),
        (["serve", "--supergraph", "cut"], "The supergraph is not valid SDL"),
        (["serve", "--supergraph", "shop", "--listen", "4000"], "--listen must be HOST:PORT"),
    ],
)
def test_bad_input_is_told_in_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    for name, text in {
        "shop": SHOP,
        "good": "{ me { name } }",
        "cut": "{ a ",
        "two": "query One { me { name } } query Two { me { name } }",
        "type": "type Query { t: Nope }",
        "list": "[1]",
        "torn": "subgraphs: [",
        "remote": "subgraphs: {a: {schema: {subgraph_url: 'http://127.0.0.1:9/'}}}",
    }.items():
        _write(tmp_path / name, text)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    given = [str(tmp_path / word) if not word.startswith("--") and at else word for at, word in enumerate(arguments)]
    if "--name" in arguments or "--listen" in arguments:
        given[-1] = arguments[-1]

    shown = run(main, given)

    assert shown.exit_code == 2
    assert message in shown.stderr
    assert shown.stderr.count("\n") == 1
    assert shown.stderr.startswith("router: ")


@pytest.mark.parametrize("command", ["serve", "compose", "plan", "check"])
def test_each_command_explains_itself(command: str) -> None:
    shown = run(main, [command, "--help"])
    assert shown.exit_code == 0
    assert shown.stdout.startswith(f"Usage: router {command} [OPTIONS]")


def test_serve_refuses_settings_that_name_no_such_key(tmp_path: Path) -> None:
    supergraph = _write(tmp_path / "s.graphql", SHOP)
    config = _write(tmp_path / "c.yaml", "limits: {max_depht: 3}")
    shown = run(main, ["serve", "--supergraph", supergraph, "--config", config])
    assert shown.exit_code == 2
    assert "limits.max_depht" in shown.stderr
