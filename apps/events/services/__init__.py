"""What changes events and webhooks: facts are recorded with the calls that tell of them, calls are made and written
down, webhooks come and go."""

from apps.events.services.claim import FIRST_WEBHOOK, Claim, ClaimedCall, claim_calls, forget_calls, release_calls
from apps.events.services.facts import CALL_TASK, NewEvent, record_events
from apps.events.services.prepare import Preparation, PreparedCall, prepare_calls
from apps.events.services.record import CallResult, record_calls
from apps.events.services.signing_keys import rotate_signing_key
from apps.events.services.slots import Place, Slots
from apps.events.services.webhooks import (
    create_webhook,
    delete_webhook,
    forget_mailbox,
    replay_call,
    rotate_webhook_secret,
    set_mailbox_webhook,
    test_webhook,
    update_webhook,
)

__all__ = [
    "CALL_TASK",
    "FIRST_WEBHOOK",
    "CallResult",
    "Claim",
    "ClaimedCall",
    "NewEvent",
    "Place",
    "Preparation",
    "PreparedCall",
    "Slots",
    "claim_calls",
    "create_webhook",
    "delete_webhook",
    "forget_calls",
    "forget_mailbox",
    "prepare_calls",
    "record_calls",
    "record_events",
    "release_calls",
    "replay_call",
    "rotate_signing_key",
    "rotate_webhook_secret",
    "set_mailbox_webhook",
    "test_webhook",
    "update_webhook",
]
