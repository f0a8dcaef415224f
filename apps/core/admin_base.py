"""What every admin page stands on: django-unfold's classes with types, forms that show a service's error, and
buttons that ask before they act.

A page calls services and never saves a model by itself where a service exists. A button on a page is a `page_action`:
it opens a dialog (a GET changes nothing), and acts on POST only.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, cast

from django import forms
from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import flatten_fieldsets
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.html import format_html
from unfold.decorators import display as unfold_display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminTextInputWidget

from apps.core.errors import DomainError

if TYPE_CHECKING:
    from django.contrib import admin
    from django.contrib.admin import helpers
    from django.contrib.admin.views.main import ChangeList as ChangeList

    class ModelAdmin(admin.ModelAdmin[Any]):
        """unfold's ModelAdmin, as the type checker sees it."""

        actions_detail: ClassVar[list[Any]]

        def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]: ...
        def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> HttpResponse: ...

    class TabularInline(admin.TabularInline[Any, Any]):
        """unfold's TabularInline, as the type checker sees it."""

    class DialogForm(forms.Form):
        """unfold's BaseDialogForm, as the type checker sees it."""

        def __init__(self, *args: Any, request: HttpRequest, object_id: str, **kwargs: Any) -> None: ...

    class ActionForm(helpers.ActionForm):
        """unfold's ActionForm, as the type checker sees it."""

    BaseModelForm = forms.ModelForm[Any]
else:
    from unfold.admin import ModelAdmin, TabularInline
    from unfold.forms import ActionForm
    from unfold.forms import BaseDialogForm as DialogForm
    from unfold.views import ChangeList

    BaseModelForm = forms.ModelForm

__all__ = [
    "ActionForm",
    "ChangeList",
    "DialogForm",
    "ModelAdmin",
    "ReasonForm",
    "ServiceAdmin",
    "ServiceForm",
    "TabularInline",
]

F = TypeVar("F", bound=Callable[..., Any])
DASH = "-"
"""What stands where there is nothing to show."""


def column(*, description: str, ordering: str | None = None) -> Callable[[F], F]:
    """Describe a method that a list or a page shows."""
    return cast("Callable[[F], F]", unfold_display(description=description, ordering=ordering))


def status_label(status: str) -> str:
    """A status as a coloured word; apps/console/static/console/admin.css has the colours."""
    return format_html('<span class="mh-label mh-{}">{}</span>', status, status)


def error_text(error: DomainError) -> str:
    """What is wrong and what to do, for a person."""
    return f"{error.message} {error.fix_text}".strip()


def adopt(obj: Model, made: Model) -> None:
    """Let the admin's unsaved object become what a service has made, so that Django goes on with it."""
    obj.__dict__.update(made.__dict__)


class ServiceForm(BaseModelForm):
    """A form whose saving is a service call: the service's refusal is shown on the form, with all that was typed."""

    service_error: ClassVar[DomainError | None] = None

    def clean(self) -> dict[str, Any] | None:
        """Show the refusal of the first pass (ServiceAdmin.changeform_view), at its field if it names one."""
        cleaned = super().clean()
        if self.service_error is not None:
            self._show_error(self.service_error)
        return cleaned

    def _show_error(self, error: DomainError) -> None:
        details = error.data.get("details") or []
        fields = [detail["field"] for detail in details if detail["field"] in self.fields]
        self.add_error(fields[0] if fields else None, error.message if fields else error_text(error))


