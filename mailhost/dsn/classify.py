"""What a refusal means for the next mail: is the address dead, or was it this mail, us, or the moment?

RFC 3463 and RFC 5248 (enhanced codes) say one thing, RFC 5321 section 4.2.3 (reply codes) another, and servers
write what they like; the words are the most honest of the three, so they are asked first. Only a permanent refusal
that is about the recipient counts as hard, and what nobody understands is soft: an address suppressed by mistake
is worse than one more try.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Literal

_MAX_TEXT = 2000


class BounceReason(enum.StrEnum):
    """Why a mail was refused."""

    UNKNOWN_RECIPIENT = "unknown_recipient"
    RECIPIENT_DISABLED = "recipient_disabled"
    UNKNOWN_DOMAIN = "unknown_domain"
    MAILBOX_FULL = "mailbox_full"
    MESSAGE_TOO_LARGE = "message_too_large"
    CONTENT = "content"
    """Taken for spam or malware, or of a kind that is not wanted."""
    BLOCKED = "blocked"
    """Our address, domain or sender is on somebody's list."""
    AUTHENTICATION = "authentication"
    """SPF, DKIM or DMARC did not convince."""
    POLICY = "policy"
    RELAYING = "relaying"
    RATE_LIMITED = "rate_limited"
    GREYLISTED = "greylisted"
    DNS = "dns"
    NETWORK = "network"
    LOOP = "loop"
    EXPIRED = "expired"
    """Tried until the queue's age limit."""
    PROTOCOL = "protocol"
    """The far side lacks something the mail needs, or did not understand us."""
    TEMPORARY = "temporary"
    OTHER = "other"


_HARD = frozenset({BounceReason.UNKNOWN_RECIPIENT, BounceReason.RECIPIENT_DISABLED, BounceReason.UNKNOWN_DOMAIN})


@dataclass(frozen=True, slots=True)
class Classification:
    """`kind` is "hard" when the address should not be written to again."""

    kind: Literal["hard", "soft"]
    reason: BounceReason


