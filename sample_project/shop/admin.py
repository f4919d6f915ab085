"""Products and orders in the admin; the workflow changes the orders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest

from .models import Order, Product

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:  # generic in the stubs alone
    ModelAdmin = admin.ModelAdmin


@admin.register(Product)
class ProductAdmin(ModelAdmin):
    list_display = ("sku", "name", "price", "stock")


@admin.register(Order)
class OrderAdmin(ModelAdmin):
    list_display = ("id", "product", "quantity", "status", "problem", "created_at")
    list_select_related = ("product",)
    list_filter = ("status",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
