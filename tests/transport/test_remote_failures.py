"""Whatever fails on the way, the source runs on, nothing pretends to be whole, and the message says what it was."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import CrError
from engine.transport.frames import GREETING, ImageLink, Op, header, size_body, words_body
from engine.transport.remote_images import ReceivedImages, SentImages
from tests.rpc.conftest import is_running
from tests.transport import remote
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from engine.transport.frames import Frame
    from tests.transport.remote import Daemon

    Pair = tuple[Daemon, Daemon]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with remote.both(tmp_path) as pair:
        yield pair


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Pair]:
    """With a cache that waits for two seconds."""
    with remote.both(tmp_path, "--remote-timeout", "2") as pair:
        yield pair


def connected(daemon: Daemon) -> ImageLink:
    """A dump's connection to a proxy, or a restore's to a cache."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(str(daemon.socket))
    link = ImageLink(sock, daemon.socket.stem, takes_fds=True)
    link.greet()
    return link


def write(images: SentImages, kind: str = "SECCOMP", content: bytes = b"content") -> None:
    with images.writer(kind) as writer:
        writer.put_raw(content)


def stored(daemon: Daemon, id: str) -> SentImages:
    """A snapshot of which everything has been sent."""
    images = SentImages(connected(daemon), id)
    images.renew()
    write(images)
    images.settle()
    return images


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
        (Op.BEGIN, _is_silent, "the image proxy at .* says nothing any more, 2 seconds"),
        (Op.BEGIN, _talks_rubbish, "the image cache at .* says 255 where that means nothing"),
        (Op.DATA, _ends, "the image cache at .* (has ended the connection|has failed: )"),
        (Op.DATA, _is_full, "the image cache holds too much$"),
        (Op.DATA, _talks_rubbish, "the image cache at .* says 255 where that means nothing"),
        (Op.SYNC, _ends, "the image cache at .* has ended the connection"),
        (Op.SYNC, _is_silent, "the image proxy at .* says nothing any more, 2 seconds"),
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
    images = SentImages(connected(proxy), "x")
    images.renew()
    write(images)
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
    with contextlib.closing(stored(proxy, "x")) as images:
        images.conclude(True)
    proxy.process.kill()
    proxy.process.wait()
    with contextlib.closing(ReceivedImages(connected(cache), "x")) as received:
        received.await_whole()
        assert received.size_of("SECCOMP") == 8 + 4 + len(b"content")
    with remote.proxy(tmp_path, cache.port) as another, contextlib.closing(stored(another, "y")) as images:
        images.conclude(True)


# The dump


def test_in_doubt(tmp_path: Path, pair: Pair) -> None:
    """A dump that vanishes after everything has been sent: nobody can tell what has become of the tree."""
    proxy, cache = pair
    stored(proxy, "x").close()
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


# No such image, and everything else


def test_only_what_is_not_there_is_missing(impatient: Pair) -> None:
    proxy, cache = impatient
    with contextlib.closing(stored(proxy, "x")) as images, contextlib.closing(connected(cache)) as link:
        received = ReceivedImages(link, "x", owns_link=False)
        assert not received.exists("PSTREE")
        assert list(received.read("PSTREE")) == []
        with pytest.raises(CrError, match=r"pstree.img \(PSTREE image\) is missing"):
            received.open("PSTREE")
        images.conclude(True)
        for attempt in (received.exists, received.open):
            with pytest.raises(CrError, match="snapshot y, and pstree.img has not come in 2 seconds") as raised:
                _ask(cache, "y", attempt.__name__)
            assert "missing" not in raised.value.message
        cache.process.kill()
        with pytest.raises(CrError, match="image-cache (has ended the connection|has failed)") as raised:
            received.exists("PSTREE")


def _ask(cache: Daemon, id: str, what: str) -> None:
    with contextlib.closing(ReceivedImages(connected(cache), id)) as received:
        getattr(received, what)("PSTREE")


def test_a_reader_waits_for_each_image(impatient: Pair) -> None:
    """For one that is not there yet, as long as something comes; not for one that is there."""
    proxy, cache = impatient
    images = SentImages(connected(proxy), "x")
    images.renew()
    write(images)
    with contextlib.closing(images), contextlib.closing(ReceivedImages(connected(cache), "x")) as received:
        os.close(received.open("SECCOMP"))
        start = time.monotonic()
        with pytest.raises(CrError, match=r"snapshot x is (being written, and apparmor.img has|lost: .*says nothing)"):
            received.open("APPARMOR")
        assert time.monotonic() - start >= 1.9


def test_an_image_that_is_not_complete_is_not_stored(pair: Pair) -> None:
    images = SentImages(connected(pair[0]), "x")
    with contextlib.closing(images):
        images.renew()
        images.writer("SECCOMP").put_payload(bytes(2 << 20))
        with pytest.raises(CrError, match="x can't be stored, for seccomp.img is not complete"):
            images.settle()


def test_nobody_can_change_an_image(pair: Pair) -> None:
    with contextlib.closing(stored(pair[0], "x")), contextlib.closing(connected(pair[1])) as link:
        fd = ReceivedImages(link, "x", owns_link=False).open("SECCOMP")
        with pytest.raises(PermissionError):
            os.truncate(f"/proc/self/fd/{fd}", 0)
        os.close(fd)


# Rubbish


def _frames() -> st.SearchStrategy[bytes]:
    """Frames with wrong content, and some without sense."""
    body = st.one_of(
        st.binary(max_size=64),
        st.sampled_from([GREETING, words_body("x", ""), words_body("x", "core-1.img"), b"core-1.img", size_body(3)]),
        st.sampled_from([b"../x", words_body("x", "../core-1.img"), words_body("../x", ""), size_body(1 << 63)]),
    )
    frame = st.builds(lambda op, body: header(op, 0, len(body)) + body, st.sampled_from(Op), body)
    return st.lists(st.one_of(frame, frame, st.binary(max_size=32))).map(b"".join)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with remote.both(tmp_path_factory.mktemp("fuzzed")) as pair:
        yield pair


@pytest.mark.parametrize("door", ["a dump", "a restore", "the image proxy"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(is_greeted=st.booleans(), rubbish=_frames())
def test_rubbish(fuzzed: Pair, door: str, is_greeted: bool, rubbish: bytes) -> None:
    """It is answered by an error and the end, or by the end alone, and costs one line of the log."""
    proxy, cache = fuzzed
    daemon = proxy if door == "a dump" else cache
    before = daemon.log.count("Error (")
    if door == "the image proxy":
        sock = socket.create_connection(("127.0.0.1", int(cache.port)))
    else:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(str(daemon.socket))
    with sock:
        sock.settimeout(20)
        with contextlib.suppress(ConnectionError):
            if is_greeted:
                sock.sendall(header(Op.HELLO, 0, len(GREETING)) + GREETING)
            sock.sendall(rubbish)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(1 << 16):
                continue
    assert daemon.process.poll() is None
    assert daemon.log.count("Error (") <= before + 1


def test_the_fuzzed_still_serve(fuzzed: Pair) -> None:
    with contextlib.closing(stored(fuzzed[0], "after")) as images:
        images.conclude(True)
    with contextlib.closing(connected(fuzzed[1])) as link:
        ReceivedImages(link, "after", owns_link=False).await_whole()


def test_a_stranger_who_says_nothing_is_not_waited_for(impatient: Pair) -> None:
    with socket.create_connection(("127.0.0.1", int(impatient[1].port))) as sock:
        sock.settimeout(20)
        said = b""
        while part := sock.recv(1000):
            said += part
        assert b"says nothing any more, 2 seconds" in said
