"""The environment: every variable the product knows is read here, once, and nowhere else.

Each variable may also come from a file: `NAME_FILE` names a file whose content (white space at its
ends removed) is the value. A bad value raises `BadEnvironment` with one sentence that names the
variable and says what is allowed; values that may hold a secret are never repeated in it.
`deploy/env.example` documents the same list, and a test keeps the two equal.
"""

import contextlib
import ipaddress
import os
import re
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
T = TypeVar("T")

PROJECT = Path(__file__).resolve().parent.parent
SECRET_KEY_FILE = "secret-key"  # noqa: S105 - a file name
DATABASE_URL_FILE = "database-url"
REDIS_URL_FILE = "redis-url"
SOCKET_FOLDER = Path("postgres") / "socket"
DELIVERY_MODES = ("hold", "direct", "relay")
DIALECTS = ("sendook", "agentry", "agentmail", "inkbox", "agentsend", "postern")
LOG_FORMATS = ("console", "json")
LOG_LEVELS = ("debug", "info", "warning", "error")
BLOB_STORES = ("database",)
DEFAULT_PORTS = {
    "MAILHOST_HTTP_PORT": 8000,
    "MAILHOST_SMTP_PORT": 2525,
    "MAILHOST_SUBMISSION_PORT": 2587,
    "MAILHOST_SUBMISSIONS_PORT": 2465,
}
MIN_SECRET_KEY = 32
MAX_FILE_VALUE = 64 * 1024
MAX_SHOWN_PATH = 200
MAX_PROCESSES = 64
MAX_GENERATED_NAMES = 1_000_000
MAX_COUNT = 999_999_999
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


class BadEnvironment(Exception):
    """A variable has a value that is not allowed; the message is one sentence for the operator."""


@dataclass(frozen=True, slots=True)
class Database:
    """DATABASE_URL in parts. `host` is a name, an address, a socket folder, or empty (libpq's default)."""

    name: str
    user: str
    password: str = field(repr=False)
    host: str
    port: str
    options: dict[str, str]


@dataclass(frozen=True, slots=True)
class Environment:
    """All variables, checked and typed. A field has its variable's name in lower case."""

    mailhost_state: Path
    mailhost_bind: str
    mailhost_http_port: int
    mailhost_smtp_port: int
    mailhost_submission_port: int
    mailhost_submissions_port: int
    mailhost_public_url: str
    mailhost_hostname: str
    mailhost_default_domain: str
    mailhost_generated_names: int
    mailhost_delivery: str
    mailhost_relay_url: str | None = field(repr=False)
    mailhost_dns_servers: list[str]
    mailhost_outbound_port: int
    mailhost_outbound_ips: list[str]
    mailhost_secret_key: str = field(repr=False)
    mailhost_suspend_min_sent: int
    mailhost_suspend_bounce_percent: Decimal
    mailhost_suspend_complaint_percent: Decimal
    mailhost_suspend_window_days: int
    mailhost_private_targets: list[Network]
    mailhost_trusted_proxies: list[Network]
    mailhost_tls_cert: Path | None
    mailhost_tls_key: Path | None
    mailhost_dialect_hosts: dict[str, str]
    mailhost_rspamd_url: str | None
    mailhost_x402_facilitator: str | None
    mailhost_blobs: str
    mailhost_web_processes: int
    mailhost_smtp_processes: int
    mailhost_worker_processes: int
    mailhost_log_format: str
    mailhost_log_level: str
    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    database: Database
    database_is_embedded: bool
    redis_is_embedded: bool


