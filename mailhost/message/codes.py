"""The two things that programs wait for mail for: a one-time code, and a link to click.

No standard says how they are written, so both are found as a person finds them: by how they look and by the words
around them, in the languages that such mail comes in. Every candidate gets points for what speaks for it and loses
some for what speaks against it (a year, a price, an order number, an unsubscribe link); the best one above a
threshold is taken, and rather none than a wrong one. All input is cut to a length first, and every expression here
takes time in proportion to its text.
"""

# ruff: noqa: RUF001 - letters of other alphabets are meant

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from mailhost.message.html import html_to_text

MAX_TEXT = 40_000
"""Characters of each text that are looked at."""
MAX_HTML = 300_000
"""Characters of HTML that are read for its text."""
_MAX_LINE = 4_000
_MAX_CANDIDATES = 200
_CODE_THRESHOLD = 5.0
_LINK_THRESHOLD = 4.0


@dataclass(frozen=True, slots=True)
class Extracted:
    """What a mail asks its reader to type or to open."""

    otp_code: str | None = None
    verification_link: str | None = None


def extract_codes(*, subject: str, text: str, html: str = "") -> Extracted:
    """The one-time code and the verification link of a mail, each None when there is none. Never raises."""
    title = unicodedata.normalize("NFKC", subject[:_MAX_LINE])[:_MAX_LINE]
    texts = [text]
    if html:
        texts.append(html_to_text(html[:MAX_HTML]))
    bodies = [_split_lines(body) for body in texts if body.strip()]
    # The HTML is what its sender has looked at; the plain text beside it is often a stub, but as often the cleaner one.
    codes = [_find_code(title, lines) for lines in bodies or [[]]]
    links = [_find_link(title, lines) for lines in bodies]
    return Extracted(_best(codes), _best(links))


def _best(found: list[tuple[float, str] | None]) -> str | None:
    known = [one for one in found if one is not None]
    return max(known, key=lambda one: one[0])[1] if known else None


def _split_lines(text: str) -> list[str]:
    """The filled lines; digits that stand on lines of their own, as boxes of a form do, are joined."""
    normal = unicodedata.normalize("NFKC", text[:MAX_TEXT])[: 2 * MAX_TEXT]
    lines = [line.strip(" \t>|")[:_MAX_LINE] for line in _INVISIBLE.sub("", normal).splitlines()]
    joined: list[str] = []
    boxes: list[str] = []
    for line in filter(None, lines):
        if len(line) == 1 and line.isascii() and line.isalnum():
            boxes.append(line)
            continue
        joined += _close_boxes(boxes)
        boxes = []
        joined.append(line)
    return joined + _close_boxes(boxes)


def _close_boxes(boxes: list[str]) -> list[str]:
    return ["".join(boxes)] if len(boxes) >= 4 else boxes


_INVISIBLE = re.compile("[\u200b-\u200f\u2060\u00ad\u034f\ufeff\u202a-\u202e]")


# One-time codes


