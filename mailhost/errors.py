"""The errors of the mail engine.

One base, so that a caller can catch everything the engine raises on purpose. The docstring of a class is its
message and `code` is stable: programs compare the code, people read the sentence. Errors that only one module
raises live beside that module; what several share lives here.
"""

from __future__ import annotations

import inspect
from typing import ClassVar


class MailError(Exception):
    """The mail engine could not do what was asked."""

    code: ClassVar[str] = "mail_error"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.getdoc(type(self)) or self.code)

    @property
    def message(self) -> str:
        """The sentence for people: what was given, else the docstring of the class."""
        return str(self.args[0])


class InvalidAddress(MailError):
    """This is not a mail address."""

    code = "invalid_address"


class InvalidDomain(MailError):
    """This is not a domain name."""

    code = "invalid_domain"


class InvalidHeader(MailError):
    """A header field holds something that a header cannot hold."""

    code = "invalid_header"


class MessageTooLarge(MailError):
    """The message is larger than allowed."""

    code = "message_too_large"
