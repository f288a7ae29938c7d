"""What connections to an image proxy and cache are told, and that no rubbish at them does any harm."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import CrError
from engine.transport.frames import GREETING, Op, header, size_body, words_body
from engine.transport.remote_images import ReceivedImages, SentImages
from tests.transport import remote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.transport.remote import Daemon

    Pair = tuple[Daemon, Daemon]


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Pair]:
    """With a cache that waits for two seconds."""
    with remote.both(tmp_path, "--remote-timeout", "2") as pair:
        yield pair


# No such image, and everything else


def test_only_what_is_not_there_is_missing(impatient: Pair) -> None:
    proxy, cache = impatient
    with contextlib.closing(remote.stored(proxy, "x")) as images, contextlib.closing(remote.connected(cache)) as link:
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
    with contextlib.closing(ReceivedImages(remote.connected(cache), id)) as received:
        getattr(received, what)("PSTREE")


def test_a_reader_waits_for_each_image(impatient: Pair) -> None:
    """For one that is not there yet, as long as something comes; not for one that is there."""
    proxy, cache = impatient
    images = SentImages(remote.connected(proxy), "x")
    images.renew()
    remote.write(images)
    with contextlib.closing(images), contextlib.closing(ReceivedImages(remote.connected(cache), "x")) as received:
        os.close(received.open("SECCOMP"))
        start = time.monotonic()
        with pytest.raises(CrError, match=r"snapshot x is (being written, and apparmor.img has|lost: .*says nothing)"):
            received.open("APPARMOR")
        assert time.monotonic() - start >= 1.9


def test_an_image_that_is_not_complete_is_not_stored(pair: Pair) -> None:
    images = SentImages(remote.connected(pair[0]), "x")
    with contextlib.closing(images):
        images.renew()
        images.writer("SECCOMP").put_payload(bytes(2 << 20))
        with pytest.raises(CrError, match="x can't be stored, for seccomp.img is not complete"):
            images.settle()


def test_nobody_can_change_an_image(pair: Pair) -> None:
    with contextlib.closing(remote.stored(pair[0], "x")), contextlib.closing(remote.connected(pair[1])) as link:
        fd = ReceivedImages(link, "x", owns_link=False).open("SECCOMP")
        with pytest.raises(PermissionError):
            os.truncate(f"/proc/self/fd/{fd}", 0)
        os.close(fd)


def test_an_image_is_begun_once_at_a_time(pair: Pair) -> None:
    """The cache would write what comes for the first one into whatever has its descriptor by then."""
    images = SentImages(remote.connected(pair[0]), "x")
    with contextlib.closing(images):
        images.renew()
        first, second = images.writer("SECCOMP"), images.writer("SECCOMP")
        first.put_payload(bytes(1 << 20))
        second.put_payload(bytes(1 << 20))
        with pytest.raises(CrError, match="seccomp.img of snapshot x is begun again while it is being written"):
            images.settle()


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
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
    with contextlib.closing(remote.stored(fuzzed[0], "after")) as images:
        images.conclude(True)
    with contextlib.closing(remote.connected(fuzzed[1])) as link:
        ReceivedImages(link, "after", owns_link=False).await_whole()


def test_a_stranger_who_says_nothing_is_not_waited_for(impatient: Pair) -> None:
    with socket.create_connection(("127.0.0.1", int(impatient[1].port))) as sock:
        sock.settimeout(20)
        said = b""
        while part := sock.recv(1000):
            said += part
        assert b"says nothing any more, 2 seconds" in said