_KEYWORD = re.compile(
    r"""
      \b\w{0,30}codes?\b | \bpass-?codes?\b | \botps?\b | \bone[ -]time | \bpins?\b | \b2fa\b | \bmfa\b | \btans?\b
    | \btwo[ -]factor | \btwo[ -]step | \btemporary\ password | \bverification\ number | \btoken\b
    | \beinmal(?:passwort|kennwort|code) | \bc[oó]digos?\b | \bclave\b | \bcodici?e?\b | \bcodul\b | \bcod\b
    | \bk[oó]d(?:en|u|unuz|em|y|ot|ja)?\b | \bkode(?:n|ne)?\b | \bkoodi(?:si|n)?\b | \bmã\b | \busage\ unique
    | \bкод(?:ом|а|у)?\b | \bпарол[ья]\b | \bκωδικ[όο]ς?\b | رمز | كود | קוד | कोड | ओटीपी | รหัส
    | 验证码 | 驗證碼 | 校验码 | 动态码 | 動態密碼 | 动态密码 | 一次性 | 確認碼 | 确认码 | 认证码
    | コード | 認証番号 | 暗証番号 | ワンタイム | 인증\ ?번호 | 인증\ ?코드 | 코드 | 확인\ ?번호
    """,
    re.IGNORECASE | re.VERBOSE,
)
# Codes that are something else. They are blanked out before anybody looks for the words above.
_OTHER_CODE = re.compile(
    r"""\b(?:zip|postal|post|area|country|dialling|dialing|qr|source|error|status|promo(?:tion(?:al)?)?|discount|coupon
    |voucher|gift|referral|invite|offer|dress|bar|tax|product|item|sort|swift|bic|colou?r|tracking|booking|order
    |reservation|customer|rabatt|gutschein|aktions|bestell|kunden|buchungs|descuento|promocional|postleit|sales)
    [ -]?(?:codes?|kode|kod|c[oó]digo|codice|pins?)\b
    | \bcode(?:s)?\ (?:of\ conduct|base|review|promo|postal|r[eé]duction|barres|sample)
    | \bc[oó]digos?\ (?:promocional|de\ descuento|postal|de\ barras) | \bcodice\ (?:sconto|fiscale|promozionale)
    | 優惠碼 | 优惠码 | 邮政编码 | クーポンコード | 쿠폰\ ?코드 | 프로모션\ ?코드 | 招待コード""",
    re.IGNORECASE | re.VERBOSE,
)
_SKIPPED = re.compile(r"(?:https?://|www\.)[^\s<>\"]+|[^\s<>@]{1,64}@[^\s<>@]{1,255}", re.IGNORECASE)
_CANDIDATE = re.compile(
    r"""
    (?<![A-Za-z0-9_$€£¥₹₽+#.@/]) (?<![0-9][.,/:-]) (?<![$€£¥₹₽+#]\ )
    (?:
        (?P<digits> [0-9]{4,8} | [0-9]{3}[ -][0-9]{3} | [0-9]{4}[ -][0-9]{4} | [0-9]{2}[ -][0-9]{2}[ -][0-9]{2}
          | (?:[0-9][ ]){3,7}[0-9] )
      | (?P<prefixed> [A-Z]-[0-9]{4,8} )
      | (?P<mixed> (?=[A-Z-]{0,30}[0-9]) (?=[0-9-]{0,30}[A-Z]) [A-Z0-9]{3,10} (?:-[A-Z0-9]{3,6}){0,3} )
      | (?P<letters> [A-Z]{4,8} (?:-[A-Z]{3,6})? )
      | (?P<lower> (?=[a-z]{0,10}[0-9]) (?=[0-9]{0,10}[a-z]) [a-z0-9]{5,10} )
    )
    (?![A-Za-z0-9_@%$€£¥₹₽]) (?![.,:/-][0-9]) (?!-[A-Za-z]) (?!\.[A-Za-z]) (?![ ]?[%€£$¥₹₽])
    """,
    re.VERBOSE,
)
_AGAINST_BEFORE = re.compile(
    r"""(?: \b(?:order|invoice|ref(?:erence)?|ticket|case|case\ id|account|acct|customer\ (?:id|no|number)|booking
    |transaction|receipt|tracking|shipment|parcel|policy|contract|serial|model|part|flight|room|suite|ste|apt|unit|box|floor|street|st
    |tel|phone|call|fax|mobile|whatsapp|sms|ext|since|copyright|in|until|by|of|version|build|release|ending(?:\ in)?
    |ends\ with|last\ (?:four|4)(?:\ digits)?|card|iban|vat|zip|total|amount|price|save|usd|eur|gbp|inr|rs
    |bestellung|bestellnummer|bestellnr|auftrag|auftragsnummer|rechnung|rechnungsnummer|kundennummer|vorgang
    |vorgangsnummer|telefon|seit|commande|facture|r[eé]f[eé]rence|pedido|factura|tel[eé]fono|ordine|fattura
    |jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:t(?:ember)?)?|oct(?:ober)?
    |nov(?:ember)?|dec(?:ember)?|januar|februar|m[äa]rz|juni|juli|oktober|dezember|de)\b
    | © | \(c\) | № | 订单号? | 注文番号 | 주문\ ?번호 | 电话 | 電話 )
    [\s.,:\#-]{0,4} (?:(?:number|no|nr|id|num[eé]ro|is|ist|est|es)\b[\s.:\#]{0,3}){0,2} [0-9.,/: -]{0,12} $""",
    re.IGNORECASE | re.VERBOSE,
)
_AGAINST_AFTER = re.compile(
    r"""^\s?(?: (?:usd|eur|gbp|dollars?|euros?|inr|kr|z[lł]|rub|руб|元|円|원
    |minutes?|mins?|hours?|hrs?|seconds?|secs?|days?|weeks?|months?|years?|minuten?|stunden?|tage?n?|jahren?|minutos?
    |horas?|jours?|heures?|km|kg|gb|mb|tb|points?|people|users?|members?|items?|followers?|customers?|characters?
    |st|street|avenue|ave|road|rd|blvd|th|am|pm|uhr|inc|ltd|llc|gmbh)\b | 分钟 | 年 | 月 | 日 | 년 | 분 )""",
    re.IGNORECASE | re.VERBOSE,
)
_PROMOTION = re.compile(
    r"\b(?:promo|discount|coupon|voucher|gutschein|rabatt|% off|checkout|sale|descuento|sconto|r[eé]duction)", re.I
)
_YEAR = re.compile(r"(?:19|20)[0-9]{2}")
_NAMES = re.compile(
    r"(?:UTF|ISO|RFC|HTTP|SHA|MD|AES|MP|COVID|WEB|B2B|B2C|H264|IPV|OAUTH|WIN|PO|S)-?[0-9]", re.IGNORECASE
)
_COMMON_WORDS = frozenset(
    {
        "CODE", "CODES", "PASSCODE", "THIS", "YOUR", "PLEASE", "NEVER", "SHARE", "EMAIL", "HELLO", "DEAR", "BELOW",
        "ENTER", "VERIFY", "LOGIN", "SIGN", "HERE", "NOTE", "WITH", "FROM", "WILL", "EXPIRE", "EXPIRES", "VALID",
        "ONLY", "THANKS", "TEAM", "ACCOUNT", "SECURITY", "IMPORTANT", "WARNING", "CONFIRM", "CLICK", "HTTP", "HTTPS",
        "HTML", "JSON", "KODE", "CODICE", "CODIGO", "BITTE", "NICHT", "WELCOME", "COPY", "PASTE", "VALUE", "NONE",
        "NULL", "REQUIRED", "SENT", "USED", "READY", "FREE", "SOON", "TRUE", "FALSE", "PROMO", "SALE", "TEXT",
    }
)  # fmt: skip


