"""The rules of templates: what a text may contain, in which language a person is written to, and who may change it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from domain.clock import Clock
from domain.operations.notification import fields
from domain.operations.notification.errors import InvalidNotification, InvalidTemplate, TemplateNotFound
from domain.operations.notification.models import (
    Channel,
    Content,
    NotificationType,
    Priority,
    Template,
    TemplateText,
)
from domain.operations.notification.repository import TemplateRepository
from domain.operations.notification.templates import render, render_line, render_url, variables_of
from domain.operations.notification.voice import Voice
from domain.principal import Principal, Scope

LOCALES = ("ko", "en")
_KEY = re.compile(r"[a-z][a-z0-9_]{1,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Words:
    """A template in one language."""

    locale: str
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class TemplateDraft:
    """A template as an administrator writes it.

    Args:
        words: at least Korean and English for a new template; for one that is there, those that change.
    """

    key: str
    type: NotificationType
    priority: Priority
    channel: Channel | None
    action_url: str
    words: Sequence[Words]


@dataclass(frozen=True, slots=True)
class WholeTemplate:
    """A template with its words, of which there are some."""

    template: Template
    words: Sequence[Words]

    def compose(self, voice: Voice, values: Mapping[str, str]) -> Content:
        """The message that the template makes of values, in the language of the voice.

        Raises:
            TemplateVariableMissing: a variable has no value; names it.
            InvalidNotification: a value breaks the rule of the field that it stands in.
        """
        by_locale = {words.locale: words for words in self.words}
        words = by_locale.get(voice.language) or self.words[0]
        return fields.content(
            title=fields.shortened(render_line(words.title, values), at_most=fields.MAX_TITLE),
            body=fields.shortened(render(words.body, values), at_most=fields.MAX_BODY),
            data=values,
            action_url=render_url(self.template.action_url, values),
        )


class TemplateService:
    """Commands and queries about templates."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def get(self, session: AsyncSession, key: str) -> WholeTemplate:
        """Raises: TemplateNotFound: no template has this key."""
        found = await TemplateRepository(session).whole(key)
        if found is None:
            raise TemplateNotFound(key)
        return _whole(*found)

    async def all(self, session: AsyncSession, principal: Principal) -> list[WholeTemplate]:
        """Every template with its words. Raises: Forbidden: the token lacks notification:send."""
        principal.require_scope(Scope.NOTIFICATION_SEND)
        repository = TemplateRepository(session)
        templates = await repository.all()
        texts = await repository.texts_of([template.key for template in templates])
        return [_whole(template, texts[template.key]) for template in templates]

    async def save(self, session: AsyncSession, principal: Principal, draft: TemplateDraft) -> WholeTemplate:
        """Make a template, or change one: its new words may use no other variables than its senders know.

        Raises:
            Forbidden: the token lacks notification:send.
            InvalidTemplate, InvalidNotification: a field breaks its rule; nothing is changed then.
        """
        principal.require_scope(Scope.NOTIFICATION_SEND)
        if not _KEY.fullmatch(draft.key):
            raise InvalidTemplate("key", "must have 2 to 64 lower-case letters, digits and _, a letter first")
        repository = TemplateRepository(session)
        stored = await repository.get_for_update(draft.key)
        used = _checked(draft)
        known = frozenset(stored.variables) if stored is not None else used
        if unknown := sorted(used - known):
            raise InvalidTemplate("words", f"use {unknown[0]}, which the senders of {draft.key} do not fill in")
        if stored is None and {words.locale for words in draft.words} != set(LOCALES):
            raise InvalidTemplate("words", "must be there in Korean and in English")
        template = Template(
            key=draft.key,
            type=draft.type,
            priority=draft.priority,
            channel=draft.channel,
            action_url=draft.action_url,
            variables=sorted(known),
            updated_by=principal.subject,
            updated_at=self._clock.now(),
        )
        rows = [TemplateText(key=draft.key, locale=w.locale, title=w.title, body=w.body) for w in draft.words]
        await repository.put(template, rows)
        session.expire_all()
        return _whole(template, (await repository.texts_of([draft.key]))[draft.key])


def _checked(draft: TemplateDraft) -> frozenset[str]:
    """The variables of a draft whose every field holds its rule."""
    seen: set[str] = set()
    used = set(variables_of(draft.action_url, field="action_url"))
    stand_in = dict.fromkeys(used, "x")
    fields.action_link(render_url(draft.action_url, stand_in))
    for words in draft.words:
        if words.locale not in LOCALES or words.locale in seen:
            raise InvalidTemplate("locale", f"must be one of {', '.join(LOCALES)}, each once")
        seen.add(words.locale)
        fields.content(title=words.title, body=words.body, data={}, action_url="")
        if not words.body.strip():
            raise InvalidNotification("body", "must not be empty")
        used |= variables_of(words.title, field="title") | variables_of(words.body, field="body")
    return frozenset(used)


def _whole(template: Template, texts: Mapping[str, TemplateText]) -> WholeTemplate:
    words = [Words(text.locale, text.title, text.body) for _, text in sorted(texts.items(), reverse=True)]
    return WholeTemplate(template, words)
