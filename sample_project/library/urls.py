from __future__ import annotations

from django.urls import path

from . import views

app_name = "library"

urlpatterns = [
    path("", views.search_page, name="search"),
    path("documents/<int:pk>/", views.document, name="document"),
    path("broken/", views.broken_files, name="broken_files"),
]
