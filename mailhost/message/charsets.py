"""From octets to text, whatever the label says (RFC 2045 section 5, RFC 2047, WHATWG Encoding Standard).

Labels in the wild promise less than senders use: mail called ISO-8859-1 is Windows-1252, GB2312 is GB18030,
KS C 5601 is CP949. The WHATWG table of labels is what browsers settled on, so mail reads here as it does
there. Nothing raises: what cannot be decoded becomes U+FFFD.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

_MAX_LABEL = 40

# Labels that say nothing, or that senders use for whatever they have.
_SAYS_NOTHING = frozenset(
    {
        "", "unknown", "unknown-8bit", "x-unknown", "8bit", "7bit", "binary", "default", "none", "x-user",
        "x-user-defined", "us-ascii", "ascii", "ansi_x3.4-1968", "iso646-us", "_autodetect",
    }
)  # fmt: skip

_WIDER = {
    "iso8859-1": "cp1252",
    "latin1": "cp1252",
    "latin-1": "cp1252",
    "l1": "cp1252",
    "iso8859-9": "cp1254",
    "latin5": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gb_2312-80": "gb18030",
    "gbk": "gb18030",
    "x-gbk": "gb18030",
    "cp936": "gb18030",
    "euc-cn": "gb18030",
    "hz-gb-2312": "hz",
    "big5": "big5hkscs",
    "big-5": "big5hkscs",
    "cn-big5": "big5hkscs",
    "x-x-big5": "big5hkscs",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "ks_c_5601-1989": "cp949",
    "ks_c_5601": "cp949",
    "ksc5601": "cp949",
    "ksc_5601": "cp949",
    "korean": "cp949",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "sjis": "cp932",
    "x-sjis": "cp932",
    "ms_kanji": "cp932",
    "x-euc-jp": "euc_jp",
    "iso-2022-jp": "iso2022_jp_ext",
    "csiso2022jp": "iso2022_jp_ext",
    "macintosh": "mac_roman",
    "x-mac-roman": "mac_roman",
    "x-mac-cyrillic": "mac_cyrillic",
    "unicode-1-1-utf-8": "utf-8",
    "unicode-1-1-utf-7": "utf-7",
    "x-unicode-2-0-utf-7": "utf-7",
    "utf8mb4": "utf-8",
    "utf-8mb4": "utf-8",
    "unicode": "utf-16",
}

# Python codecs that are no charsets of mail: escapes, host names, always failing, bound to one system.
_NOT_CHARSETS = frozenset({"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "mbcs", "oem"})
_WINDOWS_LABEL = re.compile(r"(?:x-)?(?:windows|win|cp|ibm)[-_ ]?(\d{3,5})")
_ISO_LABEL = re.compile(r"(?:iso)?[-_ ]?8859[-_ ](\d{1,2})(?:-[ie])?(?::\d{4})?")


def decode_text(data: bytes, label: str | None) -> tuple[str, bool]:
    """Decode `data` that is said to be in the charset `label`.

    Returns the text and whether it decoded cleanly; a label that nobody knows, or octets that do not fit it,
    give False.
    """
    codec = find_codec(label or "")
    if codec == "":
        return _guess(data), label is None or data.isascii()
    if codec is None:
        return _guess(data), False
    try:
        return data.decode(codec), True
    except (UnicodeError, ValueError):
        pass
    if codec != "utf-8" and (text := _decode_strict(data, "utf-8")) is not None:
        return text, False
    try:
        return data.decode(codec, "replace"), False
    except (UnicodeError, ValueError):  # codecs that cannot replace
        return _guess(data), False


def decode_unlabelled(data: bytes, hint: str = "") -> str:
    """Text of octets that came without a label: UTF-8 where it fits (RFC 6532), then the charset `hint`, which is
    what the same mail uses elsewhere, else Windows-1252.
    """
    if hint and not data.isascii() and _decode_strict(data, "utf-8") is None and (codec := find_codec(hint)):
        text = _decode_strict(data, codec)
        if text is not None:
            return text
    return _guess(data)


@lru_cache(maxsize=512)
def find_codec(label: str) -> str | None:
    """The Python codec for a charset label: "" when the label says nothing, None when nobody knows it."""
    name = label[: _MAX_LABEL + 1].strip(" \t\"'").lower().partition("*")[0]  # RFC 2231 5: charset*language
    if name in _SAYS_NOTHING:
        return ""
    if len(name) > _MAX_LABEL:
        return None
    if iso := _ISO_LABEL.fullmatch(name):
        name = f"iso8859-{iso[1]}"
    elif windows := _WINDOWS_LABEL.fullmatch(name):
        name = f"cp{windows[1]}"
    name = _WIDER.get(name, name)
    try:
        found = codecs.lookup(name).name
        b"aaaa".decode(found, "replace")  # refuses codecs that are not text, such as zlib: a decompression bomb
    except (LookupError, ValueError, UnicodeError):
        return None
    if found == "ascii":
        return ""
    return None if found.replace("_", "-") in _NOT_CHARSETS else found


def _guess(data: bytes) -> str:
    if data.isascii():
        if b"\x1b$" in data and (japanese := _decode_strict(data, "iso2022_jp_ext")) is not None:
            return japanese
        return data.decode("ascii")
    text = _decode_strict(data, "utf-8")
    return data.decode("cp1252", "replace") if text is None else text


def _decode_strict(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except (UnicodeError, ValueError):
        return None
