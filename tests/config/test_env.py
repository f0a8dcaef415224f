"""The environment: read once, checked, documented; a bad value is one sentence that names its variable."""

import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from config.env import (
    PROJECT,
    BadEnvironment,
    ensure_secret_key,
    list_variables,
    parse_database_url,
    read_environment,
)

KEY = "k" * 40


def read(tmp_path: Path, **variables: str):
    return read_environment({"MAILHOST_STATE": str(tmp_path), "MAILHOST_SECRET_KEY": KEY, **variables})


def test_every_variable_is_documented_and_nothing_else():
    text = (PROJECT / "deploy" / "env.example").read_text()
    documented = re.findall(r"^#?([A-Z][A-Z0-9_]+)=", text, re.MULTILINE)
    assert len(documented) == len(set(documented))
    assert set(documented) == set(list_variables())


def test_no_variable_is_read_anywhere_else():
    known = re.compile(rf"[\"']({'|'.join(list_variables())})[\"']")
    for folder in ("apps", "mailhost", "config"):
        for path in (PROJECT / folder).rglob("*.py"):
            code = path.read_text()
            if path.relative_to(PROJECT).as_posix() != "config/env.py" and "environ" in code:
                reads = re.findall(r"(?:environ(?:\.get)?[\[(]|getenv\()\s*[\"'](\w+)", code)
                assert not set(reads) & set(list_variables()), (path, known)


def test_documented_defaults_are_the_defaults(tmp_path):
    text = (PROJECT / "deploy" / "env.example").read_text()
    shown = dict(re.findall(r"^([A-Z][A-Z0-9_]+)=(.*)$", text, re.MULTILINE))
    del shown["MAILHOST_STATE"]  # relative to the project
    env = read(tmp_path)
    for name, value in shown.items():
        assert str(getattr(env, name.lower())) == value, name


def test_example_values_are_allowed(tmp_path):
    text = (PROJECT / "deploy" / "env.example").read_text()
    examples = dict(re.findall(r"^#([A-Z][A-Z0-9_]+)=(.+)$", text, re.MULTILINE))
    for name in ("MAILHOST_TLS_CERT", "MAILHOST_TLS_KEY"):
        (tmp_path / name).write_text("PEM")
        examples[name] = str(tmp_path / name)
    env = read(tmp_path, **examples)
    assert env.mailhost_dialect_hosts == {"sendook.example.com": "sendook"}
    assert [str(network) for network in env.mailhost_private_targets] == ["10.1.0.0/16"]