class VariableReader:
    """Reads variables from a mapping and remembers their names, so that a test can list them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.names: list[str] = []

    def text(self, name: str, default: str = "") -> str:
        """The value of `name`, else of the file that `name_FILE` names, else the default."""
        self.names.append(name)
        value = self.environ.get(name, "").strip()
        file_name = self.environ.get(f"{name}_FILE", "").strip()
        if value and file_name:
            raise BadEnvironment(f"{name} and {name}_FILE are both set: set only one of them.")
        if file_name:
            value = _read_value_file(name, Path(file_name))
        return value or default

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        value = self.text(name, str(default))
        if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
            raise BadEnvironment(f"{name} must be a whole number from {low} to {high}, not {value!r}.")
        return int(value)

    def percent(self, name: str, default: str) -> Decimal:
        """A share in percent, 0 to 100, with at most three decimals."""
        value = self.text(name, default)
        if not re.fullmatch(r"[0-9]{1,3}(?:\.[0-9]{1,3})?", value) or Decimal(value) > 100:
            raise BadEnvironment(f"{name} must be a number from 0 to 100, such as 0.1, not {value!r}.")
        return Decimal(value)

    def port(self, name: str, default: int) -> int:
        """A TCP port."""
        return self.number(name, default, 1, 65535)

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        """One of a few words."""
        value = self.text(name, default).lower()
        if value not in allowed:
            raise BadEnvironment(f"{name} must be one of {', '.join(allowed)}, not {value!r}.")
        return value

    def each(self, name: str, parse: Callable[[str], T], allowed: str) -> list[T]:
        """A comma separated list; `parse` raises ValueError for an item that is not `allowed`."""
        items = [item.strip() for item in self.text(name).split(",") if item.strip()]
        try:
            return [parse(item) for item in items]
        except ValueError:
            raise BadEnvironment(f"{name} must be a comma separated list of {allowed}.") from None

    def url(self, name: str, schemes: tuple[str, ...]) -> str | None:
        """A URL with one of the schemes and a host, or None. It may hold a password: never repeat it."""
        value = self.text(name)
        if not value:
            return None
        try:
            parts = urlsplit(value)
            parts.port  # noqa: B018 - the property raises for a port that is not a number
        except ValueError:
            parts = SplitResult("", "", "", "", "")
        if parts.scheme not in schemes or not parts.hostname or re.search(r"\s", value):
            allowed = " or ".join(f"{scheme}://" for scheme in schemes)
            raise BadEnvironment(f"{name} must be a URL that begins with {allowed} and names a host.")
        return value

    def file(self, name: str) -> Path | None:
        """A file that exists, or None."""
        value = self.text(name)
        if not value:
            return None
        path = Path(value).absolute()
        try:
            if path.is_file():
                return path
        except OSError:  # no name that a file could have
            pass
        # What is no path may be the content, by NAME_FILE for instance: a private key.
        shown = f", not {value!r}" if len(value) <= MAX_SHOWN_PATH and value.isprintable() else ""
        raise BadEnvironment(f"{name} must name a file that exists{shown}.")

    def host(self, name: str, default: str) -> str:
        """A host or domain name, in lower case and without a final dot."""
        value = self.text(name, default).rstrip(".").lower()
        if not is_host_name(value):
            raise BadEnvironment(f"{name} must be a host name such as mail.example.com, not {value!r}.")
        return value


def is_host_name(value: str) -> bool:
    """True for a name of at most 253 octets whose labels are letters, digits and hyphens (RFC 1123 2.1)."""
    return len(value) <= 253 and all(_LABEL.fullmatch(label) for label in value.split("."))


def read_environment(environ: Mapping[str, str] | None = None, *, may_make_secret_key: bool = False) -> Environment:
    """Read and check every variable. Raises BadEnvironment.

    `may_make_secret_key`: an installation with a database of its own gets its key now if it has none.
    """
    return _read(VariableReader(os.environ if environ is None else environ), may_make_secret_key)


def list_variables() -> list[str]:
    """The names of all variables, in the order they are read."""
    reader = VariableReader({"MAILHOST_SECRET_KEY": "x" * MIN_SECRET_KEY})
    _read(reader, may_make_secret_key=False)
    return reader.names


def read_state_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Only MAILHOST_STATE: what must be known before the rest can be read."""
    return _state_folder(VariableReader(os.environ if environ is None else environ))


