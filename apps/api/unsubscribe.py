"""The page behind the unsubscribe links of mails that were sent with `list: true` (RFC 8058).

A POST unsubscribes, without login, cookies or redirects, whatever its body: a mail provider sends one for its user.
A GET shows a page and changes nothing: scanners of mail open every link.
"""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from apps.accounts.models import Organization
from apps.delivery.services import read_unsubscribe_link, unsubscribe

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Robots-Tag": "noindex",
}


@csrf_exempt
@require_http_methods(["GET", "HEAD", "POST"])
def show_unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """Ask on GET, unsubscribe on POST; 404 for a link that was never given out."""
    link = read_unsubscribe_link(token)
    if link is None:
        return _answer(request, {"state": "unknown"}, status=404)
    if request.method == "POST":
        unsubscribe(link=link, now=timezone.now())
        return _answer(request, {"state": "done", "address": link.address})
    name = Organization.objects.filter(id=link.organization_id).values_list("name", flat=True).first()
    return _answer(request, {"state": "asked", "address": link.address, "organization": name or ""})


def _answer(request: HttpRequest, context: dict[str, str], status: int = 200) -> HttpResponse:
    response = render(request, "api/unsubscribe.html", context, status=status)
    for name, value in _HEADERS.items():
        response[name] = value
    return response
