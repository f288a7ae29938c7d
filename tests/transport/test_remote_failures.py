"""Whatever fails on the way, the source runs on, nothing pretends to be whole, and the message says what it was."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from typing import TYPE_CHECKING

import pytest

from engine.transport.frames import ImageLink, Op
from engine.transport.remote_images import ReceivedImages, SentImages
from tests.rpc.conftest import is_running
from tests.transport import remote
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from engine.transport.frames import Frame
    from tests.transport.remote import Daemon

    Pair = tuple[Daemon, Daemon]


# The cache


def _ends(_: ImageLink) -> None:
    raise EOFError


def _is_full(link: ImageLink) -> None:
    link.refuse("the image cache holds too much")
    link.drain(10)
    raise EOFError


def _is_silent(link: ImageLink) -> None:
    link.drain(20)


def _talks_rubbish(link: ImageLink) -> None:
    link.send(b"\xff" * 64)


@pytest.mark.parametrize(
    ("when", "happens", "message"),
    [
        (Op.BEGIN, _ends, "the image cache at .* has ended the connection"),
        (Op.BEGIN, _is_full, "the image cache holds too much$"),
        (Op.BEGIN, _is_silent, "the image proxy at .* says nothing any more, 4 seconds"),
        (Op.BEGIN, _talks_rubbish, "the image cache at .* says 255 where that means nothing"),
        (Op.DATA, _ends, "the image cache at .* (has ended the connection|has failed: )"),
        (Op.DATA, _is_full, "the image cache holds too much$"),
        (Op.DATA, _talks_rubbish, "the image cache at .* says 255 where that means nothing"),
        (Op.SYNC, _ends, "the image cache at .* has ended the connection"),
        (Op.SYNC, _is_silent, "the image proxy at .* says nothing any more, 4 seconds"),
    ],
)
def test_a_cache_that_fails(tmp_path: Path, when: Op, happens: Callable[[ImageLink], None], message: str) -> None:
    def serve(link: ImageLink, frame: Frame) -> bool:
        if frame.op == when:
            happens(link)
        return frame.op == when

    with (
        remote.fake_cache(serve) as port,
        remote.proxy(tmp_path, port),
        remote.subject(4) as pid,
    ):
        before = remote.memory_of(pid)
        outcome = remote.run(tmp_path, "dump", "x", "-t", str(pid), "--remote-timeout", "2")
        assert outcome.status == 1
        assert len(outcome.errors) == 1, outcome.log
        assert re.search(message, outcome.errors[0]), outcome.log
        assert is_running(pid)
        assert remote.memory_of(pid) == before


def test_a_cache_that_is_killed_takes_its_proxy_along(tmp_path: Path) -> None:
    with remote.cache(tmp_path) as cache, remote.proxy(tmp_path, cache.port) as proxy:
        cache.process.kill()
        assert proxy.process.wait(20) == 1
        assert re.search(r"Error .*: the image cache at 127.0.0.1 port \d+ has gone", proxy.log)
        assert not proxy.socket.exists()
    with remote.subject() as pid:
        outcome = remote.run(tmp_path, "dump", "x", "-t", str(pid))
        assert outcome.status == 1
        assert "the image proxy is not to be reached" in outcome.errors[0]
        assert is_running(pid)


def test_a_confirmation_that_is_lost(tmp_path: Path) -> None:
    """The tree has gone by then. The dump says that, rather than that it has worked."""

    def serve(_: ImageLink, frame: Frame) -> bool:
        if frame.op == Op.COMMIT:
            raise EOFError
        return False

    with remote.fake_cache(serve) as port, remote.proxy(tmp_path, port), remote.subject() as pid:
        outcome = remote.run(tmp_path, "dump", "x", "-t", str(pid))
        assert outcome.status == 1
        assert "snapshot x could not be confirmed" in outcome.errors[0]
        assert "can be restored with --unconfirmed if the tree has gone" in outcome.errors[0]
        assert not is_running(pid)


# The proxy


def test_a_proxy_that_is_killed_in_the_middle_of_a_dump(tmp_path: Path) -> None:
    proxies: list[Daemon] = []

    def serve(_: ImageLink, frame: Frame) -> bool:
        if frame.op == Op.DATA:
            proxies[0].process.kill()
        return False

    with (
        remote.fake_cache(serve) as port,
        remote.proxy(tmp_path, port) as proxy,
        remote.subject(64) as pid,
    ):
        proxies.append(proxy)
        outcome = remote.run(tmp_path, "dump", "x", "-t", str(pid))
        assert outcome.status == 1
        assert re.search(r"the image proxy at \S+ has (ended|failed)", outcome.errors[0]), outcome.log
        assert is_running(pid)


def test_a_cache_without_anything_ends_with_its_proxy(tmp_path: Path, pair: Pair) -> None:
    proxy, cache = pair
    images = SentImages(remote.connected(proxy), "x")
    images.renew()
    remote.write(images)
    waiting = remote.Run(tmp_path, "restore", "x", "--remote-timeout", "20")
    wait_until(lambda: "Snapshot x begins" in cache.log, "it has begun")
    proxy.process.kill()
    assert cache.process.wait(20) == 1
    assert re.search("Snapshot x is lost: .*; given back; 0.0 of", cache.log)
    assert "the image proxy has gone, and no snapshot is whole" in cache.log
    outcome = waiting.outcome()
    assert outcome.status == 1
    assert re.search("snapshot x is lost: |is not to be reached", outcome.errors[0]), outcome.log
    images.close()


def test_a_cache_with_a_whole_snapshot_goes_on_without_its_proxy(tmp_path: Path, pair: Pair) -> None:
    proxy, cache = pair
    with contextlib.closing(remote.stored(proxy, "x")) as images:
        images.conclude(True)
    proxy.process.kill()
    proxy.process.wait()
    with contextlib.closing(ReceivedImages(remote.connected(cache), "x")) as received:
        received.await_whole()
        assert received.size_of("SECCOMP") == 8 + 4 + len(b"content")
    with remote.proxy(tmp_path, cache.port) as another, contextlib.closing(remote.stored(another, "y")) as images:
        images.conclude(True)


# The dump


def test_in_doubt(tmp_path: Path, pair: Pair) -> None:
    """A dump that vanishes after everything has been sent: nobody can tell what has become of the tree."""
    proxy, cache = pair
    remote.stored(proxy, "x").close()
    wait_until(lambda: "Snapshot x is in doubt" in cache.log, "the cache knows", lambda: cache.log)
    outcome = remote.run(tmp_path, "restore", "x")
    assert outcome.status == 1
    assert "snapshot x is in doubt: its dump has gone (restore it with --unconfirmed if the tree" in outcome.errors[0]
    outcome = remote.run(tmp_path, "restore", "x", "--unconfirmed")
    assert "inventory.img (INVENTORY image) is missing" in outcome.errors[0]


def test_a_dump_that_is_killed(tmp_path: Path, pair: Pair) -> None:
    """While a script holds it, with the tree frozen and everything sent."""
    script = tmp_path / "wait.sh"
    frozen = tmp_path / "frozen"
    script.write_text(f'#!/bin/sh\n[ $CRTOOLS_SCRIPT_ACTION = post-dump ] && echo $$ >"{frozen}" && exec sleep 1000\n:')
    script.chmod(0o755)
    with remote.subject() as pid:
        dump = remote.Run(tmp_path, "dump", "x", "-t", str(pid), "--action-script", str(script))
        wait_until(lambda: frozen.exists() and frozen.read_text(), "the script runs", lambda: pair[1].log)
        assert not is_running(pid)
        dump.process.kill()
        wait_until(lambda: "Snapshot x is in doubt" in pair[1].log, "the cache knows", lambda: pair[1].log)
        wait_until(lambda: is_running(pid), "the tree runs on")
        dump.process.wait()
        os.kill(int(frozen.read_text()), signal.SIGKILL)