def _read(reader: VariableReader, may_make_secret_key: bool) -> Environment:
    state = _state_folder(reader)
    bind = _bind_address(reader)
    http_port, smtp_port, submission_port, submissions_port = _ports(reader)
    hostname = reader.host("MAILHOST_HOSTNAME", _machine_name())
    delivery, relay_url = _way_out(reader)
    tls_cert, tls_key = _certificate(reader)
    database_url = reader.text("DATABASE_URL")
    make_key = may_make_secret_key or not database_url
    redis_url = reader.url("REDIS_URL", ("redis", "rediss"))
    return Environment(
        mailhost_state=state,
        mailhost_bind=bind,
        mailhost_http_port=http_port,
        mailhost_smtp_port=smtp_port,
        mailhost_submission_port=submission_port,
        mailhost_submissions_port=submissions_port,
        mailhost_public_url=_public_url(reader, bind, hostname, http_port),
        mailhost_hostname=hostname,
        mailhost_default_domain=reader.host("MAILHOST_DEFAULT_DOMAIN", "agents.localhost"),
        mailhost_generated_names=reader.number("MAILHOST_GENERATED_NAMES", 0, 0, MAX_GENERATED_NAMES),
        mailhost_delivery=delivery,
        mailhost_relay_url=relay_url,
        mailhost_dns_servers=reader.each(
            "MAILHOST_DNS_SERVERS", _dns_server, "addresses such as 9.9.9.9:53 or [2620:fe::fe]:53"
        ),
        mailhost_outbound_port=reader.port("MAILHOST_OUTBOUND_PORT", 25),
        mailhost_outbound_ips=reader.each("MAILHOST_OUTBOUND_IPS", _ip_address, "IP addresses"),
        mailhost_secret_key=_secret_key(reader, state, make_key),
        mailhost_suspend_min_sent=reader.number("MAILHOST_SUSPEND_MIN_SENT", 100, 1, MAX_COUNT),
        mailhost_suspend_bounce_percent=reader.percent("MAILHOST_SUSPEND_BOUNCE_PERCENT", "5"),
        mailhost_suspend_complaint_percent=reader.percent("MAILHOST_SUSPEND_COMPLAINT_PERCENT", "0.1"),
        mailhost_suspend_window_days=reader.number("MAILHOST_SUSPEND_WINDOW_DAYS", 30, 1, 3650),
        mailhost_private_targets=reader.each("MAILHOST_PRIVATE_TARGETS", ipaddress.ip_network, _NETWORKS),
        mailhost_trusted_proxies=reader.each("MAILHOST_TRUSTED_PROXIES", ipaddress.ip_network, _NETWORKS),
        mailhost_tls_cert=tls_cert,
        mailhost_tls_key=tls_key,
        mailhost_dialect_hosts=dict(reader.each("MAILHOST_DIALECT_HOSTS", _dialect_host, _DIALECT_HOSTS)),
        mailhost_rspamd_url=reader.url("MAILHOST_RSPAMD_URL", ("http", "https")),
        mailhost_x402_facilitator=reader.url("MAILHOST_X402_FACILITATOR", ("http", "https")),
        mailhost_blobs=reader.choice("MAILHOST_BLOBS", "database", BLOB_STORES),
        mailhost_web_processes=reader.number("MAILHOST_WEB_PROCESSES", 2, 1, MAX_PROCESSES),
        mailhost_smtp_processes=reader.number("MAILHOST_SMTP_PROCESSES", 2, 1, MAX_PROCESSES),
        mailhost_worker_processes=reader.number("MAILHOST_WORKER_PROCESSES", 2, 1, MAX_PROCESSES),
        mailhost_log_format=reader.choice("MAILHOST_LOG_FORMAT", "console", LOG_FORMATS),
        mailhost_log_level=reader.choice("MAILHOST_LOG_LEVEL", "info", LOG_LEVELS),
        database_url=database_url or _embedded_database_url(state),
        redis_url=redis_url or _embedded_redis_url(state),
        database=parse_database_url(database_url or _embedded_database_url(state)),
        database_is_embedded=not database_url,
        redis_is_embedded=not redis_url,
    )


_NETWORKS = "networks such as 10.0.0.0/8"
_DIALECT_HOSTS = f"host=dialect pairs, where dialect is {', '.join(DIALECTS)}"


def _way_out(reader: VariableReader) -> tuple[str, str | None]:
    """How mail leaves, and the smarthost if there is one."""
    delivery = reader.choice("MAILHOST_DELIVERY", "hold", DELIVERY_MODES)
    relay_url = reader.url("MAILHOST_RELAY_URL", ("smtp", "smtps"))
    if delivery == "relay" and relay_url is None:
        raise BadEnvironment("MAILHOST_RELAY_URL must be set when MAILHOST_DELIVERY is relay.")
    return delivery, relay_url


def _certificate(reader: VariableReader) -> tuple[Path | None, Path | None]:
    """The certificate's file and its key's."""
    tls_cert, tls_key = reader.file("MAILHOST_TLS_CERT"), reader.file("MAILHOST_TLS_KEY")
    if (tls_cert is None) != (tls_key is None):
        raise BadEnvironment("MAILHOST_TLS_CERT and MAILHOST_TLS_KEY must be set together.")
    return tls_cert, tls_key


def parse_database_url(url: str) -> Database:
    """Take a libpq URL apart. A socket folder stands in `?host=`, percent-encoded. Raises BadEnvironment."""
    sentence = (
        "DATABASE_URL must be a URL such as postgresql://user:password@host:5432/name "
        "or postgresql://user:password@/name?host=/socket/folder."
    )
    try:
        parts = urlsplit(url)
        port = parts.port
        options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise BadEnvironment(sentence) from None
    name = unquote(parts.path.lstrip("/"))
    if parts.scheme not in ("postgresql", "postgres") or not name or "/" in name:
        raise BadEnvironment(sentence)
    return Database(
        name=name,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        host=options.pop("host", "") or unquote(parts.hostname or ""),
        port=options.pop("port", "") or str(port or ""),
        options=options,
    )


def ensure_secret_key(state: Path) -> str:
    """The installation's secret key from the state folder; made, mode 0600, when there is none yet.

    Safe when several processes start at once: the file appears complete (hard link) or not at all.
    """
    path = state / SECRET_KEY_FILE
    if not path.exists():
        state.mkdir(parents=True, exist_ok=True)
        draft = state / f".{SECRET_KEY_FILE}.{os.getpid()}.{secrets.token_hex(4)}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(48) + "\n")
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):  # another process was first, and its key counts
                os.link(draft, path)
        finally:
            draft.unlink()
    return path.read_text().strip()


