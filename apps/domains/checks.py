"""Comparing what should be published with what the DNS answers: by meaning, not by text."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from apps.domains.selectors import DnsRecord
from mailhost.dns.resolver import DnsNotFound, DnsTemporary, Resolver

_SHOWN = 500
_ONLY_ONE = ("spf", "dmarc")  # RFC 7208, section 4.5; RFC 7489, section 6.6.3


@dataclass(frozen=True, slots=True)
class Finding:
    """How one record was found."""

    key: str
    purpose: str
    status: str
    found: str = ""
    fix: str = ""


async def check_records(records: Sequence[DnsRecord], resolver: Resolver) -> list[Finding]:
    """Look every record up at once; in the order of `records`."""
    return list(await asyncio.gather(*(_check_record(record, resolver) for record in records)))


async def _check_record(record: DnsRecord, resolver: Resolver) -> Finding:
    key = record.purpose
    if record.purpose == "dkim":
        key = f"dkim:{record.name.partition('.')[0]}"
    try:
        if record.type == "MX":
            answers = [host.rstrip(".").lower() or "." for _, host in await resolver.mx(record.name)]
        else:
            answers = await resolver.txt(record.name)
    except DnsNotFound:
        answers = []
    except DnsTemporary as error:
        fix = "The name server did not answer; try again later, or look after it if this stays."
        return Finding(key, record.purpose, "dns_error", str(error)[:_SHOWN], fix)
    found = _relevant(record, answers)
    publish = f"Publish {record.type} {record.name} with the value {record.value}"
    if not found:
        return Finding(key, record.purpose, "missing", "", f"{publish}.")
    shown = "; ".join(found)[:_SHOWN]
    if len(found) > 1 and record.purpose in _ONLY_ONE:
        fix = f"Leave one of the {len(found)} {record.purpose.upper()} records: receivers heed none of several."
        return Finding(key, record.purpose, "wrong", shown, fix)
    match = next((answer for answer in found if _means_the_same(record, answer)), None)
    if match is None:
        return Finding(key, record.purpose, "wrong", shown, f"{publish} in place of what is there.")
    return Finding(key, record.purpose, "valid", match[:_SHOWN])


def _relevant(record: DnsRecord, answers: list[str]) -> list[str]:
    """Of all TXT records of a name, those that are of this kind: a domain's apex carries many."""
    tag = {"spf": "v=spf1", "dmarc": "v=dmarc1", "ownership": "mailhost-verification="}.get(record.purpose)
    if tag is None:
        return answers
    return [answer for answer in answers if answer.strip().lower().startswith(tag)]


def _means_the_same(record: DnsRecord, answer: str) -> bool:
    match record.purpose:
        case "mx":
            return answer == record.value.rstrip(".").lower()
        case "dkim":
            wanted, got = _tags(record.value), _tags(answer)
            same_type = wanted.get("k", "rsa") == got.get("k", "rsa")
            return same_type and bool(got.get("p")) and wanted["p"] == got["p"]
        case "spf":
            mechanism = record.value.split()[1].lower()
            return mechanism in [term.removeprefix("+") for term in answer.lower().split()]  # RFC 7208, section 4.6
        case "dmarc":
            return "p" in _tags(answer)
        case _:
            return answer.strip() == record.value


def _tags(text: str) -> dict[str, str]:
    """A tag=value list (RFC 6376, section 3.2), white space inside values removed."""
    pairs = (item.partition("=") for item in text.split(";")[:50])
    return {name.strip().lower(): "".join(value.split()) for name, _, value in pairs if name.strip()}
