"""The shapes of answers, for OpenAPI only: outputs.py makes them, and a test holds the two together."""

from functools import cache
from typing import Any

from rest_framework import serializers

from apps.accounts.models import SCOPES
from apps.delivery.models import Attempt
from apps.delivery.models import Suppression as SuppressionModel
from apps.delivery.states import DeliveryStatus
from apps.domains.models import Domain as DomainModel
from apps.events.models import EventType
from apps.mailboxes.models import Mailbox

_STATUSES = DeliveryStatus.values


class Shape(serializers.Serializer[Any]):
    """A shape that nothing is ever read or written by."""


class Person(Shape):
    """An address and the name beside it."""

    address = serializers.CharField()
    name = serializers.CharField()


class Inbox(Shape):
    """An address that sends and receives."""

    id = serializers.CharField()
    address = serializers.CharField()
    username = serializers.CharField()
    domain = serializers.CharField()
    display_name = serializers.CharField()
    pod_id = serializers.CharField()
    status = serializers.ChoiceField(choices=Mailbox.Status.values)
    suspended_reason = serializers.CharField(allow_null=True)
    daily_send_limit = serializers.IntegerField(allow_null=True)
    sends_today = serializers.IntegerField()
    sends_remaining = serializers.IntegerField(allow_null=True)
    limit_resets_at = serializers.DateTimeField()
    total_sent = serializers.IntegerField()
    bounce_count = serializers.IntegerField()
    complaint_count = serializers.IntegerField()
    client_id = serializers.CharField(allow_null=True)
    metadata = serializers.DictField()
    webhook_url = serializers.CharField(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class Recipient(Shape):
    """One recipient of an outbound message, judged by itself."""

    address = serializers.CharField()
    status = serializers.ChoiceField(choices=_STATUSES)
    reason = serializers.CharField(required=False)


class AttachmentInfo(Shape):
    """A file of a stored message."""

    id = serializers.CharField()
    filename = serializers.CharField()
    content_type = serializers.CharField()
    size = serializers.IntegerField(help_text="Octets after decoding.")
    content_id = serializers.CharField(allow_null=True)
    disposition = serializers.CharField()


class Authentication(Shape):
    """What the sender's authentication came to."""

    spf = serializers.CharField()
    dkim = serializers.CharField()
    dmarc = serializers.CharField()
    arc = serializers.CharField()
    from_aligned = serializers.BooleanField()


class HeaderField(Shape):
    """A header field of a message."""

    name = serializers.CharField()
    value = serializers.CharField()


class MessageSummary(Shape):
    """A message as lists show it."""

    id = serializers.CharField()
    inbox_id = serializers.CharField()
    thread_id = serializers.CharField()
    direction = serializers.ChoiceField(choices=["inbound", "outbound"])
    message_id = serializers.CharField(allow_null=True, help_text="The Message-ID header.")
    in_reply_to = serializers.CharField(allow_null=True)
    references = serializers.ListField(child=serializers.CharField())
    to = Person(many=True)
    cc = Person(many=True)
    bcc = Person(many=True)
    reply_to = Person(many=True)
    subject = serializers.CharField()
    preview = serializers.CharField()
    labels = serializers.ListField(child=serializers.CharField())
    unread = serializers.BooleanField()
    status = serializers.ChoiceField(choices=["received", *_STATUSES])
    recipients = Recipient(many=True, help_text="Of outbound messages.")
    attachments = AttachmentInfo(many=True)
    authentication = Authentication()
    auto_submitted = serializers.BooleanField()
    size = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    sent_at = serializers.DateTimeField(allow_null=True)
    send_at = serializers.DateTimeField(allow_null=True)

    def get_fields(self) -> dict[str, Any]:
        """`from` is no name that Python takes."""
        return {**super().get_fields(), "from": Person()}


class Message(MessageSummary):
    """A whole message."""

    text = serializers.CharField(allow_null=True)
    html = serializers.CharField(allow_null=True)
    extracted_text = serializers.CharField(allow_null=True, help_text="The text without quotes and signature.")
    headers = HeaderField(many=True)


class Extracted(Shape):
    """What a mail asks its reader to type or to open; null for what it does not have."""

    otp_code = serializers.CharField(allow_null=True)
    verification_link = serializers.CharField(allow_null=True)


class Waited(Shape):
    """The mail that was waited for, or word that it has not come."""

    timed_out = serializers.BooleanField()
    message = Message(allow_null=True)
    extracted = Extracted()
    cursor = serializers.CharField(help_text="For `after` of the next call: nothing is skipped and nothing repeated.")


class Sent(Shape):
    """What was accepted for sending."""

    id = serializers.CharField()
    status = serializers.ChoiceField(choices=_STATUSES)
    thread_id = serializers.CharField()
    message_id = serializers.CharField()
    recipients = Recipient(many=True)


class AttemptInfo(Shape):
    """One try at a delivery, in the remote's own words."""

    at = serializers.DateTimeField()
    host = serializers.CharField(allow_null=True)
    ip = serializers.CharField(allow_null=True)
    tls = serializers.CharField(allow_null=True)
    code = serializers.IntegerField(allow_null=True)
    enhanced_code = serializers.CharField(allow_null=True)
    text = serializers.CharField()
    outcome = serializers.ChoiceField(choices=Attempt.Outcome.values)


class DeliveryInfo(Recipient):
    """One recipient with every attempt."""

    id = serializers.CharField()
    attempts = AttemptInfo(many=True)
    next_attempt_at = serializers.DateTimeField(allow_null=True)


class DnsRecordInfo(Shape):
    """A record to publish, and how the last check found it."""

    type = serializers.CharField()
    name = serializers.CharField()
    value = serializers.CharField()
    priority = serializers.IntegerField(required=False)
    purpose = serializers.CharField()
    status = serializers.ChoiceField(choices=["valid", "missing", "wrong", "dns_error"])
    found = serializers.CharField(allow_null=True)
    fix = serializers.CharField(allow_null=True)


class Domain(Shape):
    """A mail domain and the records to publish for it."""

    id = serializers.CharField()
    domain = serializers.CharField()
    status = serializers.ChoiceField(choices=DomainModel.Status.values)
    sending_status = serializers.ChoiceField(choices=DomainModel.Status.values)
    receiving_status = serializers.ChoiceField(choices=DomainModel.Status.values)
    records = DnsRecordInfo(many=True)
    shared = serializers.BooleanField(help_text="The installation's own, usable by every organization.")
    last_checked_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class Suppression(Shape):
    """An address that must not be written to."""

    id = serializers.CharField()
    address = serializers.CharField()
    reason = serializers.ChoiceField(choices=SuppressionModel.Reason.values)
    source = serializers.CharField(  # type: ignore[assignment]
        allow_null=True, help_text="Where it comes from: the server's words, or a note."
    )
    expires_at = serializers.DateTimeField(allow_null=True, help_text="Null: it holds for good.")
    created_at = serializers.DateTimeField()


class Imported(Shape):
    """What became of an import."""

    imported = serializers.IntegerField(help_text="Entries that are new or changed.")
    unchanged = serializers.IntegerField(help_text="Entries that stood already, or twice in the list.")


class Event(Shape):
    """A fact that happened."""

    id = serializers.CharField()
    type = serializers.ChoiceField(choices=EventType.values)
    created_at = serializers.DateTimeField()
    inbox_id = serializers.CharField(allow_null=True)

    def get_fields(self) -> dict[str, Any]:
        """`data` is a name that REST framework keeps for itself."""
        return {**super().get_fields(), "data": serializers.DictField()}


class ApiKey(Shape):
    """An API key, without its secret."""

    id = serializers.CharField()
    name = serializers.CharField()
    prefix = serializers.CharField(help_text="The first characters of the key, to recognise it by.")
    scopes = serializers.ListField(child=serializers.ChoiceField(choices=SCOPES))
    allowed_domains = serializers.ListField(child=serializers.CharField(), allow_null=True)
    inbox_ids = serializers.ListField(child=serializers.CharField(), allow_null=True)
    max_inboxes = serializers.IntegerField(allow_null=True)
    used_count = serializers.IntegerField()
    expires_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class NewApiKey(ApiKey):
    """A key just made."""

    key = serializers.CharField(help_text="The secret; shown only now.")


class OrganizationInfo(Shape):
    """The tenant."""

    id = serializers.CharField()
    name = serializers.CharField()
    status = serializers.ChoiceField(choices=["active", "suspended"])
    suspended_reason = serializers.CharField(allow_null=True)


class Limits(Shape):
    """Bounds of this installation."""

    recipients_per_message = serializers.IntegerField()
    attachment_bytes = serializers.IntegerField()
    message_bytes = serializers.IntegerField()
    body_bytes = serializers.IntegerField()
    default_daily_send_limit = serializers.IntegerField()


class Me(Shape):
    """Who asks, and what it may do."""

    key = ApiKey()
    scopes = serializers.ListField(child=serializers.CharField())
    organization = OrganizationInfo(allow_null=True, help_text="Null for a platform key.")
    limits = Limits()


class ErrorDetail(Shape):
    """A field and what is wrong with it."""

    field = serializers.CharField()
    message = serializers.CharField()


class ErrorInfo(Shape):
    """What is wrong, and what to do next."""

    code = serializers.CharField()
    message = serializers.CharField()
    fix = serializers.CharField()
    details = ErrorDetail(many=True)
    request_id = serializers.CharField()


class Error(Shape):
    """The envelope of every error."""

    error = ErrorInfo()


@cache
def page_of(kind: type[Shape]) -> Any:
    """The shape of a list of `kind`."""

    def get_fields(self: Shape) -> dict[str, Any]:
        return {"data": kind(many=True), "next_cursor": serializers.CharField(allow_null=True)}

    text = "A page of the list; `next_cursor` leads to the next one, null on the last."
    return type(f"{kind.__name__}Page", (Shape,), {"__doc__": text, "get_fields": get_fields})()
