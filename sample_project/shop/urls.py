from __future__ import annotations

from django.urls import path

from . import views

app_name = "shop"

urlpatterns = [
    path("", views.shop, name="shop"),
    path("orders/", views.place, name="place"),
    path("orders/<int:pk>/", views.tell, name="tell"),
]
