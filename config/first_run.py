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
from django.db import NotSupportedError, OperationalError, connection, transaction

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
MIN_SERVER = 15
_LOCK = 0x6D61_696C_686F_7374  # any constant: whoever prepares this database holds it


def main() -> int:
    """Migrate, then fill an empty installation. What goes wrong is the last line on stderr."""
    try:
        with connection.cursor() as cursor:
            check_server()
            # Two machines that start at once on one database: the second waits and finds it done.
            cursor.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
            call_command("migrate", interactive=False, verbosity=1)
            create_month_partitions(now=datetime.now(UTC))  # before mail comes: nothing has to be moved later
            prepare_installation(now=datetime.now(UTC))
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])
    except (OperationalError, NotSupportedError) as error:
        sys.stderr.write(f"{str(error).strip().splitlines()[0]}\n")
        return 1
    return 0


def check_server() -> None:
    """PostgreSQL is new enough. Raises NotSupportedError."""
    version: int = connection.cursor().connection.info.server_version
    if version < MIN_SERVER * 10_000:
        raise NotSupportedError(f"DATABASE_URL names a PostgreSQL {version // 10_000}; {MIN_SERVER} or newer is needed")


def prepare_installation(*, now: datetime) -> None:
    """Make what every installation has, once. The caller keeps others away."""
    path = settings.MAILHOST_STATE / FILE_NAME
    forget_host()
    with transaction.atomic():
        ensure_shared_domain(name=settings.MAILHOST_DEFAULT_DOMAIN, now=now)
        if Organization.objects.exists():
            refresh_facts(path)
        else:
            write_secret(path, json.dumps({**public_facts(), **create_first_tenant(now=now)}, indent=2))


def create_first_tenant(*, now: datetime) -> dict[str, str]:
    """The first organization, its key and the administrator; returns how to get in."""
    organization = create_organization(name=ORGANIZATION, now=now)
    _, api_key = create_api_key(organization=organization, name="First key", scopes=SCOPES, now=now)
    password = secrets.token_urlsafe(15)
    user = User.objects.filter(username=ADMIN).first()
    if user is None:
        User.objects.create_superuser(username=ADMIN, email="", password=password)
    else:
        user.set_password(password)
        user.save(update_fields=["password"])
    return {"api_key": api_key, "admin_username": ADMIN, "admin_password": password}


def public_facts() -> dict[str, str | int]:
    """Where everything is, for a newcomer or a script."""
    base = settings.MAILHOST_PUBLIC_URL
    return {
        "api_url": base,
        "admin_url": f"{base}/admin/",
        "smtp_host": reachable_host(settings.MAILHOST_BIND),
        "smtp_port": settings.MAILHOST_SMTP_PORT,
        "submission_port": settings.MAILHOST_SUBMISSION_PORT,
        "default_domain": settings.MAILHOST_DEFAULT_DOMAIN,
    }


def refresh_facts(path: Path) -> None:
    """Ports and addresses may have changed since the first start; the secrets in the file stay as they are."""
    try:
        old = json.loads(path.read_text())
    except (OSError, ValueError):
        return  # the operator took it away
    new = {**old, **public_facts()}
    if new != old:
        write_secret(path, json.dumps(new, indent=2))


def reachable_host(bind: str) -> str:
    """An address of this machine at which a socket bound to `bind` answers."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)  # noqa: S104 - compared, not bound


if __name__ == "__main__":
    sys.exit(main())