def _find_code(subject: str, lines: list[str]) -> tuple[float, str] | None:
    """The best code with its points."""
    blanked = [_blank(subject), *(_blank(line) for line in lines)]
    in_subject = _KEYWORD.search(blanked[0]) is not None
    best: tuple[float, str] | None = None
    looked = 0
    for index, line in enumerate(blanked):
        for match in _CANDIDATE.finditer(line):
            looked += 1
            if looked > _MAX_CANDIDATES:
                return best
            points = _rate_code(blanked, index, match) + (2.0 if in_subject and index else 0.0)
            if points >= _CODE_THRESHOLD and (best is None or points > best[0]):
                best = (points, _read_code(match))
    return best


def _blank(line: str) -> str:
    return _OTHER_CODE.sub(" ; ", _SKIPPED.sub(" \ufffc ", line))


def _read_code(match: re.Match[str]) -> str:
    if match["digits"]:
        return re.sub("[ -]", "", match[0])
    # "G-123456": the letter stands before the field already, and the dash is not typed.
    return match[0][2:] if match["prefixed"] else match[0]


def _rate_code(lines: list[str], index: int, match: re.Match[str]) -> float:
    line = lines[index]
    before, after = line[max(0, match.start() - 100) : match.start()], line[match.end() : match.end() + 100]
    alone = not before.strip(" *_-:#\"'([`•→") and not after.strip(" *_-.\"')]`•←")
    points = _rate_looks(match) + (2.0 if alone else 0.0)
    near = _rate_words(lines, index, before, after, alone)
    # Words look like this as well: only right behind the keyword, or alone under it.
    if (match["letters"] or match["lower"]) and near < 6.0 and not (alone and near >= 3.0):
        return 0.0
    points += near
    if _AGAINST_BEFORE.search(before) or _AGAINST_AFTER.search(after):
        points -= 6.0
    if (
        _PROMOTION.search(before)
        or _PROMOTION.search(after)
        or (alone and index and _PROMOTION.search(lines[index - 1]))
    ):
        points -= 6.0
    return points


