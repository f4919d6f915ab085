"""Tokens: the topics of a page, signed, for the user that it was rendered for.

The server reads what it wrote itself; nothing that a client sends is a filter.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.core import signing

from orchestrator_ui.feed import topics
from orchestrator_ui.feed.topics import Locale, Topic

_SALT = "orchestrator_ui.feed"
MAX_AGE = 24 * 3600  # seconds: a page that is older has to be loaded again


def dumps(user_id: Any, wanted: Collection[Topic]) -> str:
    """The token of a page with these topics, all of the current locale."""
    data = [str(user_id), *Locale.current(), [topic.dump() for topic in wanted]]
    return signing.dumps(data, salt=_SALT, compress=True)


def loads(token: str, user_id: Any) -> list[Topic]:
    """The topics of a token.

    Raises ValueError where it is forged, too old, or another user's.
    """
    try:
        data = signing.loads(token, salt=_SALT, max_age=MAX_AGE)
    except signing.BadSignature as error:
        raise ValueError("The token is not valid any more.") from error
    owner, language, zone, dumped = data
    if owner != str(user_id):
        raise ValueError("The token belongs to another user.")
    locale = Locale(language, zone)
    return [topics.load(locale, each) for each in dumped]
