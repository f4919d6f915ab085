"""Confirmations: what an operator is asked, signed, and carried out once.

What is signed says which runs, for which user, and carries a key that the audit entry
will have: a form that is sent twice is carried out once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.core import signing
from django.db import router, transaction
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext

from orchestrator import registry
from orchestrator.engine import notify, sessions
from orchestrator.exceptions import InvalidInput, OrchestratorError
from orchestrator.models import BulkOperation, Run
from orchestrator.operations import Changed, RunFilter
from orchestrator.operations.audit import new_id
from orchestrator.serialization import Misfit, invalid
from orchestrator_ui.views.verbs import Verb
from orchestrator_ui.views.whole import Whole

MAX_REASON = 500
TYPED_FROM = 10_000  # runs from which on their number has to be typed
_SALT = "orchestrator_ui.confirmation"
_MAX_AGE = 3600  # seconds


class Refused(OrchestratorError):
    """The form does not say what is to be done."""


@dataclass(frozen=True)
class Confirmation:
    """What was asked: the runs that were chosen, or the whole list they are in."""

    verb: str
    user: str
    key: str
    back: str
    runs: tuple[UUID, ...]
    whole: Whole | None = None

    @classmethod
    def ask(
        cls,
        request: HttpRequest,
        verb: str,
        runs: Sequence[UUID],
        whole: Whole | None,
        back: str,
    ) -> Confirmation:
        """A new one, for the user of a request."""
        key = str(new_id())
        return cls(verb, str(request.user.pk), key, back, tuple(runs), whole)

    def dumps(self) -> str:
        """Signed, for a form."""
        whole = self.whole and [self.whole.filter.dump(), self.whole.count]
        keys = [key.hex for key in self.runs]
        data = [self.verb, self.user, self.key, self.back, keys, whole]
        return signing.dumps(data, salt=_SALT, compress=True)

    @classmethod
    def loads(cls, text: str, request: HttpRequest, verb: str) -> Confirmation:
        """The one that a form sends back; raises Refused where it is not this user's,
        of this verb, and young."""
        try:
            data = signing.loads(text, salt=_SALT, max_age=_MAX_AGE)
        except signing.BadSignature:
            data = [None] * 6
        name, user, key, back, keys, whole = data
        if (name, user) != (verb, str(request.user.pk)):
            raise Refused(
                gettext("This confirmation is not valid any more; ask again.")
            )
        return cls(
            name,
            user,
            key,
            back,
            tuple(UUID(each) for each in keys),
            whole and Whole(RunFilter.load(whole[0]), whole[1]),
        )

    def filter(self, form: Any) -> RunFilter:
        """The runs that the form means; raises Refused where it is not sure."""
        if form.get("scope") != "whole":
            return RunFilter(ids=self.runs)
        if self.whole is None:
            raise Refused(gettext("The whole list was not offered; ask again."))
        typed = "".join(filter(str.isdigit, form.get("typed", "")))
        if self.whole.count > TYPED_FROM and typed != str(self.whole.count):
            raise Refused(
                gettext("Nothing was done: the number of runs was not typed.")
            )
        return self.whole.filter


def carry_out(
    request: HttpRequest, verb: Verb, confirmation: Confirmation
) -> Changed | BulkOperation:
    """Do what was confirmed, as the user of the request.

    Raises AlreadyDone; Refused and other OrchestratorErrors, which say why not.
    """
    which = confirmation.filter(request.POST)
    reason = request.POST.get("reason", "").replace("\x00", "").strip()
    options = _options(request, verb, confirmation)
    alias = router.db_for_write(Run)
    with transaction.atomic(using=alias):
        done: Changed | BulkOperation = verb.perform(
            which,
            reason=reason[:MAX_REASON],
            actor=request.user,
            key=UUID(confirmation.key),
            **options,
        )
        if isinstance(done, Changed):
            # Others who look at these runs, once it is committed.
            transaction.on_commit(
                lambda: notify.feed(sessions.django_session(), done.old), using=alias
            )
    return done


def _options(
    request: HttpRequest, verb: Verb, confirmation: Confirmation
) -> dict[str, Any]:
    form = request.POST
    if verb.name == "cancel":
        return {"children": "children" in form}
    if verb.name == "retry":
        tasks: Any = form.get("tasks", "failed")
        if tasks == "named":
            tasks = form.getlist("task")
            if not tasks:
                raise Refused(gettext("Nothing was done: choose a task to retry."))
        elif tasks not in ("failed", "all"):
            raise Refused(gettext("This is not a choice of tasks; ask again."))
        return {"tasks": tasks, "keep_journal": "forget" not in form}
    if verb.name == "rerun" and "edited" in form:
        return {"input": edited(confirmation.runs, form.get("input", ""))}
    return {}


def edited(runs: Sequence[UUID], text: str) -> Any:
    """The input that was written in a form, for the only run that it is for.

    Raises Refused; InvalidInput where it does not fit.
    """
    run = Run.objects.filter(pk__in=runs).select_related("workflow").first()
    if run is None or len(runs) != 1:
        raise Refused(gettext("Another input can be given to one run alone."))
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidInput(
            gettext("The input is no JSON: %(error)s.") % {"error": error}
        ) from None
    codec = registry.workflow(run.workflow.name).input_codec
    if codec is None:
        return value
    try:
        return codec.decode(value)
    except Misfit as misfit:
        raise invalid(misfit, what=gettext("The input")) from None


def tell(
    request: HttpRequest, verb: Verb, done: Changed | BulkOperation, asked: int
) -> None:
    """Say what happened, as messages on the next page."""
    if not isinstance(done, Changed):
        messages.success(
            request,
            format_html(
                '{} <a href="{}">{}</a>',
                gettext("Schedulers work it off in the background, %(count)d runs.")
                % {"count": done.total or 0},
                reverse("admin:orchestrator_bulkoperation_change", args=(done.pk,)),
                gettext("Watch it"),
            ),
        )
        return
    if done:
        text: str = verb.done(len(done))
        if verb.name == "rerun" and len(done) == 1:
            text = format_html(
                '{} <a href="{}">{}</a>',
                text,
                reverse("admin:orchestrator_run_change", args=(done[0],)),
                done[0],
            )
        messages.success(request, text)
    for problem in done.problems[:5]:
        messages.error(request, problem.message)
    rest = asked - len(done) - len(done.problems)
    if rest > 0:
        messages.warning(request, verb.unaffected(rest))