def _rate_looks(match: re.Match[str]) -> float:
    if match["digits"]:
        digits = re.sub("[ -]", "", match[0])
        if len(digits) == 4 and _YEAR.fullmatch(digits):
            return -1.5
        return 1.5 if len(digits) == 6 else 0.5
    if match["prefixed"]:
        return 1.5
    if match["letters"]:
        return -20.0 if match[0] in _COMMON_WORDS else -0.5
    return -20.0 if _NAMES.match(match[0]) else 0.5


def _rate_words(lines: list[str], index: int, before: str, after: str, alone: bool) -> float:
    """Points for the words that announce a code, the nearer the better."""
    points = 0.0
    keywords = list(_KEYWORD.finditer(before))
    if keywords:
        between = before[keywords[-1].end() :]
        points = 7.0 if len(between) <= 30 and _CONNECTION.fullmatch(between) else 4.0 if "." not in between else 2.0
    elif (follows := _KEYWORD.search(after)) is not None and "." not in after[: follows.start()]:
        points = 5.0 if _IS_YOUR.match(after) else 3.5
    if alone or (points == 0.0 and len(lines[index]) < 50):
        for distance in (1, 2, 3):
            if index - distance >= 0 and _KEYWORD.search(lines[index - distance]):
                points = max(points, 5.0 - distance)
                break
        if alone and index + 1 < len(lines) and _KEYWORD.search(lines[index + 1]):
            points = max(points, 2.0)
    return points


_CONNECTION = re.compile(
    r"""(?:[\s:=*_\#"'(\[`→>：—–-]|\b(?:is|are|was|ist|lautet|est|es|é|è|er|är|on|to|jest|this|below|the|number|follows
    |as|for|you|now|acest|este|adalah|là|to|be|verification)\b|は|が|为|為|是|는|은|입니다|है|هو|هي|това|это){0,12}""",
    re.IGNORECASE | re.VERBOSE,
)
_IS_YOUR = re.compile(
    r"\s*(?:[-–—:]|\bis\b|\bist\b|\best\b|\bes\b|\bè\b|\bé\b|\bto\b|\bas\b|は|が|是|为|است|to\b)", re.IGNORECASE
)


# Verification links


