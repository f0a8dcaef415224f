"""Dialogs of the admin that set daily limits and warm-ups."""

from typing import Any, ClassVar

from django import forms
from django.db.models import Model
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from apps.core.admin_base import DialogForm
from apps.core.warmup import MAX_GROWTH, MAX_RECIPIENTS, Ramp

_RAMP = ("ramp_start", "ramp_growth", "ramp_ceiling")


def _number(label: str, help_text: str, *, least: int = 0, most: int = MAX_RECIPIENTS) -> forms.IntegerField:
    widget = UnfoldAdminIntegerFieldWidget()
    return forms.IntegerField(
        label=label, help_text=help_text, required=False, min_value=least, max_value=most, widget=widget
    )


class RampForm(DialogForm):
    """Asks for a warm-up; all empty ends it. Shows what is set."""

    model: ClassVar[type[Model]]

    ramp_start = _number("First day", "Recipients on the first day of the warm-up; empty: no warm-up.", least=1)
    ramp_growth = _number("Growth", "Percent more each day than the day before.", most=MAX_GROWTH)
    ramp_ceiling = _number("Ceiling", "Recipients a day beyond which it does not grow.", least=1)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        known = self.model._default_manager.filter(pk=kwargs["object_id"]).first()
        for name, field in self.fields.items():
            field.initial = getattr(known, name, field.initial)

    def clean(self) -> dict[str, Any] | None:
        """All three or none."""
        cleaned = super().clean()
        given = [self.cleaned_data.get(name) is not None for name in _RAMP]
        if any(given) and not all(given) and not self.errors:
            raise forms.ValidationError("A warm-up needs a first day, a growth and a ceiling, or none of them.")
        return cleaned

    @property
    def ramp(self) -> Ramp | None:
        """What was asked for."""
        start, growth, ceiling = (self.cleaned_data[name] for name in _RAMP)
        return None if start is None else Ramp(start, growth, ceiling)


class LimitsForm(RampForm):
    """Asks for a daily limit too."""

    daily_send_limit = _number("Recipients a day", "Of all its mailboxes together; empty: no limit.")
    field_order = ("daily_send_limit", *_RAMP)


def describe_ramp(ramp: Ramp | None) -> str:
    """In words for a page."""
    if ramp is None:
        return "None"
    return f"{ramp.start} on the first day, {ramp.growth} % more each day, at most {ramp.ceiling}"
