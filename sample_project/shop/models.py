"""Products and orders. An order's status is what each step may change, and from what:
a step that is executed twice finds that it has been done."""

from __future__ import annotations

import uuid

from django.db import models


class Product(models.Model):
    """Something to sell; `price` in cents, `stock` what is not reserved."""

    sku = models.CharField(max_length=50, unique=True)
    name = models.CharField(max_length=200)
    price = models.PositiveIntegerField()
    stock = models.PositiveIntegerField()

    class Meta:
        ordering = ["sku"]

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    """What somebody ordered. `run_id` is the run that fulfils it."""

    class Status(models.TextChoices):
        NEW = "NEW"
        RESERVED = "RESERVED"
        PAID = "PAID"
        SHIPPED = "SHIPPED"
        DELIVERED = "DELIVERED"
        FAILED = "FAILED"  # stock and money are back where they were

    # What others know it by, whatever database it is in.
    reference = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    product = models.ForeignKey(Product, models.PROTECT, related_name="orders")
    quantity = models.PositiveIntegerField(default=1)
    card = models.CharField(max_length=20, default="good")
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.NEW)
    payment = models.CharField(max_length=50, blank=True)
    problem = models.TextField(blank=True)
    run_id = models.UUIDField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"order {self.pk}"

    @property
    def total(self) -> int:
        """What it costs, in cents."""
        return self.quantity * self.product.price
