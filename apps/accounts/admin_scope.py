"""Who sees and changes what in the admin: one rule for every page.

A superuser runs the installation and sees all of it. Everybody else sees the organizations that he or she is a member
of, and nothing without a membership: viewers only look, owners and administrators also change. Django's own table of
permissions plays no part. What belongs to another organization does not exist for a page: not in a list, not in a
choice, not by its address.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from apps.accounts.models import Membership, Organization
from apps.core.admin_base import ServiceAdmin

if TYPE_CHECKING:
    from django.forms import ModelChoiceField

CHANGING_ROLES = (Membership.Role.OWNER, Membership.Role.ADMIN)
_FILTER_CHOICES = 200


def roles_of(request: HttpRequest) -> dict[UUID, str]:
    """Organization -> role of the person who asks, read once per request."""
    roles: dict[UUID, str] | None = getattr(request, "membership_roles", None)
    if roles is None:
        memberships = Membership.objects.filter(user=request.user.pk)
        roles = dict(memberships.values_list("organization_id", "role"))
        request.membership_roles = roles  # type: ignore[attr-defined]
    return roles


def is_operator(request: HttpRequest) -> bool:
    """Whether the person runs the installation."""
    return bool(request.user.is_active and request.user.is_superuser)


def visible_organization_ids(request: HttpRequest) -> list[UUID] | None:
    """The organizations whose things the person sees; None: of all, and of none."""
    return None if is_operator(request) else list(roles_of(request))


def changeable_organization_ids(request: HttpRequest) -> list[UUID] | None:
    """The organizations whose things the person changes; None: of all, and of none."""
    if is_operator(request):
        return None
    return [organization for organization, role in roles_of(request).items() if role in CHANGING_ROLES]


class ScopedAdmin(ServiceAdmin):
    """A page of things that belong to organizations, seen and changed according to the person's memberships."""

    organization_field: ClassVar[str] = "organization_id"
    """Where a row says whose it is."""
    shared_is_visible: ClassVar[bool] = False
    """Whether members see rows that belong to no organization, which only an operator changes."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """The rows that exist for this person."""
        return self._within(super().get_queryset(request), visible_organization_ids(request), self.shared_is_visible)

    def changeable(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Of a selection, the rows that this person may change."""
        return self._within(queryset, changeable_organization_ids(request), False)

    def _within(self, queryset: QuerySet[Any], ids: list[UUID] | None, with_shared: bool) -> QuerySet[Any]:
        if ids is None:
            return queryset
        wanted = Q(**{f"{self.organization_field}__in": ids})
        if with_shared and ids:
            wanted |= Q(**{f"{self.organization_field}__isnull": True})
        return queryset.filter(wanted)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Whether the page is offered at all."""
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """See it; without an object: see any."""
        return self._allowed(obj, visible_organization_ids(request), self.shared_is_visible)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Change it; without an object: change any."""
        return self._allowed(obj, changeable_organization_ids(request), False)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Add one to some organization."""
        return self.has_change_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nothing is deleted by Django itself: mail hangs on it. Where deletion is offered, a service does it."""
        return False

    def _allowed(self, obj: Any, ids: list[UUID] | None, with_shared: bool) -> bool:
        if ids is None:
            return True
        if obj is None:
            return bool(ids)
        organization_id = getattr(obj, self.organization_field)
        return organization_id in ids or (organization_id is None and with_shared and bool(ids))

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """An organization is chosen from those that the person changes, and only an operator chooses none."""
        field: ModelChoiceField[Any] | None = super().formfield_for_foreignkey(db_field, request, **kwargs)
        if field is not None and db_field.related_model is Organization:
            ids = changeable_organization_ids(request)
            if ids is not None:
                field.queryset = Organization.objects.filter(id__in=ids)
                field.required = True
                if len(ids) == 1:
                    field.initial = ids[0]
        return field


class OrganizationFilter(admin.SimpleListFilter):
    """By organization, for those who see more than one."""

    title = "organization"
    parameter_name = "organization"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        organizations = Organization.objects.order_by("name")
        ids = visible_organization_ids(request)
        if ids is not None:
            organizations = organizations.filter(id__in=ids)
        choices = [(str(pk), name) for pk, name in organizations.values_list("id", "name")[:_FILTER_CHOICES]]
        if self.value() and self.value() not in dict(choices):
            choices.append((self.value() or "", "the chosen one"))
        return choices if len(choices) > 1 or self.value() else ()

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        try:
            return queryset.filter(organization_id=UUID(self.value() or ""))
        except ValueError:
            return queryset.none()


def attach_organization_names(rows: Sequence[Any]) -> None:
    """Give rows that name their organization without a foreign key its name, by one query."""
    ids = {row.organization_id for row in rows}
    names = dict(Organization.objects.filter(id__in=ids).values_list("id", "name")) if ids else {}
    for row in rows:
        row.organization_name = names.get(row.organization_id, "")
