"""Plain text from the HTML of a mail, for readers that want text (and for search and extraction).

Not a browser: no styles, no tables drawn. Line breaks fall where blocks begin and end, links keep their address,
list items and quotes are marked as in plain-text mail. Python's own `html.parser` needs quadratic time on input
made for that, so the few tokens that matter are found here, in one pass over at most `MAX_INPUT` characters.
"""

from __future__ import annotations

import html
import re

MAX_INPUT = 1024 * 1024
"""Characters of HTML that are looked at; what follows is left out."""

_MAX_QUOTE_DEPTH = 10

# An attribute value in quotes may hold a >. A quote that never closes makes this fail once, at the very end.
_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]*+)((?:[^>\"']|\"[^\"]*\"|'[^']*')*+)>")
_SIMPLE_TAG = re.compile(r"<(/?)([a-zA-Z][^\s/>]*+)([^>]*+)>")
_MARKUP = re.compile(r"<(?:[a-zA-Z/!?])")
_ATTRIBUTE = re.compile(r"([a-zA-Z-]{1,40})\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))")
_SPACES = re.compile(r"[ \t\r\n\f\v\u200b\u200c\ufeff\u00ad\u034f]+")
_BLANK_LINES = re.compile(r"\n{3,}")

# Elements whose content is not shown, with what ends them. Only the first two need their end tag to be there:
# without it, an open head or title would hide the whole mail.
_HIDDEN = {
    name: re.compile(rf"</{name}[\s/>]{more}", re.IGNORECASE)
    for name, more in (("script", ""), ("style", ""), ("head", "|<body"), ("title", ""), ("template", ""), ("svg", ""))
}
_BLOCKS = frozenset(
    {
        "address", "article", "aside", "body", "center", "dd", "div", "dl", "dt", "fieldset", "footer", "form",
        "header", "html", "li", "main", "nav", "section", "table", "tbody", "tfoot", "thead", "tr", "option",
        "legend", "figcaption", "figure", "caption",
    }
)  # fmt: skip
_PARAGRAPHS = frozenset({"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "pre", "blockquote", "hr"})
_LINK_SCHEMES = ("http://", "https://", "mailto:", "tel:")


def html_to_text(source: str) -> str:
    """The text of an HTML document: paragraphs parted by a blank line, `text <url>` for links. Never raises."""
    return _Renderer(source[:MAX_INPUT]).render()


class _Renderer:
    def __init__(self, source: str) -> None:
        self._source = source
        self._tag = _TAG
        self._lines: list[str] = []
        self._line: list[str] = []
        self._never_closed: set[str] = set()
        self._blank_wanted = False
        self._quote_depth = 0
        self._last_quote_depth = 0
        self._in_pre = 0
        self._link: str | None = None
        self._link_text: list[str] = []

    def render(self) -> str:
        position, end = 0, len(self._source)
        while position < end:
            markup = _MARKUP.search(self._source, position)
            if markup is None:
                self._add_text(self._source[position:])
                break
            self._add_text(self._source[position : markup.start()])
            position = self._read_markup(markup.start())
        self._close_link()
        self._break_line()
        return _BLANK_LINES.sub("\n\n", "\n".join(self._lines)).strip("\n")

    def _read_markup(self, start: int) -> int:
        """Handle the tag or comment at `start`; returns the offset after it."""
        source = self._source
        if source.startswith("<!--", start):
            end = source.find("-->", start + 2)
            return end + 3 if end >= 0 else len(source)
        if source[start + 1] in "!?" or (source[start + 1] == "/" and not source[start + 2 : start + 3].isalpha()):
            end = source.find(">", start)
            return end + 1 if end >= 0 else len(source)
        match = self._tag.match(source, start)
        if match is None and self._tag is _TAG:
            self._tag = _SIMPLE_TAG  # some quote is never closed: from here on a > ends a tag wherever it stands
            match = self._tag.match(source, start)
        if match is None:
            return len(source)  # an unfinished tag, as browsers see it
        name = match[2].lower()
        if match[1]:
            self._close_tag(name)
        elif name in _HIDDEN:
            return self._skip_element(name, match.end())
        else:
            self._open_tag(name, match[3])
        return match.end()

    def _skip_element(self, name: str, position: int) -> int:
        """The offset after the end tag of an element whose content is not shown."""
        if name in self._never_closed:
            return position
        end = _HIDDEN[name].search(self._source, position)
        if end is None:
            self._never_closed.add(name)  # searched for once only
            return len(self._source) if name in ("script", "style") else position
        return end.start()

    def _open_tag(self, name: str, attributes: str) -> None:
        if name == "br":
            self._break_line(always=True)
        elif name in _PARAGRAPHS or name in _BLOCKS:
            self._open_block(name)
        elif name == "a":
            self._close_link()
            self._link = _link_target(attributes)
        elif name in ("td", "th") and any(text.strip() for text in self._line):
            self._add_text(" ")
        elif name == "img":
            self._add_text(_attribute(attributes, "alt")[:200])

    def _open_block(self, name: str) -> None:
        self._break_line()
        if name in _PARAGRAPHS:
            self._blank_wanted = True
        if name == "li":
            self._line.append("- ")
        elif name == "pre":
            self._in_pre += 1
        elif name == "blockquote":
            self._quote_depth += 1
        elif name == "hr":
            self._line.append("---")
            self._break_line()

    def _close_tag(self, name: str) -> None:
        if name == "a":
            self._close_link()
        elif name in _PARAGRAPHS or name in _BLOCKS:
            self._break_line()
            if name in _PARAGRAPHS:
                self._blank_wanted = True
            if name == "pre":
                self._in_pre = max(self._in_pre - 1, 0)
            elif name == "blockquote":
                self._quote_depth = max(self._quote_depth - 1, 0)

    def _add_text(self, text: str) -> None:
        if not text:
            return
        if "&" in text:
            text = _unescape(text)
        if self._in_pre:
            first, *rest = text.replace("\r\n", "\n").split("\n")
            self._line.append(first)
            for line in rest:
                self._break_line(always=True)
                self._line.append(line)
            return
        text = _SPACES.sub(" ", text)
        if self._link is not None:
            self._link_text.append(text)
        self._line.append(text)

    def _close_link(self) -> None:
        """Put the address of a link behind its text, unless the text is the address."""
        target, self._link = self._link, None
        text = "".join(self._link_text).strip()
        self._link_text.clear()
        if not target or text in (target, target.removeprefix("mailto:"), target.rstrip("/")):
            return
        joined = "" if not self._line or self._line[-1].endswith(" ") else " "
        self._line.append(f"{joined}<{target}>" if text else f"<{target}>")

    def _break_line(self, *, always: bool = False) -> None:
        """End the current line; an empty one counts only after a line break that the writer asked for."""
        text = "".join(self._line).replace("\xa0", " ")
        text = text.rstrip() if self._in_pre else re.sub(r" {2,}", " ", text).strip(" ")
        self._line.clear()
        if not text and not always:
            return
        depth = min(self._quote_depth, _MAX_QUOTE_DEPTH)
        if self._blank_wanted and self._lines:
            self._lines.append(("> " * min(depth, self._last_quote_depth)).rstrip())
        self._blank_wanted = False
        self._last_quote_depth = depth
        self._lines.append(("> " * depth + text).rstrip())


def _link_target(attributes: str) -> str | None:
    target = re.sub(r"\s+", "", _attribute(attributes, "href"))
    return target if target.lower().startswith(_LINK_SCHEMES) else None


def _attribute(attributes: str, wanted: str) -> str:
    for match in _ATTRIBUTE.finditer(attributes):
        if match[1].lower() == wanted:
            return _SPACES.sub(" ", _unescape(match[2] or match[3] or match[4] or "")).strip()
    return ""


def _unescape(text: str) -> str:
    try:
        return html.unescape(text)
    except ValueError:  # a character reference of thousands of digits
        return text
