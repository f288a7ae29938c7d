"""What swrk answers, without a tree that is dumped or restored: failures, features, connections that are none."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from engine.images.schema import enum
from tests.rpc.conftest import ENGINE, SWRK, is_running
from zdtm.harness.rpc import Client, request, spawn, started


def test_failures_say_what_and_why(images: str) -> None:
    for kind, options, errno, text in (
        ("DUMP", {"pid": 1 << 22, "images_dir": images}, 3, f"task {1 << 22} does not exist"),
        ("DUMP", {"pid": 1, "images_dir": images}, 52, "this engine is in its tree"),
        ("DUMP", {"pid": 1, "images_dir": "/nonexistent"}, 52, "images directory /nonexistent cannot be opened"),
        ("DUMP", {"pid": 1, "images_dir_fd": 9999}, 52, "cannot be opened: No such file or directory"),
        ("DUMP", {"pid": 1}, 56, "neither images_dir_fd nor images_dir"),
        ("DUMP", None, 56, "the request has no opts"),
        ("RESTORE", {"images_dir": images}, 52, "inventory.img (INVENTORY image) is missing"),
        ("CPUINFO_CHECK", {"images_dir": images}, 52, "cpuinfo.img"),
        ("PRE_DUMP", {"pid": 1 << 22, "images_dir": images}, 3, f"task {1 << 22} does not exist"),
        ("SINGLE_PRE_DUMP", {"pid": 1, "images_dir": images}, 52, "this engine is in its tree"),
        ("PAGE_SERVER", {"images_dir": images, "ps": {"address": "192.0.2.1"}}, 99, "can't listen at 192.0.2.1 port 0"),
        ("PAGE_SERVER_CHLD", {"images_dir": images, "ps": {"fd": 99}}, 56, "--ps-socket 99: Bad file descriptor"),
        ("FEATURE_CHECK", None, 56, "the request has no features"),
        ("WAIT_PID", None, 10, "is not a child of this worker"),
        ("EMPTY", None, 56, "not a request"),
        ("NOTIFY", None, 56, "not a request"),
    ):
        with started(SWRK, stderr=subprocess.DEVNULL) as client:
            answer = client.ask(kind, options)
            assert (answer.success, answer.cr_errno) == (False, errno), answer
            assert text in answer.cr_errmsg
            expected = {"PAGE_SERVER_CHLD": "PAGE_SERVER", "NOTIFY": "EMPTY"}.get(kind, kind)
            assert answer.type == enum("criu_req_type")[expected]
            assert client.process.wait(30) == 1


def test_version_features_and_a_connection_that_is_kept(images: str) -> None:
    with started(SWRK, stderr=subprocess.DEVNULL) as client:
        version = client.ask("VERSION", keep_open=True).version
        assert (version.major_number, version.minor_number, version.name[:8]) == (4, 2, "Crucible")
        found = client.ask("FEATURE_CHECK", keep_open=True, features={"mem_track": False, "lazy_pages": True}).features
        assert found.HasField("mem_track")
        assert found.HasField("pidfd_store")
        assert (found.mem_track, found.pidfd_store) == (False, False)
        assert client.ask("CPUINFO_DUMP", {"images_dir": images}, keep_open=True).success
        assert client.ask("CPUINFO_CHECK", {"images_dir": images}, keep_open=True).success
        assert client.ask("VERSION").success
        assert client.process.wait(30) == 0


def test_features_are_those_that_the_engine_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not served isn't there, whatever the kernel can."""
    from engine import unserved
    from engine.kernel import features
    from engine.options import Options
    from engine.rpc.link import Link
    from engine.rpc.session import Session

    monkeypatch.setattr(features, "reason_against", lambda _name: None)
    wanted = {"mem_track": True, "lazy_pages": True}
    for served in (False, True):
        monkeypatch.setattr(unserved, "UNSERVED", {} if served else {"track_mem": "", "lazy_pages": ""})
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with Client(ours) as client:
            client.send(request("FEATURE_CHECK", features=wanted))
            assert Session(Link(its), Options(), lambda _: pytest.fail("no work"), in_service=False).serve() == 0
            found = client.receive()[0].features
            assert (found.mem_track, found.lazy_pages, found.pidfd_store) == (served, served, False)


def test_keep_open_where_it_can_not_be(sleeper: int, images: str) -> None:
    """As in the field: the end of the connection, and nothing is done."""
    with started(SWRK, stderr=subprocess.DEVNULL) as client:
        with pytest.raises(EOFError):
            client.ask("DUMP", {"pid": sleeper, "images_dir": images}, keep_open=True)
        assert client.process.wait(30) == 1
    assert is_running(sleeper)
    assert not os.listdir(images)


def test_a_client_that_says_nothing(images: str) -> None:
    with started(SWRK) as client:
        client.sock.shutdown(socket.SHUT_WR)
        assert client.process.wait(30) == 255


@pytest.mark.parametrize("word", ["77", "0", "99999999999999"])
def test_descriptors_that_are_no_connections(word: str) -> None:
    run = subprocess.run([*SWRK, word], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert f"swrk {word}: " in run.stderr


def test_a_socket_of_another_type() -> None:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, spawn(SWRK, its, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert b"is not a unix socket of type SOCK_SEQPACKET" in process.stderr.read()


def test_the_check_of_a_kernel() -> None:
    with started(SWRK, stdout=subprocess.DEVNULL) as client:
        assert client.ask("CHECK").success


def test_the_usage_has_both() -> None:
    said = subprocess.run([*ENGINE, "--help"], capture_output=True, text=True, check=True).stdout
    assert "crucible service [options]" in said
    assert "crucible swrk FD" in said
