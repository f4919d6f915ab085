"""Tags and filters of the control plane's templates. Everything they get is escaped."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import django
from django import template
from django.template import Context
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from orchestrator_ui.views import conditions, words

register = template.Library()

register.simple_tag(words.badge, name="badge")
register.simple_tag(words.moment, name="moment")
register.filter("icon_path", words.icon_path)
register.filter("tone", words.tone)
register.filter("state_word", words.word)
register.filter("grouped", words.grouped)
register.filter("level_tone", words.level_tone)
register.filter("condition_lines", conditions.lines)


@register.simple_tag
def took(start: datetime | None, end: datetime | None) -> str:
    """How long it took, or a count that goes on."""
    return words.took(start, end)


@register.filter
def pretty_json(value: Any) -> str:
    """A JSON value over several lines, as text: the template escapes it."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


@register.simple_tag(takes_context=True)
def nonce_attr(context: Context) -> SafeString | str:
    """The nonce attribute of a script, where the site's policy uses nonces."""
    nonce = context.get("csp_nonce")
    return format_html(' nonce="{}"', nonce) if nonce is not None else ""


@register.simple_tag
def change_url(model: str, pk: object) -> str:
    """The address of an object's page in the admin; empty without one."""
    try:
        return reverse(f"admin:orchestrator_{model}_change", args=(pk,))
    except NoReverseMatch:
        return ""


@register.simple_tag
def breadcrumbs_are_a_list() -> bool:
    """Whether this Django's own pages have their breadcrumbs as a list."""
    return django.VERSION >= (6, 1)
