from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from . import orders
from .models import Order, Product

SHOWN = 50


@require_safe
def shop(request: HttpRequest) -> HttpResponse:
    """What there is to buy, and the latest orders."""
    latest = Order.objects.select_related("product")[:SHOWN]
    return render(
        request, "shop/shop.html", {"products": Product.objects.all(), "orders": latest}
    )


@require_POST
def place(request: HttpRequest) -> HttpResponse:
    """Order one of a product."""
    orders.stock_shelves()
    product = get_object_or_404(Product, sku=request.POST.get("sku", ""))
    orders.place(product.sku, card=request.POST.get("card", "good")[:20])
    return redirect("shop:shop")


@require_POST
def tell(request: HttpRequest, pk: int) -> HttpResponse:
    """What happened to an order: it was approved, or its parcel has arrived."""
    order = get_object_or_404(Order, pk=pk)
    if request.POST.get("what") == "approved":
        orders.approve(order.pk)
    else:
        orders.delivered(order.pk, "the neighbour")
    return redirect("shop:shop")
