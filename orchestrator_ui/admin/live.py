"""How a page keeps itself up to date: a socket, or the same fragments every 5 s."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import get_script_prefix, path, reverse
from django.utils.http import urlencode

from orchestrator.conf import settings
from orchestrator_ui.admin.base import BaseModelAdmin, never_cached
from orchestrator_ui.feed import FEED_PATH, tokens, topics
from orchestrator_ui.feed.topics import Topic


class LiveMixin(BaseModelAdmin):
    """A screen whose pages carry a token of what they show."""

    def get_urls(self) -> list[Any]:
        name = f"{self.opts.app_label}_{self.opts.model_name}_live"
        return [
            path("live/", self.admin_site.admin_view(self.live_view), name=name),
            *super().get_urls(),
        ]

    def feed(self, request: HttpRequest, wanted: Collection[Topic]) -> dict[str, Any]:
        """What the page needs to stay up to date.

        A socket is offered where the request itself came through ASGI and LISTEN is
        on; whether it opens the browser finds out.
        """
        query = urlencode({"t": tokens.dumps(request.user.pk, wanted)})
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_live"
        socket = f"{get_script_prefix()}{FEED_PATH}?{query}"
        offered = settings.listen and hasattr(request, "scope")
        return {
            "now": str(int(time.time() * 1000)),  # text, which no locale groups
            "poll_url": f"{reverse(name)}?{query}",
            "socket_url": socket if offered else "",
        }

    def live_view(self, request: HttpRequest) -> HttpResponse:
        """The fragments of a page as they are now."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            wanted = tokens.loads(request.GET.get("t", ""), request.user.pk)
        except ValueError:
            raise Http404 from None
        rendered = topics.render(wanted)
        parts = [html for each in rendered.values() for html in each.values()]
        return never_cached(HttpResponse("".join(parts)))
