from __future__ import annotations

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from .forms import SearchForm
from .models import Distribution, Document, SourceFile
from .searching import search, snippet

PAGE = 20


@require_safe
def search_page(request: HttpRequest) -> HttpResponse:
    """A page of what matches `q`, or the form alone without one."""
    form = SearchForm(request.GET)
    context: dict[str, object] = {"form": form, "counts": _counts()}
    if form.is_valid() and form.cleaned_data["q"]:
        found = search(form.cleaned_data["q"], kind=form.cleaned_data["kind"])
        page = Paginator(found, PAGE).get_page(request.GET.get("page"))
        context |= {
            "page": page,
            "hits": [(hit, snippet(hit.headline)) for hit in page],
        }
    return render(request, "library/search.html", context)


@require_safe
def document(request: HttpRequest, pk: int) -> HttpResponse:
    """One document, whole."""
    found = get_object_or_404(
        Document.objects.select_related("distribution", "file").defer("vector"), pk=pk
    )
    return render(request, "library/document.html", {"document": found})


@require_safe
def broken_files(request: HttpRequest) -> HttpResponse:
    """The files that could not be indexed, and why."""
    files = (
        SourceFile.objects.exclude(problem="")
        .select_related("distribution")
        .order_by("distribution__name", "path")
    )
    page = Paginator(files, 10 * PAGE).get_page(request.GET.get("page"))
    return render(request, "library/broken_files.html", {"page": page})


def _counts() -> dict[str, int]:
    return {
        "documents": Document.objects.filter(vector__isnull=False).count(),
        "unindexed": Document.objects.filter(vector=None).count(),
        "files": SourceFile.objects.count(),
        "broken": SourceFile.objects.exclude(problem="").count(),
        "distributions": Distribution.objects.count(),
    }
