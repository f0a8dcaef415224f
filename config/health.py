"""`/health/live`: this process answers. `/health/ready`: all of the installation is up, or what is missing.

A load balancer that picks web processes should ask `live`: mail and API go on without Redis and without
beat, which `ready` reports as missing all the same.
"""

import redis
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from apps.core.heartbeat import list_living_processes

PROCESSES = ("smtp", "worker", "beat")
REDIS_TIMEOUT = 0.5
_migrations_seen: set[str] = set()


@csrf_exempt
@require_safe
@never_cache
def show_live(request: HttpRequest) -> HttpResponse:
    """200 while this web process can answer at all; touches nothing else."""
    return JsonResponse({"status": "live"})


@csrf_exempt
@require_safe
@never_cache
def show_ready(request: HttpRequest) -> HttpResponse:
    """200 when everything is up, else 503 with the names of what is missing."""
    missing = find_missing()
    status = "unavailable" if missing else "ready"
    response = JsonResponse({"status": status, "missing": missing}, status=503 if missing else 200)
    if missing:
        response["Retry-After"] = "1"
        # Django would log every 5xx as an error, and who waits for the start asks three times a second.
        response._has_been_logged = True  # type: ignore[attr-defined]
    return response


def find_missing() -> list[str]:
    """Which of database, migrations, smtp, worker, beat and redis is not there."""
    try:
        connection.ensure_connection()
        if not _are_migrations_applied():
            return ["migrations", *_missing_redis()]
        living = list_living_processes()
    except (DatabaseError, InterfaceError):
        return ["database", *_missing_redis()]
    return [name for name in PROCESSES if name not in living] + _missing_redis()


def _are_migrations_applied() -> bool:
    """Asked of the database until the answer is yes; a process never sees its own migrations undone."""
    if not _migrations_seen:
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            return False
        _migrations_seen.add("all")
    return True


def _missing_redis() -> list[str]:
    try:
        with redis.Redis.from_url(
            settings.REDIS_URL, socket_timeout=REDIS_TIMEOUT, socket_connect_timeout=REDIS_TIMEOUT
        ) as client:
            client.ping()
    except redis.RedisError:
        return ["redis"]
    return []
