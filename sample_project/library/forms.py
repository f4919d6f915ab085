from __future__ import annotations

from django import forms

from .models import Document


class SearchForm(forms.Form):
    """The query of the search page. A text field of Django refuses NUL by itself."""

    q = forms.CharField(
        label="Search the documents",
        max_length=200,
        required=False,
        widget=forms.TextInput(
            attrs={"type": "search", "placeholder": '"connection pool" -threads'}
        ),
    )
    kind = forms.ChoiceField(
        label="Kind",
        choices=[("", "every kind"), *Document.Kind.choices],
        required=False,
    )
