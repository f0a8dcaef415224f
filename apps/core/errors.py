"""The base of every error that a service raises because of what it was asked, not because something broke."""

from typing import Any, ClassVar


class DomainError(Exception):
    """The request cannot be carried out."""

    code: ClassVar[str] = "conflict"
    fix: ClassVar[str] = ""

    def __init__(self, message: str = "", *, fix: str = "", **data: Any) -> None:
        """`message` says what is wrong (default: the class's docstring), `fix` what to do next; `data` is for tables
        that need more, such as `retry_after` in seconds or `details` as a list of {field, message}."""
        self.message = message or " ".join((type(self).__doc__ or "").split())
        self.fix_text = fix or type(self).fix
        self.data = data
        super().__init__(self.message)


class ValidationFailed(DomainError):
    """A value in the request is not allowed."""

    code = "validation_failed"
    fix = "Correct the fields named in details and send the request again."

    def __init__(self, field: str, message: str, *, fix: str = "") -> None:
        super().__init__(message, fix=fix, details=[{"field": field, "message": message}])


class NotFound(DomainError):
    """There is no such object in your organization."""

    code = "not_found"
    fix = "Check the id; list the objects of this kind to see the ones you have."


class Conflict(DomainError):
    """The object is not in a state in which this can be done."""

    code = "conflict"
    fix = "Get the object again and look at its status."