# In this order: a text that names spam and the mailbox is about spam.
_WORDS: tuple[tuple[BounceReason, str], ...] = (
    (BounceReason.GREYLISTED, r"gr[ae]y-?\s?list"),
    (
        BounceReason.AUTHENTICATION,
        r"\bspf\b|\bdkim\b|\bdmarc\b|unauthenticated (?:mail|sender|email)|sender (?:id|authentication)"
        r"|authentication (?:checks?|results?)|openspf",
    ),
    (  # about our return path, however much it reads like a word on the recipient
        BounceReason.POLICY,
        r"(?:sender|from|return.?path)(?: address| domain)? (?:is )?(?:rejected|refused|unknown|invalid|not|does)"
        r"|sender verif|envelope.?(?:from|sender)|mail from",
    ),
    (
        BounceReason.BLOCKED,
        r"spamhaus|spamcop|barracuda|proofpoint\.com|\b(?:dns|rb|ip|u)bl\b|(?:black|block|deny)\s?-?list"
        r"|\bblocked using|banned|(?:bad|poor|low) reputation|(?:ip|host|client|server|network)\b.{0,60}\bblocked"
        r"|\bblocked\b.{0,40}\b(?:ip|address|sender)|\breverse (?:dns|lookup)|\bptr\b|cannot find your hostname",
    ),
    (
        BounceReason.CONTENT,
        r"\bspam|\bjunk\b|unsolicited|\bvirus|malware|phish|content (?:was )?(?:rejected|blocked|filter|policy)"
        r"|message content|suspicious|high probability|bulk mail|attachment (?:type|extension|name)",
    ),
    (
        BounceReason.RATE_LIMITED,
        r"rate.?limit|throttl|too many (?:connections|messages|recipients|errors|emails)|too (?:fast|frequent)"
        r"|at a rate that|(?:rate|limit|number) .{0,30}exceeded|exceeded .{0,40}\b(?:rate|per (?:hour|day|minute))"
        r"|unusual(?:ly high)? rate|mailing too",
    ),
    (
        BounceReason.MAILBOX_FULL,
        r"over ?quota|quota (?:exceeded|full|violation)|exceed\w* .{0,30}quota|(?:mail)?box (?:is )?(?:full|over)"
        r"|(?:is|disk|storage) full|out of (?:storage|space)|no space left|insufficient .{0,20}(?:storage|space)",
    ),
    (
        BounceReason.MESSAGE_TOO_LARGE,
        r"(?:message|mail|size|attachments?) .{0,40}(?:too (?:large|big)|exceeds? .{0,30}(?:size|limit|maximum))"
        r"|maximum (?:message )?size|size limit",
    ),
    (BounceReason.LOOP, r"\bloop|too many hops|hop count|too many received"),
    (BounceReason.EXPIRED, r"(?:message|delivery|time|lifetime) (?:has )?expired|retry timeout|gave up"),
    (
        BounceReason.RELAYING,
        r"relay\w* (?:access )?(?:denied|prohibited|not (?:permitted|allowed))|(?:unable|not permitted|denied) to relay"
        r"|do(?:es)? not relay|not a (?:local|hosted) domain|not a relay",
    ),
    (
        BounceReason.RECIPIENT_DISABLED,
        r"(?:account|mailbox|user|address|recipient)\b.{0,60}\b(?:disabled|inactive|suspended|deactivated|closed"
        r"|locked|discontinued|expired|no longer)|no longer (?:active|in use|valid|available|works|employed)",
    ),
    (
        BounceReason.UNKNOWN_DOMAIN,
        r"(?:domain|host)(?: name)? (?:not found|does ?n.t exist|does not exist|unknown)"
        r"|(?:unknown|bad) (?:domain|host|destination host)"
        r"|null\s?mx|no mx|accepts? no mail|does not accept mail|no such domain|domain .{0,80}does not exist",
    ),
    (
        BounceReason.UNKNOWN_RECIPIENT,
        r"(?:user|recipient|mailbox|address|account|alias|addressee) .{0,80}?"
        r"(?:unknown|not (?:found|exist|known|listed)|does ?n.t (?:exist|have)|does not (?:exist|have)|is not valid"
        r"|is invalid|unavailable|not available)"
        r"|(?:unknown|invalid|no such|nonexistent|non-existent|bad|undeliverable|unrouteable)\s"
        r"(?:local |virtual |e?mail )?(?:user|recipient|mailbox|address|account|alias|person|local part)"
        r"|unknown in \w+|no mailbox|user unknown|recip(?:ient)?notfound|not our customer|no (?:one|body) here"
        r"|mailbox unavailable|not a (?:valid|known) (?:user|mailbox|recipient|address)|nosuchuser",
    ),
    (BounceReason.PROTOCOL, r"smtputf8|8bitmime|syntax error|not implemented|requires? (?:tls|starttls)"),
)
_PATTERNS = [(reason, re.compile(words, re.IGNORECASE)) for reason, words in _WORDS]
_ADDRESS = re.compile(r"<?[^\s<>@]{1,256}@[^\s<>@]{1,256}>?")

