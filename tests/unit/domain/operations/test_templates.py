import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.catalog import TOPICS
from domain.operations.notification import fields
from domain.operations.notification.errors import InvalidTemplate, TemplateVariableMissing
from domain.operations.notification.models import HEALTH_TYPES
from domain.operations.notification.template_data import TEMPLATES, TemplateSeed
from domain.operations.notification.templates import render, render_line, render_url, variables_of

TEXTS = st.text(max_size=60)


@given(value=TEXTS)
def test_a_value_is_put_in_as_it_is_and_never_read_again(value: str) -> None:
    assert render("a {x} b", {"x": value, "y": "secret"}) == f"a {value} b"


@given(text=TEXTS)
def test_text_without_braces_is_left_alone(text: str) -> None:
    escaped = text.replace("{", "{{").replace("}", "}}")
    assert variables_of(escaped, field="body") == frozenset()
    assert render(escaped, {}) == text


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(TemplateVariableMissing, match="needs a value for session_id") as refusal:
        render("see {session_id}", {"session": "1"})
    assert refusal.value.details["variable"] == "session_id"


@pytest.mark.parametrize(
    "attack",
    [
        "{x.__class__}",
        "{x[0]}",
        "{x!r}",
        "{x:>9999999}",
        "{0}",
        "{}",
        "{ x }",
        "{x",
        "x}",
        "{{x}",
        "{X}",
        "{{{x",
        "{é}",
        "{" + "a" * 41 + "}",
    ],
)
def test_nothing_but_a_name_may_stand_between_braces(attack: str) -> None:
    with pytest.raises(InvalidTemplate):
        variables_of(attack, field="body")


@given(value=TEXTS)
def test_a_value_stays_within_its_part_of_a_link(value: str) -> None:
    link = render_url("/orders/{order_id}", {"order_id": value})
    assert link.startswith("/orders/")
    assert re.fullmatch(r"[A-Za-z0-9%._~-]*", link.removeprefix("/orders/"))
    assert fields.action_link(link[: fields.MAX_URL]) == link[: fields.MAX_URL]


@given(value=TEXTS)
def test_a_headline_is_one_line(value: str) -> None:
    line = render_line("New: {x}", {"x": value})
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize("seed", TEMPLATES, ids=lambda seed: seed.key)
def test_every_template_uses_its_variables_in_both_languages(seed: TemplateSeed) -> None:
    in_link = variables_of(seed.action_url, field="action_url")
    for title, body in (seed.ko, seed.en):
        used = variables_of(title, field="title") | variables_of(body, field="body") | in_link
        assert used == set(seed.variables)
        fields.content(title=title, body=body, data={}, action_url="")
        # Titles are read on locked screens.
        if seed.type in HEALTH_TYPES:
            assert not variables_of(title, field="title")


def test_every_topic_that_the_service_listens_to_has_a_template() -> None:
    topics = {topic.name for topic in TOPICS if "notification" in topic.subscribers}
    silent = {"account.proven"}  # what it drops is said by no message
    assert topics - silent == {seed.topic for seed in TEMPLATES if seed.topic}
    published = Path(__file__).parents[3].joinpath("contract", "topics.tsv").read_text().splitlines()
    listed = {
        row.split("\t")[0] for row in published if "notification" in row.partition("\t")[2].split("\t")[-1].split(",")
    }
    assert listed
    assert listed <= topics
    assert max(Counter(seed.key for seed in TEMPLATES).values()) == 1
