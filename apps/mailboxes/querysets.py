"""Which mailboxes a key may see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models

if TYPE_CHECKING:
    from apps.accounts.models import ApiKey
    from apps.mailboxes.models import Mailbox  # noqa: F401


class MailboxQuerySet(models.QuerySet["Mailbox"]):
    """Mailboxes, scoped."""

    def visible_to(self, key: ApiKey) -> MailboxQuerySet:
        """Those of the key's organization that its narrowing leaves; deleted ones too. A platform key sees none."""
        if key.organization_id is None:
            return self.none()
        mailboxes = self.filter(organization_id=key.organization_id)
        if key.inbox_ids is not None:
            mailboxes = mailboxes.filter(id__in=key.inbox_ids)
        if key.allowed_domains is not None:
            mailboxes = mailboxes.filter(domain__name__in=key.allowed_domains)
        return mailboxes
