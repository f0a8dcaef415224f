"""`python -m config.first_run`: brings the database up to date, and on the very first start fills it.

Makes the first organization, a key with every scope, an administrator and the shared default domain, and writes
what a person needs to know to `first-run.json` (mode 0600). Safe to repeat and to kill at any moment: the
database says whether it was done, and the file is complete before the transaction commits.
"""

import json
import os
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction

from config.embedded.files import write_secret

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()  # before the models below can be imported

from apps.accounts.models import SCOPES, Organization, User  # noqa: E402
from apps.accounts.services import create_api_key, create_organization  # noqa: E402
from apps.core.heartbeat import forget_host  # noqa: E402
from apps.core.partitions import create_month_partitions  # noqa: E402
from apps.domains.services import ensure_shared_domain  # noqa: E402

FILE_NAME = "first-run.json"
ORGANIZATION = "First organization"
ADMIN = "admin"
_LOCK = 0x6D61_696C_686F_7374  # any constant: whoever prepares this database holds it


def main() -> int:
    """Migrate, then fill an empty installation."""
    with connection.cursor() as cursor:
        # Two machines that start at once on one database: the second waits and finds it done.
        cursor.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        call_command("migrate", interactive=False, verbosity=1)
        create_month_partitions(now=datetime.now(UTC))  # before mail comes: nothing has to be moved later
        prepare_installation(now=datetime.now(UTC))
        cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])
    return 0


def prepare_installation(*, now: datetime) -> None:
    """Make what every installation has, once. The caller keeps others away."""
    forget_host()
    with transaction.atomic():
        ensure_shared_domain(name=settings.MAILHOST_DEFAULT_DOMAIN, now=now)
        if not Organization.objects.exists():
            write_first_run(settings.MAILHOST_STATE / FILE_NAME, **create_first_tenant(now=now))


def create_first_tenant(*, now: datetime) -> dict[str, str]:
    """The first organization, its key and the administrator; returns the two secrets."""
    organization = create_organization(name=ORGANIZATION, now=now)
    _, api_key = create_api_key(organization=organization, name="First key", scopes=SCOPES, now=now)
    password = secrets.token_urlsafe(15)
    user = User.objects.filter(username=ADMIN).first()
    if user is None:
        User.objects.create_superuser(username=ADMIN, email="", password=password)
    else:
        user.set_password(password)
        user.save(update_fields=["password"])
    return {"api_key": api_key, "admin_password": password}


def write_first_run(path: Path, *, api_key: str, admin_password: str) -> None:
    """Everything a newcomer or a script needs in order to begin."""
    base = settings.MAILHOST_PUBLIC_URL
    facts = {
        "api_url": base,
        "api_key": api_key,
        "admin_url": f"{base}/admin/",
        "admin_username": ADMIN,
        "admin_password": admin_password,
        "smtp_host": reachable_host(settings.MAILHOST_BIND),
        "smtp_port": settings.MAILHOST_SMTP_PORT,
        "submission_port": settings.MAILHOST_SUBMISSION_PORT,
        "default_domain": settings.MAILHOST_DEFAULT_DOMAIN,
    }
    write_secret(path, json.dumps(facts, indent=2))


def reachable_host(bind: str) -> str:
    """An address of this machine at which a socket bound to `bind` answers."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)  # noqa: S104 - compared, not bound


if __name__ == "__main__":
    sys.exit(main())