_URL = re.compile(r"https?://[^\s<>\"'(){}|\\^`\[\]\u3000-\u303f\uff00-\uffef\ufffc]{4,2000}", re.IGNORECASE)
_STRONG_WORDS = re.compile(
    r"""\b(?:verif(?:y|ies|ication|izier\w*|i(?:ca|que)\w*|ieer\w*)|confirm\w*|activat\w*|validat\w*|best[äa]tig\w*
    |aktivier\w*|freischalt\w*|v[eé]rifi\w+|activ(?:er|ez|ar|a|e)\b|valider|validez|confirmar|conferma\w*|attiva\w*
    |bevestig\w*|activeer\w*|potwierd[zź]\w*|aktywuj\w*|bekr[äa]ft\w*|bekr[æe]ft\w*|vahvista\w*|onayla\w*
    |do[ğg]rula\w*|magic\ link|complete\ (?:your\ )?(?:sign[ -]?up|registration)|подтверд\w*|активир\w*|επιβεβαί\w*
    |xác\ (?:nhận|minh))|验证|驗證|确认|確認|激活|認証|有効化|인증|확인|활성화|تأكيد|تفعيل|אימות|אשר|पुष्टि|ยืนยัน""",
    re.IGNORECASE | re.VERBOSE,
)
_WEAK_WORDS = re.compile(
    r"""\b(?:sign[ -]?in|log[ -]?in|sign[ -]?up|reset|password|accept|invit\w+|get\ started|click\ (?:here|the|this|on)
    |link\ below|follow\ (?:this|the)\ link|set\ up|anmelden|einloggen|passwort|zur[üu]cksetzen|klick\w*|einladung
    |cliquez|connexion|mot\ de\ passe|haga\ clic|haz\ clic|contrase[ñn]a|iniciar\ sesi[oó]n|clicca|accedi|войти
    |ссылк\w*)|点击|點擊|登录|登入|クリック|ログイン|링크|로그인""",
    re.IGNORECASE | re.VERBOSE,
)
_STRONG_PATH = re.compile(
    r"verif|confirm|activat|validat|magic|double-?opt|optin|opt-in|bestaetig|signup/complete", re.I
)
_WEAK_PATH = re.compile(
    r"invit|accept|reset|passw|auth|sign-?in|log-?in|token|callback|onboard|otp|ticket=|code=|key=", re.I
)
_TOKEN = re.compile(r"[A-Za-z0-9_.~%+-]{16,}")
_AGAINST_PATH = re.compile(
    r"""unsub|abmeld|desinscri|desabonn|opt-?out|preferenc|/privacy|/terms|/legal|/policies|/policy|/help|/support|/faq
    |/contact|/about|/careers|/blog|/docs?(?:/|$)|view-?in-?browser|viewonline|web-?version|report-?abuse|list-manage
    |facebook\.com|twitter\.com|//x\.com|linkedin\.com|instagram\.com|youtube\.com|apps\.apple\.com|itunes\.apple
    |play\.google\.com|\.(?:png|jpe?g|gif|svg|css|js|ico|woff2?)(?:$|\?)""",
    re.IGNORECASE | re.VERBOSE,
)
_AGAINST_WORDS = re.compile(
    r"""unsubscribe|abmelden|abbestellen|d[eé]sabonn|d[eé]sinscri|darse\ de\ baja|annulla\ iscrizione|preferences
    |privacy|terms\ of|view\ (?:this\ email\ )?(?:in|online)|im\ browser|help\ cent|contact\ (?:us|support)
    |退订|配信停止""",
    re.IGNORECASE | re.VERBOSE,
)
_DENIAL = re.compile(
    r"""\b(?:(?:did\ ?n[o']t|was\ ?n[o']t|weren't|do\ not|don't)\b.{0,60}\b(?:request|you|make|sign|recogni|initiat
    |this)|not\ you\b|secure\ (?:your|my)\ account|report\ (?:this|it)|cancel\ (?:this|the)
    |nicht\ (?:von\ ihnen|angefordert))
    """,
    re.IGNORECASE | re.VERBOSE,
)


def _find_link(subject: str, lines: list[str]) -> tuple[float, str] | None:
    """The best link with its points."""
    bonus = 1.0 if _STRONG_WORDS.search(subject) else 0.0
    best: tuple[float, str] | None = None
    for url, words in _links(lines):
        points = _rate_link(url, words) + bonus
        if points >= _LINK_THRESHOLD and (best is None or points > best[0]):
            best = (points, url)
    return best


def _links(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Each link with the words that lead to it: before it on its line, else the lines above."""
    looked = 0
    for index, line in enumerate(lines):
        end = 0
        for match in _URL.finditer(line):
            looked += 1
            if looked > _MAX_CANDIDATES:
                return
            words = line[end : match.start()].strip(" <-:")
            end = match.end()
            if len(words) < 3 and index:
                words = " ".join(line for line in lines[max(0, index - 2) : index] if not _URL.search(line))
            yield match[0].rstrip(".,;:!?*_"), words


def _rate_link(url: str, words: str) -> float:
    try:
        parts = urlsplit(url)
    except ValueError:
        return 0.0
    place = f"{parts.path}?{parts.query}#{parts.fragment}"
    points = 4.0 if _STRONG_PATH.search(place) else 2.0 if _WEAK_PATH.search(place) else 0.0
    points += 4.0 if _STRONG_WORDS.search(words) else 2.0 if _WEAK_WORDS.search(words) else 0.0
    if _TOKEN.search(place):
        points += 2.0
    elif len(place) <= 4:
        points -= 4.0  # a home page
    if _AGAINST_PATH.search(url) or _AGAINST_WORDS.search(words):
        points -= 8.0
    if _DENIAL.search(words):
        points -= 6.0
    return points
