"""Signing keys: one secret for all of an organization's webhooks of a dialect."""

import base64
import secrets
from datetime import datetime

from apps.accounts.models import Organization
from apps.core.secretbox import encrypt_secret
from apps.events.models import SigningKey

SECRET_PREFIX = "whsec_"  # noqa: S105 - a prefix
_SECRET_BYTES = 32


def rotate_signing_key(*, organization: Organization, dialect: str, now: datetime) -> tuple[SigningKey, str]:
    """Make the organization's signing key of a dialect, or make it anew; the secret is returned this once.

    It signs from now on, also the calls that wait.
    """
    secret = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
    key, _ = SigningKey.objects.update_or_create(
        organization=organization,
        dialect=dialect,
        defaults={"secret_encrypted": encrypt_secret(secret.encode()), "created_at": now},
    )
    return key, secret
