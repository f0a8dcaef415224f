"""The OpenAPI document and the page that shows it."""

from functools import cache

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from apps.api.native.openapi import read_schema_file


@cache
def _schema() -> bytes:
    return read_schema_file()


@csrf_exempt
@require_safe
def show_openapi(request: HttpRequest) -> HttpResponse:
    """OpenAPI 3.1; `manage.py check_openapi` keeps the file equal to the code."""
    return HttpResponse(_schema(), content_type="application/json")


@csrf_exempt
@require_safe
def show_docs(request: HttpRequest) -> HttpResponse:
    """The reference, readable; every asset from this server."""
    return render(request, "api/docs.html")
