"""What can be wrong with a request as such, in whatever dialect it comes."""

from apps.core.errors import DomainError


class MalformedJson(DomainError):
    """The request body is not valid JSON."""

    code = "malformed_json"
    fix = "Send one JSON object in UTF-8 with Content-Type: application/json."


class BodyTooLarge(DomainError):
    """The request body is larger than 40 MiB."""

    code = "message_too_large"
    fix = "Send fewer or smaller attachments; one HTTP body may hold 40 MiB."


class InvalidCursor(DomainError):
    """The cursor is not one that this list gave out for these filters."""

    code = "invalid_cursor"
    fix = "Start again without a cursor, and keep the filters the same from page to page."


class IdempotencyConflict(DomainError):
    """The idempotency key was used for a different request within the last 24 hours."""

    code = "idempotency_conflict"
    fix = "Use a new key for a new request; repeat a request with exactly the same body."


class RangeNotSatisfiable(DomainError):
    """The range lies beyond the end of the file."""

    code = "range_not_satisfiable"
    fix = "Ask for a range within the size that Content-Range tells."


class MethodNotAllowed(DomainError):
    """This address does not take the method."""

    code = "method_not_allowed"
    fix = "Use one of the methods in the Allow header."


class NotSupported(DomainError):
    """This server does not support the operation."""

    code = "not_supported"
    fix = "See the dialect's coverage table for what is supported."


class Unavailable(DomainError):
    """The server cannot answer at the moment."""

    code = "unavailable"
    fix = "Try again after Retry-After seconds."


class InternalError(DomainError):
    """The server failed to answer."""

    code = "internal_error"
    fix = "Try again; if it stays so, report the request's id to the operator."


class TooManyWaiting(DomainError):
    """Too many requests of yours wait already."""

    code = "rate_limited"
    fix = "End some of them, or try again after Retry-After seconds."
