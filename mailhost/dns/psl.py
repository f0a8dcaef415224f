"""Where one owner's names begin: organizational domains by the Public Suffix List (RFC 7489 section 3.2).

The list comes inside a package that is renewed daily; nothing is fetched. Its private part counts too: users of a
hosting service under one suffix are not each other.
"""

from __future__ import annotations

from functools import cache, lru_cache

from publicsuffixlist import PublicSuffixList


@lru_cache(maxsize=4096)
def organizational_domain(domain: str) -> str:
    """The domain that was registered: "example.co.uk" for "mail.example.co.uk"; a public suffix is its own.

    `domain` is in lower-case ASCII. A top-level domain that the list does not know is taken for a suffix. The first
    call reads the list (0.1 s, 2 MB).
    """
    return load_public_suffixes().privatesuffix(domain) or domain


@cache
def load_public_suffixes() -> PublicSuffixList:
    """The list, read once. Programs that must not stop for 0.1 s later call this when they start."""
    return PublicSuffixList()
