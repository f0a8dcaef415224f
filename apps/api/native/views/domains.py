"""Domains and their DNS records."""

from typing import ClassVar

from django.db.models import QuerySet
from django.http import HttpResponse
from rest_framework.request import Request

from apps.accounts.errors import ScopeDenied
from apps.accounts.models import ApiKey
from apps.api.answers import answer_json
from apps.api.cursors import read_page
from apps.api.native import schemas
from apps.api.native.auth import organization_of
from apps.api.native.inputs import NewDomain, Query, read_input
from apps.api.native.openapi import ASCENDING, PAGING, describe
from apps.api.native.outputs import show_domain
from apps.api.native.views.base import NativeView, answer_list, require_id
from apps.core.errors import NotFound
from apps.domains.models import Domain
from apps.domains.selectors import domains_of
from apps.domains.services import create_domain, verify_domain


def visible_domains(key: ApiKey) -> QuerySet[Domain]:
    """The organization's domains and the shared ones, as far as the key is not narrowed."""
    domains = domains_of(organization_of(key).id)
    if key.allowed_domains is not None:
        domains = domains.filter(name__in=key.allowed_domains)
    return domains


def find_domain(key: ApiKey, domain_id: str) -> Domain:
    """A domain by the id in a path; raises NotFound, also for what belongs to someone else."""
    domain = visible_domains(key).filter(id=require_id("dom", domain_id)).first()
    if domain is None:
        raise NotFound("There is no such domain in your organization.")
    return domain


def _answer_domain(domain: Domain, status: int = 200) -> HttpResponse:
    return answer_json(show_domain(domain, domain.dkim_keys.order_by("id")), status=status)


class DomainList(NativeView):
    """GET and POST /v1/domains."""

    scopes: ClassVar = {"GET": "domains:read", "POST": "domains:write"}

    @describe(
        "list_domains",
        "List domains, the installation's shared ones too",
        answer=schemas.page_of(schemas.Domain),
        errors=["invalid_cursor"],
        params=[*PAGING, ASCENDING],
        tag="Domains",
    )
    def get(self, request: Request) -> HttpResponse:
        read = Query(request._request, allowed=())
        domains = visible_domains(self.key).prefetch_related("dkim_keys")
        rows, cursor = read_page(domains, read.page("domains", owner=self.organization.id))
        return answer_list(
            [show_domain(row, sorted(row.dkim_keys.all(), key=lambda key: key.id)) for row in rows], cursor
        )

    @describe(
        "create_domain",
        "Add a domain and get the records to publish",
        request=NewDomain,
        answer=schemas.Domain(),
        status=201,
        errors=["conflict"],
        tag="Domains",
        examples={"Add": {"domain": "mail.example.com"}},
    )
    def post(self, request: Request) -> HttpResponse:
        name = read_input(NewDomain, self.read_body())["domain"]
        allowed = self.key.allowed_domains
        if allowed is not None and name.lower() not in allowed:
            raise ScopeDenied(f"This key is narrowed to {', '.join(allowed)}, so it cannot add {name}.")
        return _answer_domain(create_domain(organization=self.organization, name=name, now=self.now), status=201)


class OneDomain(NativeView):
    """GET /v1/domains/{id}."""

    scopes: ClassVar = {"GET": "domains:read"}

    @describe(
        "get_domain", "Get a domain with its records", answer=schemas.Domain(), errors=["not_found"], tag="Domains"
    )
    def get(self, request: Request, domain_id: str) -> HttpResponse:
        return _answer_domain(find_domain(self.key, domain_id))


class VerifyDomain(NativeView):
    """POST /v1/domains/{id}/verify."""

    scopes: ClassVar = {"POST": "domains:write"}

    @describe(
        "verify_domain",
        "Look the domain's records up now",
        answer=schemas.Domain(),
        errors=["not_found", "conflict"],
        tag="Domains",
    )
    def post(self, request: Request, domain_id: str) -> HttpResponse:
        return _answer_domain(verify_domain(domain=find_domain(self.key, domain_id), now=self.now))