# RFC 3463 section 3 and the IANA registry, without the class.
_ENHANCED = {
    "1.0": BounceReason.UNKNOWN_RECIPIENT,
    "1.1": BounceReason.UNKNOWN_RECIPIENT,
    "1.2": BounceReason.UNKNOWN_DOMAIN,
    "1.3": BounceReason.UNKNOWN_RECIPIENT,
    "1.4": BounceReason.UNKNOWN_RECIPIENT,
    "1.6": BounceReason.UNKNOWN_RECIPIENT,
    "1.7": BounceReason.POLICY,
    "1.8": BounceReason.POLICY,
    "1.10": BounceReason.UNKNOWN_DOMAIN,
    "2.0": BounceReason.UNKNOWN_RECIPIENT,
    "2.1": BounceReason.RECIPIENT_DISABLED,
    "2.2": BounceReason.MAILBOX_FULL,
    "2.3": BounceReason.MESSAGE_TOO_LARGE,
    "2.4": BounceReason.POLICY,
    "3.1": BounceReason.MAILBOX_FULL,
    "3.4": BounceReason.MESSAGE_TOO_LARGE,
    "3.5": BounceReason.LOOP,
    "4.1": BounceReason.NETWORK,
    "4.2": BounceReason.NETWORK,
    "4.3": BounceReason.DNS,
    "4.4": BounceReason.DNS,
    "4.5": BounceReason.RATE_LIMITED,
    "4.6": BounceReason.LOOP,
    "4.7": BounceReason.EXPIRED,
    "6.7": BounceReason.PROTOCOL,
    "7.20": BounceReason.AUTHENTICATION,
    "7.21": BounceReason.AUTHENTICATION,
    "7.22": BounceReason.AUTHENTICATION,
    "7.23": BounceReason.AUTHENTICATION,
    "7.24": BounceReason.AUTHENTICATION,
    "7.25": BounceReason.BLOCKED,
    "7.26": BounceReason.AUTHENTICATION,
    "7.28": BounceReason.RATE_LIMITED,
}
_SUBJECT = {
    "3": BounceReason.TEMPORARY,
    "4": BounceReason.NETWORK,
    "5": BounceReason.PROTOCOL,
    "6": BounceReason.CONTENT,
    "7": BounceReason.POLICY,
}
_CODE = {
    421: BounceReason.TEMPORARY,
    450: BounceReason.TEMPORARY,
    451: BounceReason.TEMPORARY,
    452: BounceReason.TEMPORARY,
    500: BounceReason.PROTOCOL,
    501: BounceReason.PROTOCOL,
    502: BounceReason.PROTOCOL,
    503: BounceReason.PROTOCOL,
    504: BounceReason.PROTOCOL,
    521: BounceReason.UNKNOWN_DOMAIN,  # RFC 7504: the host takes no mail at all
    552: BounceReason.MAILBOX_FULL,
    553: BounceReason.UNKNOWN_RECIPIENT,
    556: BounceReason.UNKNOWN_DOMAIN,  # RFC 7504 section 4
}


def classify_refusal(code: int, enhanced: str | None, text: str) -> Classification:
    """Judge a refusal by reply code (0 when there is none, as in many DSNs), enhanced code and words."""
    reason = _find_reason(code, enhanced or "", text[:_MAX_TEXT])
    permanent = code >= 500 if code else (enhanced or "").startswith("5")
    if (enhanced or "").startswith("4"):
        permanent = False
    return Classification("hard" if permanent and reason in _HARD else "soft", reason)


def _find_reason(code: int, enhanced: str, text: str) -> BounceReason:
    detail = enhanced.partition(".")[2]
    worded = _read_words(text)
    if worded is not None:
        return worded
    if detail == "4.1" and code >= 500:  # Microsoft's way to say that there is no such recipient
        return BounceReason.UNKNOWN_RECIPIENT
    if detail in _ENHANCED:
        return _ENHANCED[detail]
    if (subject := detail.partition(".")[0]) in _SUBJECT:
        return _SUBJECT[subject]
    if "address rejected" in text.lower():
        return BounceReason.UNKNOWN_RECIPIENT
    if code in _CODE:
        return _CODE[code]
    return BounceReason.TEMPORARY if 400 <= code < 500 or enhanced.startswith("4") else BounceReason.OTHER


def _read_words(text: str) -> BounceReason | None:
    """The first reason of the table that the text names anywhere but in an address."""
    words = _ADDRESS.sub("@", " ".join(text.split()))
    return next((reason for reason, pattern in _PATTERNS if pattern.search(words)), None)
