"""Checks before the start: early, and in one sentence."""

import os
import socket
import stat

import pytest

from config import start_checks
from config.env import read_environment
from config.start_checks import CannotStart, check_ports, check_state_folder


def test_a_new_state_folder_is_made_and_tried(tmp_path):
    state = tmp_path / "a" / "state"
    check_state_folder(state)
    assert list(state.iterdir()) == []
    if os.geteuid() == 0:
        assert stat.S_IMODE(state.stat().st_mode) == 0o711


def test_a_folder_in_use_keeps_its_mode(tmp_path):
    (tmp_path / "first-run.json").write_text("{}")
    tmp_path.chmod(0o750)
    check_state_folder(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


def test_a_folder_that_cannot_be_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotStart, match="MAILHOST_STATE") as caught:
        check_state_folder(tmp_path / "file" / "state")
    assert "Not a directory" in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_said(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CannotStart, match="Permission denied"):
        check_state_folder(tmp_path / "state")


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(start_checks, "MIN_FREE_MB", 10**9)
    with pytest.raises(CannotStart, match="MB free") as caught:
        check_state_folder(tmp_path)
    assert "MAILHOST_STATE" in str(caught.value)


def test_a_device_without_room_is_said(tmp_path, monkeypatch):
    (tmp_path / f".write-test.{os.getpid()}").symlink_to("/dev/full")
    with pytest.raises(CannotStart, match="No space left on device"):
        check_state_folder(tmp_path)


@pytest.mark.parametrize("name", ["HTTP", "SMTP", "SUBMISSION", "SUBMISSIONS"])
def test_a_taken_port_is_said_with_its_variable(tmp_path, monkeypatch, name):
    monkeypatch.setattr(start_checks, "PORT_PATIENCE", 0.0)
    probes = [socket.socket() for _ in range(4)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    variables = dict(zip(("HTTP", "SMTP", "SUBMISSION", "SUBMISSIONS"), ports, strict=True))
    for probe, port in zip(probes, ports, strict=True):
        if port != variables[name]:
            probe.close()
    taken = next(probe for probe in probes if probe.fileno() != -1)
    taken.listen()
    env = read_environment(
        {
            "MAILHOST_STATE": str(tmp_path),
            "MAILHOST_SECRET_KEY": "k" * 32,
            **{f"MAILHOST_{word}_PORT": str(port) for word, port in variables.items()},
        }
    )
    with taken, pytest.raises(CannotStart) as caught:
        check_ports(env)
    assert str(variables[name]) in str(caught.value)
    assert f"MAILHOST_{name}_PORT" in str(caught.value)
