"""Admin pages: messages, read-only, with their content made harmless.

apps/delivery/admin.py registers the page, with the recipients and what became of each.
"""

import re
from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.http import content_disposition_header

from apps.accounts.admin_scope import OrganizationFilter, ScopedAdmin
from apps.core.admin_base import DASH, column, status_label
from apps.core.admin_lists import LargeTableAdmin, LinkedFilter, MailboxFilter, PeriodFilter, read_id
from apps.core.errors import NotFound
from apps.mail.blobs import iterate_blob, read_blob
from apps.mail.models import Attachment, Message, MessageBody
from apps.mailboxes.selectors import find_recipients
from mailhost.message.parse import read_attachment

MAX_TEXT = 256 * 1024
MAX_HTML = 1024 * 1024
MAX_HEADERS = 500

FRAME_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'"
"""What the frame of a mail's HTML may load: nothing from anywhere, so that no sender learns that it was read."""
_FRAME_HEAD = (
    f'<!doctype html><meta http-equiv="Content-Security-Policy" content="{FRAME_POLICY}">'
    '<meta name="referrer" content="no-referrer"><meta http-equiv="x-dns-prefetch-control" content="off">'
    "<style>body{font:14px/1.5 sans-serif;margin:12px;color:#111;background:#fff;overflow-wrap:anywhere}"
    "img{max-width:100%;height:auto}a{pointer-events:none!important}</style>"
)
# A tag's name stands right after its "<" (HTML, section 13.2.5.6), so none of these elements is left after this. The
# policy covers them but for DNS prefetches by links; scripts are left to sandbox and policy, or their text would show.
_FORBIDDEN = re.compile(
    r"<(?=(?:link|meta|base|iframe|frame|frameset|object|embed|applet|form|portal)\b)", re.IGNORECASE
)
PAGE_POLICY = "frame-src 'none'; object-src 'none'"
"""Of the page around the frame: a link in the mail, which would load into the frame, leads nowhere either."""


def frame_document(html: str) -> str:
    """The document for the sandboxed frame: a stranger's HTML that can load, run, send and follow nothing."""
    return _FRAME_HEAD + _FORBIDDEN.sub("<x-", html[:MAX_HTML])


class ThreadFilter(LinkedFilter):
    """By thread."""

    title = "thread"
    parameter_name = "thread"
    field = "thread_id"