def _read_value_file(name: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_VALUE + 1)
        if len(content) > MAX_FILE_VALUE:
            raise BadEnvironment(f"{name}_FILE names a file larger than {MAX_FILE_VALUE // 1024} KiB: {path}")
        return content.decode("utf-8").strip()
    except OSError as error:
        raise BadEnvironment(f"{name}_FILE names {path}, which cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise BadEnvironment(f"{name}_FILE names {path}, which is not text in UTF-8.") from None


def _state_folder(reader: VariableReader) -> Path:
    value = reader.text("MAILHOST_STATE")
    # resolve(): the database server runs under another user and must see the true path.
    return Path(value).resolve() if value else PROJECT / "var"


def _bind_address(reader: VariableReader) -> str:
    value = reader.text("MAILHOST_BIND", "127.0.0.1")
    try:
        return _ip_address(value)
    except ValueError:
        raise BadEnvironment(
            f"MAILHOST_BIND must be an IP address such as 127.0.0.1, or 0.0.0.0 for all, not {value!r}."
        ) from None


def _machine_name() -> str:
    """The machine's full name, without asking DNS when the name is full already."""
    name = socket.gethostname()
    full_name = name if "." in name else socket.getfqdn(name)
    for candidate in (full_name, name):
        if is_host_name(candidate.rstrip(".")):
            return candidate
    return "localhost"


def _ports(reader: VariableReader) -> list[int]:
    """The ports we listen on, no two of them equal."""
    names: dict[int, str] = {}
    for name, default in DEFAULT_PORTS.items():
        port = reader.port(name, default)
        if port in names:
            raise BadEnvironment(f"{name} and {names[port]} must be different ports, not both {port}.")
        names[port] = name
    return list(names)


def _public_url(reader: VariableReader, bind: str, hostname: str, http_port: int) -> str:
    given = reader.url("MAILHOST_PUBLIC_URL", ("http", "https"))
    if given:
        parts = urlsplit(given)
        if parts.query or parts.fragment or parts.username:
            raise BadEnvironment("MAILHOST_PUBLIC_URL must be a URL without user, query and fragment.")
        return given.rstrip("/")
    address = ipaddress.ip_address(bind)
    host = hostname if address.is_unspecified else f"[{bind}]" if address.version == 6 else bind
    return f"http://{host}:{http_port}"


def _secret_key(reader: VariableReader, state: Path, may_make: bool) -> str:
    key = reader.text("MAILHOST_SECRET_KEY")
    if key:
        if len(key) < MIN_SECRET_KEY:
            raise BadEnvironment(f"MAILHOST_SECRET_KEY must have at least {MIN_SECRET_KEY} characters.")
        return key
    # A database of one's own may serve several machines, which must all hold the same key: a key made
    # here in passing would encrypt what the others cannot read. `run` makes it, knowingly.
    if not may_make and not (state / SECRET_KEY_FILE).exists():
        raise BadEnvironment(
            "MAILHOST_SECRET_KEY must be set when DATABASE_URL is set, to the same value on every machine"
            f" (or {state / SECRET_KEY_FILE} must hold it)."
        )
    try:
        return ensure_secret_key(state)
    except OSError as error:
        raise BadEnvironment(
            f"MAILHOST_STATE names {state}, where the secret key cannot be kept: {error.strerror}."
        ) from None


def _embedded_database_url(state: Path) -> str:
    """Where the embedded PostgreSQL listens, as it wrote it down; its usual place before its first start."""
    socket_folder = quote(str(state / SOCKET_FOLDER), safe="")
    return _read_url_file(state / DATABASE_URL_FILE) or f"postgresql://mailhost@/mailhost?host={socket_folder}"


def _embedded_redis_url(state: Path) -> str:
    return _read_url_file(state / REDIS_URL_FILE) or "redis://127.0.0.1:6379/0"


def _read_url_file(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _dns_server(item: str) -> str:
    host, _, port = item.rpartition(":") if re.fullmatch(r"\[.*\]:\d+|[^:]+:\d+", item) else (item, "", "53")
    address = _ip_address(host.removeprefix("[").removesuffix("]"))
    if not 1 <= int(port) <= 65535:
        raise ValueError(item)
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _ip_address(item: str) -> str:
    return str(ipaddress.ip_address(item))


def _dialect_host(item: str) -> tuple[str, str]:
    host, _, dialect = item.partition("=")
    host, dialect = host.strip().rstrip(".").lower(), dialect.strip().lower()
    if not is_host_name(host) or dialect not in DIALECTS:
        raise ValueError(item)
    return host, dialect
