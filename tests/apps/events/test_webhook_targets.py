"""Which URLs a webhook may have, and which addresses they lead to. The DNS is a real one on loopback."""

import asyncio
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from apps.core.errors import ValidationFailed
from apps.events.webhooks.targets import TargetRefused, check_url, find_addresses, follow_redirect, read_target
from mailhost.dns.resolver import Resolver
from tests.fakes.dns import FakeDns, Trouble


@pytest.fixture
def inside(settings: object) -> None:
    """The operator allows loopback's 127.0.0.0/8 and one private network."""
    settings.MAILHOST_PRIVATE_TARGETS = [ip_network("127.0.0.0/8"), ip_network("10.1.0.0/16")]  # type: ignore[attr-defined]


@pytest.fixture
def dns() -> Iterator[FakeDns]:
    with FakeDns() as server:
        yield server


def find(dns: FakeDns, host: str, *, plain: bool = False) -> list[str]:
    async def ask() -> list[str]:
        return await find_addresses(host, plain=plain, resolver=Resolver([dns.address], timeout=1.0))

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "authority"),
    [
        ("https://hook.example", "hook.example", 443, "/", "hook.example"),
        ("https://Hook.Example:8443/a/b?c=d&e=%20#part", "hook.example", 8443, "/a/b?c=d&e=%20", "hook.example:8443"),
        ("https://bücher.example/x", "xn--bcher-kva.example", 443, "/x", "xn--bcher-kva.example"),
        ("https://hook.example./x", "hook.example", 443, "/x", "hook.example"),
        ("https://93.184.215.14/x", "93.184.215.14", 443, "/x", "93.184.215.14"),
        ("https://[2606:4700:4700::1111]:444/x", "2606:4700:4700::1111", 444, "/x", "[2606:4700:4700::1111]:444"),
        ("HTTPS://hook.example:22/", "hook.example", 22, "/", "hook.example:22"),
    ],
)
def test_it_reads_a_url(url: str, host: str, port: int, path: str, authority: str) -> None:
    target = read_target(url)
    assert (target.host, target.port, target.path, target.authority) == (host, port, path, authority)
    assert not target.is_plain


LOOPBACK = [
    *("127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "localhost", "LOCALHOST."),
    *("api.localhost", "0.0.0.0", "[::]", "127.0.0.1."),
]
PRIVATE = ["10.0.0.5", "172.16.3.4", "192.168.0.1", "169.254.169.254", "100.64.1.1", "[fe80::1]", "[fd00::1]"]
DISGUISED = [
    *("2130706433", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "127.1", "0", "017700000001", "0x7f.1"),
    *("127.0.0.1.0x1", "[::ffff:127.0.0.1%25lo]", "①②⑦.⓪.⓪.①", "127\u30020\u30020\u30021"),
    "\uff11\uff12\uff17.\uff10.\uff10.\uff11",
]


@pytest.mark.parametrize("host", [*LOOPBACK, *PRIVATE, *DISGUISED])
@pytest.mark.parametrize("scheme", ["https", "http"])
def test_a_url_that_leads_inside_is_refused_however_it_is_written(scheme: str, host: str) -> None:
    with pytest.raises(TargetRefused):
        read_target(f"{scheme}://{host}/hook")


@pytest.mark.parametrize(
    "url",
    [
        *("", "hook.example", "//hook.example/", "ftp://hook.example/", "file:///etc/passwd", "unix:/run/redis.sock"),
        *("https://", "https:///path", "https://:443/", "https://user@hook.example/", "https://u:p@hook.example/"),
        *("https://hook.example:0/", "https://hook.example:99999/", "https://hook.example:x/", "https://[::1/"),
        *(
            "https://hook.example/a b",
            "https://hook.example/\r\nX: y",
            "https://hook.example/ä",
            " https://hook.example",
        ),
        *("https://hook.example\\@evil.example/", "https://hook.example/\0", "https://ho ok.example/"),
        *("https://a..example/", "https://-a.example/", f"https://{'a' * 64}.example/", "https://hook_1.example/"),
        *("https://hook.example/" + "x" * 2000, "https://%31%32%37.0.0.1/", "gopher://127.0.0.1:6379/_FLUSHALL"),
    ],
)
def test_what_is_no_url_for_a_webhook_is_refused(url: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        check_url(url=url, field="url")
    assert refused.value.data["details"][0]["field"] == "url"


def test_plain_http_goes_only_to_networks_that_are_listed(inside: None) -> None:
    for url in ("http://127.0.0.1:8080/x", "http://10.1.2.3/", "http://localhost/", "http://receiver:8000/x",
                "http://hook.internal/", "https://127.0.0.1/", "https://10.1.2.3/"):  # fmt: skip
        read_target(url)
    for url in ("http://hook.example/", "http://93.184.215.14/", "http://10.2.0.1/", "https://10.2.0.1/"):
        with pytest.raises(TargetRefused):
            read_target(url)


def test_a_name_is_followed_to_its_public_addresses_alone(dns: FakeDns) -> None:
    dns.zone["hook.example"] = [("A", "93.184.215.14"), ("A", "10.0.0.1"), ("AAAA", "::1"), ("AAAA", "2606:4700::1")]
    assert find(dns, "hook.example") == ["93.184.215.14", "2606:4700::1"]


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1"])
def test_a_name_that_leads_inside_is_refused_and_the_address_is_not_told(dns: FakeDns, address: str) -> None:
    dns.zone["hook.example"] = [("A", address)]
    with pytest.raises(TargetRefused) as refused:
        find(dns, "hook.example")
    assert address not in str(refused.value)


@pytest.mark.parametrize("address", ["::1", "::ffff:a00:1", "fe80::1", "fd00::1", "64:ff9b::7f00:1", "2002:7f00:1::"])
def test_so_is_one_with_such_an_ipv6_address(dns: FakeDns, address: str) -> None:
    dns.zone["hook.example"] = [("AAAA", address)]
    with pytest.raises(TargetRefused):
        find(dns, "hook.example")


def test_plain_http_to_a_name_needs_a_listed_address(dns: FakeDns, inside: None) -> None:
    dns.zone["receiver"] = [("A", "10.1.0.7"), ("A", "93.184.215.14")]
    assert find(dns, "receiver", plain=True) == ["10.1.0.7"]
    assert find(dns, "receiver") == ["10.1.0.7", "93.184.215.14"]


def test_a_name_without_address_and_a_silent_server_are_refusals(dns: FakeDns) -> None:
    dns.zone["broken.example"] = Trouble.SERVFAIL
    for host, words in (("nowhere.example", "no address"), ("broken.example", "do not answer")):
        with pytest.raises(TargetRefused, match=words):
            find(dns, host)


def test_what_needs_no_name_server_asks_none(dns: FakeDns, inside: None) -> None:
    assert find(dns, "localhost") == ["127.0.0.1"]
    assert find(dns, "127.0.0.3") == ["127.0.0.3"]
    assert dns.queries == []


@pytest.mark.parametrize(
    "location", ["https://10.0.0.1/", "http://hook.example/", "//localhost/", "https://[::1]:99x/"]
)
def test_a_redirect_is_read_like_any_url(location: str) -> None:
    with pytest.raises(TargetRefused):
        follow_redirect(read_target("https://hook.example/a/b"), location)


def test_a_redirect_may_be_relative() -> None:
    assert (
        follow_redirect(read_target("https://hook.example:8443/a/b"), "../c?d").url == "https://hook.example:8443/c?d"
    )