BAD = [
    ("MAILHOST_HTTP_PORT", "abc"),
    ("MAILHOST_HTTP_PORT", "0"),
    ("MAILHOST_HTTP_PORT", "70000"),
    ("MAILHOST_HTTP_PORT", "2525"),
    ("MAILHOST_BIND", "localhost"),
    ("MAILHOST_PUBLIC_URL", "mail.example.com"),
    ("MAILHOST_PUBLIC_URL", "https://mail.example.com/?a=b"),
    ("MAILHOST_HOSTNAME", "not a host"),
    ("MAILHOST_HOSTNAME", "-a.example"),
    ("MAILHOST_DEFAULT_DOMAIN", "a..b"),
    ("MAILHOST_DELIVERY", "Relais"),
    ("MAILHOST_DELIVERY", "relay"),
    ("MAILHOST_RELAY_URL", "http://relay.example.com"),
    ("MAILHOST_RELAY_URL", "smtp://relay.example.com:port"),
    ("MAILHOST_RELAY_URL", "smtp://"),
    ("MAILHOST_DNS_SERVERS", "dns.example.com"),
    ("MAILHOST_DNS_SERVERS", "127.0.0.1:99999"),
    ("MAILHOST_OUTBOUND_IPS", "300.1.1.1"),
    ("MAILHOST_PRIVATE_TARGETS", "10.0.0.1/8"),
    ("MAILHOST_TRUSTED_PROXIES", "everyone"),
    ("MAILHOST_TLS_CERT", "/nowhere/cert.pem"),
    ("MAILHOST_DIALECT_HOSTS", "a.example=gmail"),
    ("MAILHOST_DIALECT_HOSTS", "a.example"),
    ("MAILHOST_RSPAMD_URL", "ftp://rspamd"),
    ("MAILHOST_BLOBS", "s4"),
    ("MAILHOST_WEB_PROCESSES", "0"),
    ("MAILHOST_GENERATED_NAMES", "-1"),
    ("MAILHOST_WORKER_PROCESSES", "-1"),
    ("MAILHOST_SMTP_PROCESSES", "1000"),
    ("MAILHOST_LOG_FORMAT", "xml"),
    ("DATABASE_URL", "mysql://user:hunter2@db/mail"),
    ("DATABASE_URL", "postgresql://user:hunter2@db:port/mail"),
    ("DATABASE_URL", "postgresql://user:hunter2@db"),
    ("REDIS_URL", "memcached://hunter2@cache"),
    ("MAILHOST_SECRET_KEY", "hunter2"),
    ("MAILHOST_SECRET_KEY_FILE", "/nowhere/key"),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_is_one_sentence_that_names_the_variable(tmp_path, name, value):
    with pytest.raises(BadEnvironment) as caught:
        read(tmp_path, **{name: value})
    sentence = str(caught.value)
    assert name in sentence or name.removesuffix("_FILE") in sentence or "MAILHOST_RELAY_URL" in sentence
    assert "\n" not in sentence
    assert "hunter2" not in sentence


def test_a_bad_value_stops_every_command_with_exit_code_2_and_no_traceback(tmp_path):
    for command in (["manage.py", "check"], ["-m", "config.run"], ["-m", "celery", "-A", "config", "report"]):
        done = subprocess.run(
            [sys.executable, *command],
            cwd=PROJECT,
            env={"PATH": "/usr/bin:/bin", "MAILHOST_STATE": str(tmp_path), "MAILHOST_SMTP_PORT": "smtp"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        output = done.stdout + done.stderr
        assert done.returncode == 2, (command, output)
        assert output == "mailhost: MAILHOST_SMTP_PORT must be a whole number from 1 to 65535, not 'smtp'.\n"


def test_a_value_may_come_from_a_file(tmp_path):
    (tmp_path / "port").write_text(" 8123\n")
    assert read(tmp_path, MAILHOST_HTTP_PORT_FILE=str(tmp_path / "port")).mailhost_http_port == 8123
    with pytest.raises(BadEnvironment, match="MAILHOST_HTTP_PORT_FILE are both set"):
        read(tmp_path, MAILHOST_HTTP_PORT="8000", MAILHOST_HTTP_PORT_FILE=str(tmp_path / "port"))


@pytest.mark.parametrize("lines", [2, 2000])
def test_a_private_key_given_in_place_of_its_path_is_not_repeated(tmp_path, lines):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    key.write_text("-----BEGIN PRIVATE KEY-----\n" + "hunter2\n" * lines)
    certificate.write_text("-----BEGIN CERTIFICATE-----\n")
    with pytest.raises(BadEnvironment) as caught:
        read(tmp_path, MAILHOST_TLS_CERT=str(certificate), MAILHOST_TLS_KEY_FILE=str(key))
    assert str(caught.value) == "MAILHOST_TLS_KEY must name a file that exists."


def test_an_endless_file_is_refused(tmp_path):
    with pytest.raises(BadEnvironment, match="larger"):
        read(tmp_path, MAILHOST_HOSTNAME_FILE="/dev/zero")


def test_dns_servers_get_a_port(tmp_path):
    servers = read(tmp_path, MAILHOST_DNS_SERVERS="9.9.9.9, 127.0.0.1:5353,::1,[::1]:5353").mailhost_dns_servers
    assert servers == ["9.9.9.9:53", "127.0.0.1:5353", "[::1]:53", "[::1]:5353"]


def test_public_url_follows_address_and_port(tmp_path):
    assert read(tmp_path, MAILHOST_HTTP_PORT="81").mailhost_public_url == "http://127.0.0.1:81"
    assert read(tmp_path, MAILHOST_BIND="::1").mailhost_public_url == "http://[::1]:8000"
    everywhere = read(tmp_path, MAILHOST_BIND="0.0.0.0", MAILHOST_HOSTNAME="mail.example.com")
    assert everywhere.mailhost_public_url == "http://mail.example.com:8000"
    assert read(tmp_path, MAILHOST_PUBLIC_URL="https://m.example/").mailhost_public_url == "https://m.example"


def test_database_urls_are_taken_apart():
    database = parse_database_url("postgresql://us%40er:p%2Fw@db.example.com:6432/mail?sslmode=require")
    assert (database.user, database.password, database.host, database.port, database.name) == (
        "us@er",
        "p/w",
        "db.example.com",
        "6432",
        "mail",
    )
    assert database.options == {"sslmode": "require"}
    assert parse_database_url("postgres://u:p@/mail?host=%2Frun%2Fpg").host == "/run/pg"


def test_secrets_are_not_in_the_representation(tmp_path):
    env = read(
        tmp_path,
        DATABASE_URL="postgresql://u:hunter2@db/mail",
        REDIS_URL="redis://:hunter2@cache:6379/0",
        MAILHOST_RELAY_URL="smtp://u:hunter2@relay.example.com",
    )
    assert "hunter2" not in repr(env)
    assert KEY not in repr(env)


def test_the_secret_key_is_made_once_and_only_for_our_eyes(tmp_path):
    key = ensure_secret_key(tmp_path / "state")
    path = tmp_path / "state" / "secret-key"
    assert len(key) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ensure_secret_key(tmp_path / "state") == key
    assert [file.name for file in path.parent.iterdir()] == ["secret-key"]


def test_a_key_is_not_made_in_passing_for_a_database_that_others_may_share(tmp_path):
    variables = {"MAILHOST_STATE": str(tmp_path), "DATABASE_URL": "postgresql://u:p@db/mail"}
    with pytest.raises(BadEnvironment, match="MAILHOST_SECRET_KEY"):
        read_environment(variables)
    assert read_environment(variables, may_make_secret_key=True).mailhost_secret_key
    assert read_environment(variables).mailhost_secret_key


def test_a_state_folder_that_cannot_be_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadEnvironment, match="MAILHOST_STATE"):
        read_environment({"MAILHOST_STATE": str(tmp_path / "file" / "state")})