class MessageAdmin(LargeTableAdmin, ScopedAdmin):
    """Every stored mail, newest first."""

    read_only_page = True
    list_display: Any = ("created_at", "way", "title", "people", "mailbox_address", "octets")
    list_display_links = ("title",)
    list_filter = ("direction", PeriodFilter, OrganizationFilter, MailboxFilter, ThreadFilter)
    search_fields = ("id",)
    search_help_text = "Mailbox address, id, or words of the subject"
    change_form_after_template = "mail/content.html"
    fieldsets: ClassVar[Any] = (
        (
            None,
            {
                "fields": (
                    "way", "title", "sender", "to_line", "cc_line", "bcc_line", "reply_to_line", "mailbox_link",
                    "thread_link", "label_line", "created_at", "sent_at",
                ),
            },
        ),
        (
            "Technical",
            {
                "classes": ("collapse",),
                "fields": (
                    "rfc_message_id", "in_reply_to", "envelope", "verdicts", "auto_submitted", "defect_line", "octets",
                ),
            },
        ),
    )  # fmt: skip

    optional_fields: ClassVar[Any] = {
        "cc_line": "cc",
        "bcc_line": "bcc",
        "reply_to_line": "reply_to",
        "label_line": "labels",
        "sent_at": "sent_at",
        "in_reply_to": "in_reply_to",
        "defect_line": "defects",
        "verdicts": "authentication",
    }
    help_texts: ClassVar[Any] = {"rfc_message_id": "", "sent_at": ""}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Message]:
        """Lists never touch bodies or raw mail."""
        return super().get_queryset(request).select_related("mailbox", "organization")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """By what an index finds, or by the subject, newest first and bounded in time as every list is."""
        term = search_term.strip()
        if not term:
            return queryset, False
        message_id = read_id(term, "msg")
        if message_id is not None:
            return queryset.filter(id=message_id), False
        if "@" in term:
            mailbox = find_recipients([term])[0].mailbox
            return queryset.filter(**({"mailbox": mailbox} if mailbox else {"from_address__iexact": term})), False
        return queryset.filter(subject__icontains=term), False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Stored mail stays as it is."""
        return False

    def get_urls(self) -> list[URLPattern]:
        """With the downloads."""
        downloads = [
            path("<uuid:message_id>/raw/", self.admin_site.admin_view(self.download_raw), name="mail_message_raw"),
            path(
                "<uuid:message_id>/attachments/<uuid:attachment_id>/",
                self.admin_site.admin_view(self.download_attachment),
                name="mail_message_attachment",
            ),
        ]
        return [*downloads, *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The page, with what the mail says; it may frame nothing but the mail itself."""
        message = self.get_object(request, object_id)
        context = {**(extra_context or {}), **(self.build_context(request, message) if message is not None else {})}
        response = super().change_view(request, object_id, form_url, context)
        response["Content-Security-Policy"] = PAGE_POLICY
        response["X-DNS-Prefetch-Control"] = "off"
        return response

    def build_context(self, request: HttpRequest, message: Message) -> dict[str, Any]:
        """What the template shows below the fields."""
        body = MessageBody.objects.filter(message_id=message.id).first() or MessageBody(message_id=message.id)
        return {
            "mail_text": body.text[:MAX_TEXT],
            "text_is_cut": len(body.text) > MAX_TEXT,
            "mail_frame": frame_document(body.html) if body.html else "",
            "html_is_cut": len(body.html) > MAX_HTML,
            "mail_headers": body.headers[:MAX_HEADERS],
            "mail_attachments": list(Attachment.objects.filter(message_id=message.id).order_by("position")),
        }

    def download_raw(self, request: HttpRequest, message_id: UUID) -> HttpResponseBase:
        """The raw mail as a file; outbound: as composed, without Bcc."""
        message = self._get_message(request, message_id)
        chunks = iterate_blob(message.blob_id)
        try:
            first = next(chunks)
        except NotFound as error:
            raise Http404(error.message) from None
        response = StreamingHttpResponse(_chain(first, chunks), content_type="message/rfc822")
        response["Content-Length"] = str(message.size)
        return _as_download(response, f"{message.id}.eml")

    def download_attachment(self, request: HttpRequest, message_id: UUID, attachment_id: UUID) -> HttpResponseBase:
        """A file of a mail, always as a download and never as a page."""
        message = self._get_message(request, message_id)
        attachment = Attachment.objects.filter(id=attachment_id, message_id=message.id).first()
        if attachment is None:
            raise Http404("The message has no such attachment.")
        try:
            content = read_attachment(read_blob(message.blob_id), attachment.part)
        except NotFound as error:
            raise Http404(error.message) from None
        response = HttpResponse(content, content_type="application/octet-stream")
        return _as_download(response, attachment.filename or f"part-{attachment.part}")

    def _get_message(self, request: HttpRequest, message_id: UUID) -> Message:
        message: Message | None = self.get_object(request, str(message_id))
        if message is None or not self.has_view_permission(request, message):
            raise Http404("There is no such message.")
        return message

    @column(description="Direction")
    def way(self, obj: Message) -> str:
        """Inbound or outbound."""
        return status_label(obj.direction)

    @column(description="Subject")
    def title(self, obj: Message) -> str:
        """The subject, cut to what a line holds."""
        return (obj.subject or "(no subject)")[:200]

    @column(description="From or to")
    def people(self, obj: Message) -> str:
        """The other side: who wrote, or to whom we wrote."""
        if obj.direction == Message.Direction.INBOUND:
            return obj.from_address or DASH
        everyone = [*obj.to, *obj.cc, *obj.bcc]
        more = f" and {len(everyone) - 1} more" if len(everyone) > 1 else ""
        return f"{everyone[0]['address']}{more}" if everyone else DASH

    @column(description="Mailbox")
    def mailbox_address(self, obj: Message) -> str:
        return obj.mailbox.address

    @column(description="Size")
    def octets(self, obj: Message) -> str:
        """In a unit that reads well."""
        return f"{obj.size} B" if obj.size < 1024 else f"{obj.size / 1024:.0f} KB"

    @column(description="From")
    def sender(self, obj: Message) -> str:
        return _people([{"address": obj.from_address, "name": obj.from_name}]) if obj.from_address else DASH

    @column(description="To")
    def to_line(self, obj: Message) -> str:
        return _people(obj.to)

    @column(description="Cc")
    def cc_line(self, obj: Message) -> str:
        return _people(obj.cc)

    @column(description="Bcc")
    def bcc_line(self, obj: Message) -> str:
        return _people(obj.bcc)

    @column(description="Reply-To")
    def reply_to_line(self, obj: Message) -> str:
        return _people(obj.reply_to)

    @column(description="Mailbox")
    def mailbox_link(self, obj: Message) -> str:
        """To the mailbox's page."""
        url = reverse("admin:mailboxes_mailbox_change", args=[obj.mailbox_id])
        return format_html('<a class="mh-link" href="{}">{}</a> of {}', url, obj.mailbox.address, obj.organization)

    @column(description="Thread")
    def thread_link(self, obj: Message) -> str:
        """To the messages of the same thread."""
        url = reverse("admin:mail_message_changelist")
        return format_html('<a class="mh-link" href="{}?thread={}">All messages of this thread</a>', url, obj.thread_id)

    @column(description="Labels")
    def label_line(self, obj: Message) -> str:
        return ", ".join(obj.labels) or DASH

    @column(description="Envelope")
    def envelope(self, obj: Message) -> str:
        """Sender and recipient as the SMTP session named them."""
        return f"from <{obj.mail_from}> to <{obj.delivered_to}>" if obj.delivered_to else f"from <{obj.mail_from}>"

    @column(description="Authentication")
    def verdicts(self, obj: Message) -> str:
        """SPF, DKIM, DMARC as they were judged on arrival."""
        return ", ".join(f"{name}: {verdict}" for name, verdict in obj.authentication.items()) or DASH

    @column(description="Defects")
    def defect_line(self, obj: Message) -> str:
        """What was wrong with the mail's form."""
        return ", ".join(obj.defects) or DASH


def _people(people: list[dict[str, Any]]) -> str:
    """Addresses as a mail program shows them."""
    shown = [
        f"{person.get('name')} <{person['address']}>" if person.get("name") else person["address"] for person in people
    ]
    return ", ".join(shown) or DASH


def _chain(first: bytes, rest: Any) -> Any:
    yield first
    yield from rest


def _as_download(response: HttpResponseBase, filename: str) -> HttpResponseBase:
    """A stranger's bytes are saved, never shown: whatever they are, they are no page of this site."""
    response["Content-Disposition"] = content_disposition_header(True, filename) or "attachment"
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response["Cache-Control"] = "no-store"
    return response
