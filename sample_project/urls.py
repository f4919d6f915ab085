"""Addresses of the sample project."""

from __future__ import annotations

import importlib.util

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView

urlpatterns: list[URLPattern | URLResolver] = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("library/", include("sample_project.library.urls")),
    path("shop/", include("sample_project.shop.urls")),
]
if importlib.util.find_spec("orchestrator_ui.urls"):
    urlpatterns.insert(1, path("orchestrator/", include("orchestrator_ui.urls")))
