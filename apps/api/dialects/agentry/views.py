"""The resources of Agentry and AgentMail: read, call one service, write."""

from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from apps.accounts.models import ApiKey
from apps.api.answers import answer_json
from apps.api.cursors import read_page
from apps.api.dialect_views import DialectView, MissingMixin, RefuseMixin
from apps.api.dialects.agentry import auth, errors, inputs, outputs
from apps.api.public_ids import decode_uuid
from apps.core.errors import DomainError, NotFound, ValidationFailed
from apps.delivery.services import delete_mailbox
from apps.mailboxes.models import Mailbox, Pod
from apps.mailboxes.pods import create_pod, delete_pod, list_pods
from apps.mailboxes.services import create_mailbox, update_mailbox


class AgentryView(DialectView):
    """A resource of this dialect. `is_agentmail`: asked for at AgentMail's mount, which knows more fields."""

    is_agentmail: bool = False

    def dispatch(self, request: HttpRequest, *args: Any, is_agentmail: bool = False, **kwargs: Any) -> HttpResponseBase:
        self.is_agentmail = is_agentmail
        return super().dispatch(request, *args, **kwargs)

    def find_key(self, request: HttpRequest) -> ApiKey:
        return auth.find_key(request, now=self.now)

    def show_error(self, request: HttpRequest, error: DomainError) -> HttpResponse:
        response = errors.show_error(error, is_agentmail=self.is_agentmail)
        if response.status_code == 405:
            response["Allow"] = ", ".join(self.scopes)
        return response

    def find_pod(self, pod_id: str) -> Pod:
        """The pod of this id; raises NotFound, for a stranger's too."""
        found = decode_uuid(pod_id)
        pods = list_pods(organization=self.organization, key=self.key)
        pod = None if found is None else pods.filter(id=found).first()
        if pod is None:
            raise NotFound("Pod not found")
        return pod

    def read_pod(self, pod_id: str | None) -> Pod | None:
        """The pod that the path names, None when it names none; raises NotFound."""
        return None if pod_id is None else self.find_pod(pod_id)

    def answer_inbox(self, mailbox: Mailbox) -> HttpResponse:
        """An inbox, with status 200 in every case, creation too."""
        return answer_json(outputs.show_inbox(mailbox, is_agentmail=self.is_agentmail))


class Refused(RefuseMixin, AgentryView):
    """Known to the vendors, not supported here."""


class Missing(MissingMixin, AgentryView):
    """Nothing at this address."""


class Inboxes(AgentryView):
    """GET and POST /v0/inboxes, and the same of one pod."""

    scopes: ClassVar = {"GET": "inboxes:read", "POST": "inboxes:write"}

    def get(self, request: HttpRequest, pod_id: str | None = None) -> HttpResponse:
        pod = self.read_pod(pod_id)
        page = inputs.read_page_request(request, self.key, "inboxes", pod_id=pod.id if pod else None)
        rows, token = read_page(auth.living_mailboxes(self.key, pod), page)
        inboxes = [outputs.show_inbox(row, is_agentmail=self.is_agentmail) for row in rows]
        return answer_json(outputs.show_page("inboxes", inboxes, limit=page.limit, next_token=token))

    def post(self, request: HttpRequest, pod_id: str | None = None) -> HttpResponse:
        pod = self.read_pod(pod_id)
        wanted = inputs.read_new_inbox(self.read_body(), pod_id=pod.id if pod else None, is_agentmail=self.is_agentmail)
        try:
            mailbox, _ = create_mailbox(organization=self.organization, wanted=wanted, key=self.key, now=self.now)
        except NotFound as error:  # a domain that is not the organization's is a wrong value here, not a wrong path
            raise ValidationFailed("domain", error.message) from None
        return self.answer_inbox(mailbox)


class OneInbox(AgentryView):
    """GET, PATCH and DELETE /v0/inboxes/{inbox_id}, and the same within one pod."""

    scopes: ClassVar = {"GET": "inboxes:read", "PATCH": "inboxes:write", "DELETE": "inboxes:write"}

    def get(self, request: HttpRequest, inbox_id: str, pod_id: str | None = None) -> HttpResponse:
        return self.answer_inbox(auth.find_mailbox(self.key, inbox_id, self.read_pod(pod_id)))

    def patch(self, request: HttpRequest, inbox_id: str, pod_id: str | None = None) -> HttpResponse:
        mailbox = auth.find_mailbox(self.key, inbox_id, self.read_pod(pod_id))
        changes = inputs.read_inbox_changes(self.read_body(), is_agentmail=self.is_agentmail)
        return self.answer_inbox(update_mailbox(mailbox=mailbox, changes=changes, now=self.now))

    def delete(self, request: HttpRequest, inbox_id: str, pod_id: str | None = None) -> HttpResponse:
        mailbox = auth.find_mailbox(self.key, inbox_id, self.read_pod(pod_id))
        delete_mailbox(mailbox=mailbox, purge=True, now=self.now)
        return _answer_nothing()


class Pods(AgentryView):
    """GET and POST /v0/pods."""

    scopes: ClassVar = {"GET": "inboxes:read", "POST": "inboxes:write"}

    def get(self, request: HttpRequest) -> HttpResponse:
        page = inputs.read_page_request(request, self.key, "pods")
        rows, token = read_page(list_pods(organization=self.organization, key=self.key), page)
        pods = [outputs.show_pod(row) for row in rows]
        return answer_json(outputs.show_page("pods", pods, limit=page.limit, next_token=token))

    def post(self, request: HttpRequest) -> HttpResponse:
        name, client_id = inputs.read_new_pod(self.read_body())
        pod, _ = create_pod(organization=self.organization, name=name, client_id=client_id, key=self.key, now=self.now)
        return answer_json(outputs.show_pod(pod))


class OnePod(AgentryView):
    """GET and DELETE /v0/pods/{pod_id}."""

    scopes: ClassVar = {"GET": "inboxes:read", "DELETE": "inboxes:write"}

    def get(self, request: HttpRequest, pod_id: str) -> HttpResponse:
        return answer_json(outputs.show_pod(self.find_pod(pod_id)))

    def delete(self, request: HttpRequest, pod_id: str) -> HttpResponse:
        delete_pod(pod=self.find_pod(pod_id), key=self.key)
        return _answer_nothing()


def _answer_nothing() -> HttpResponse:
    """200 without a body: what a deletion answers."""
    response = HttpResponse()
    del response["Content-Type"]
    return response