class QuietChangeList(ChangeList):
    """A list that counts once, and does not offer to show all of what it shows already."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.full_result_count = self.result_count


class ServiceAdmin(ModelAdmin):
    """A page whose saving calls services, which may raise DomainError, and which has `page_action` buttons."""

    form = ServiceForm
    show_full_result_count = False
    list_per_page = 50
    read_only_page: ClassVar[bool] = False
    """Whether an existing object is only shown: what can be done with it, its buttons do."""

    optional_fields: ClassVar[Mapping[str, str]] = {}
    """Lines that a page leaves out while the object has nothing for them: the field, and the attribute to look at."""
    help_texts: ClassVar[Mapping[str, str]] = {}
    labels: ClassVar[Mapping[str, str]] = {}
    """Help and labels that differ from the model's, which speaks to those who read its code."""

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        """Counted once."""
        return QuietChangeList

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Without the optional lines that this object has nothing for."""
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None:
            return fieldsets
        absent = {name for name, attribute in self.optional_fields.items() if not getattr(obj, attribute)}
        return [
            (title, {**options, "fields": [name for name in options["fields"] if name not in absent]})
            for title, options in fieldsets
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """All fields of a read-only page."""
        if obj is not None and self.read_only_page:
            return flatten_fieldsets(self.get_fieldsets(request, obj))
        return super().get_readonly_fields(request, obj)

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        """No button to save what cannot be edited."""
        if self.read_only_page:
            context.update({"show_save_and_continue": False, "show_save_and_add_another": False, "show_save": add})
        return super().render_change_form(request, context, add, change, form_url, obj)

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """As Django does it; a refusal rolls everything back and comes back as an error on the form."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except DomainError as error:
            if request.method != "POST" or hasattr(request, "service_error"):
                raise
            request.service_error = error  # type: ignore[attr-defined]
            return super().changeform_view(request, object_id, form_url, extra_context)

    def get_form(self, request: HttpRequest, obj: Model | None = None, change: bool = False, **kwargs: Any) -> Any:
        """The form class of this request, which knows what the service said."""
        kwargs = {"help_texts": self.help_texts, "labels": self.labels, **kwargs}
        form = super().get_form(request, obj, change, **kwargs)
        form.service_error = getattr(request, "service_error", None)  # type: ignore[attr-defined]
        return form

    def get_actions_detail(self, request: HttpRequest, object_id: str) -> list[Any]:
        """The buttons that mean something for this object, for someone who may press them."""
        obj = self.get_object(request, object_id)
        if obj is None or not self.has_change_permission(request, obj):
            return []
        return [
            action
            for action in super().get_actions_detail(request, object_id)
            if action.method.applies_to is None or action.method.applies_to(obj)
        ]

    def log_changes(self, request: HttpRequest, objects: Sequence[Model], done: str) -> None:
        """Write into each object's history who did what, by one statement."""
        if objects:
            LogEntry.objects.log_actions(
                user_id=request.user.pk or 0, queryset=objects, action_flag=CHANGE, change_message=done
            )

    def changeable_object(self, request: HttpRequest, object_id: str) -> Any | None:
        """The object of a button, for someone who may change it; else None."""
        obj = self.get_object(request, object_id)
        return obj if obj is not None and self.has_change_permission(request, obj) else None


class ReasonForm(DialogForm):
    """A dialog that asks why."""

    reason = forms.CharField(
        label="Reason",
        max_length=500,
        widget=UnfoldAdminTextInputWidget(attrs={"autofocus": True}),
        help_text="Kept with the object and shown to its organization.",
    )


class PageAction(Protocol):
    """What a button does: it calls a service, and says in one sentence what was done."""

    def __call__(self, admin: Any, request: HttpRequest, obj: Any, form: DialogForm, /) -> str: ...


def page_action(
    *,
    description: str,
    explanation: str,
    submit: str,
    icon: str,
    form_class: type[DialogForm] = DialogForm,
    applies_to: Callable[[Any], bool] | None = None,
) -> Callable[[PageAction], Callable[..., HttpResponse]]:
    """A button on an object's page that opens a dialog and, when confirmed, does its work.

    `applies_to` hides it where it means nothing. The object's history names who pressed it and what was done.
    """
    dialog = {"title": description, "description": explanation, "form_submit_text": submit, "form_class": form_class}

    def decorate(perform: PageAction) -> Callable[..., HttpResponse]:
        def view(self: ServiceAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
            obj = self.changeable_object(request, object_id)
            if obj is None:
                return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
            form = form_class(data=request.POST or None, request=request, object_id=object_id)
            if request.method != "POST" or not form.is_valid():
                context = {"dialog": dialog, "form": form, "form_submit_text": submit}
                return render(request, "unfold/helpers/dialog.html", context)
            _perform(self, request, obj, form, perform)
            return _go_to(request, reverse(f"admin:{_url_name(self)}_change", args=[object_id]))

        view.__name__ = getattr(perform, "__name__", "view")
        view.__doc__ = perform.__doc__
        attributes = {"short_description": description, "icon": icon, "dialog": dialog, "attrs": {}}
        for name, value in {**attributes, "variant": ActionVariant.DEFAULT, "applies_to": applies_to}.items():
            setattr(view, name, value)
        return view

    return decorate


def _perform(admin: ServiceAdmin, request: HttpRequest, obj: Any, form: DialogForm, perform: PageAction) -> None:
    try:
        done = perform(admin, request, obj, form)
    except DomainError as error:
        messages.error(request, error_text(error))
        return
    admin.log_change(request, obj, done)
    messages.success(request, done)


def _url_name(admin: ModelAdmin) -> str:
    return f"{admin.opts.app_label}_{admin.opts.model_name}"


def _go_to(request: HttpRequest, url: str) -> HttpResponse:
    """A dialog is sent by htmx, which would put a redirect's page into the dialog: it is told to go there."""
    if request.headers.get("HX-Request"):
        return HttpResponse(headers={"HX-Redirect": url})
    return HttpResponseRedirect(url)
