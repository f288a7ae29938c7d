"""What follows entries without being one."""

from __future__ import annotations

import os
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import CrError
from engine.images.schema import message
from tests.images import samples

if TYPE_CHECKING:
    from pathlib import Path

    from engine.images.directory import ImageDir

same_directory = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)


def _pipe(data: bytes) -> object:
    return message("pipe_data_entry")(pipe_id=1, bytes=len(data))


@same_directory
@given(st.lists(st.binary(max_size=200)), st.sets(st.integers(0, 20)))
def test_pipes(images: ImageDir, pipes: list[bytes], skipped: set[int]) -> None:
    """Payloads come back; one that nobody asks for does not disturb the next entry."""
    with images.writer("PIPES_DATA") as writer:
        for data in pipes:
            writer.put(_pipe(data))
            writer.put_payload(data)
    if not pipes:
        return
    with images.reader("PIPES_DATA") as reader:
        for index, _ in enumerate(reader):
            if index not in skipped:
                assert reader.payload() == pipes[index]


def test_payload_in_parts(images: ImageDir) -> None:
    samples.tcp_stream(images)
    with images.reader("TCP_STREAM", 0xABC) as reader:
        entry = next(reader)
        assert (reader.payload(entry.inq_len), reader.payload(entry.outq_len)) == (b"input", b"outp")
        with pytest.raises(CrError, match="1 bytes of payload are wanted, 0 are left"):
            reader.payload(1)


def test_a_plain_entry_has_no_payload(images: ImageDir) -> None:
    samples.pstree(images)
    with images.reader("PSTREE") as reader:
        next(reader)
        assert reader.payload() == b""
        with pytest.raises(CrError):
            reader.payload(1)


def test_a_claim_beyond_the_end(images: ImageDir) -> None:
    with images.writer("PIPES_DATA") as writer:
        writer.put(message("pipe_data_entry")(pipe_id=1, bytes=1 << 31))
        writer.put_payload(b"short")
    with images.reader("PIPES_DATA") as reader, pytest.raises(CrError, match="2147483648 bytes should follow, 5 "):
        next(reader)


def test_large_payloads_are_not_read(images: ImageDir) -> None:
    """A payload of 1 GiB, sparse, is handed on as a place in the file."""
    with images.writer("PIPES_DATA") as writer:
        writer.put(message("pipe_data_entry")(pipe_id=1, bytes=1 << 30))
        size = os.fstat(writer.file.fileno()).st_size
        os.truncate(writer.file.fileno(), size + (1 << 30))
    tracemalloc.start()
    with images.reader("PIPES_DATA") as reader:
        for _ in reader:
            assert reader.payload_at() == (reader.fileno(), size, 1 << 30)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_splicing_into_the_file(images: ImageDir) -> None:
    """Entries, payloads put and payloads that the kernel writes keep their order."""
    with images.writer("PIPES_DATA") as writer:
        for data in b"first", b"second":
            writer.put(_pipe(data))
            os.write(writer.file.fileno(), data)
        writer.put(_pipe(b"third"))
        writer.put_payload(b"third")
    with images.reader("PIPES_DATA") as reader:
        assert [reader.payload() for _ in reader] == [b"first", b"second", b"third"]


def test_padding(images: ImageDir) -> None:
    samples.ipc_shm(images)
    samples.ipc_sem(images)
    with images.reader("IPCNS_SHM", 9) as reader:
        assert [(entry.desc.id, reader.payload()) for entry in reader] == [(1, b"shared"), (2, b"")]
    with images.reader("IPCNS_SEM", 9) as reader:
        assert [(entry.nsems, len(reader.payload())) for entry in reader] == [(1, 2), (5, 10)]


def test_message_queues(images: ImageDir) -> None:
    samples.ipc_msg(images)
    with images.reader("IPCNS_MSG", 9) as reader:
        bodies = [part for part in samples.contents(reader) if isinstance(part, bytes)]
    assert bodies == [b"one", b"", b"three or eight", b"12345678"]


def test_ghost_in_chunks(images: ImageDir) -> None:
    samples.ghost(images)
    with images.reader("GHOST_FILE", 0x1F) as reader:
        _, first, start, second, middle = samples.contents(reader)
    assert [(first.off, start), (second.off, middle)] == [(0, b"start"), (9000, b"middle")]


def test_ghost_in_one_piece(images: ImageDir, tmp_path: Path) -> None:
    with images.writer("GHOST_FILE", 2) as writer:
        writer.put(message("ghost_file_entry")(uid=0, gid=0, mode=0o100600))
        writer.put_payload(b"whole contents")
    assert (tmp_path / "ghost-file-2.img").read_bytes().endswith(b"whole contents")
    with images.reader("GHOST_FILE", 2) as reader:
        next(reader)
        fd, offset, length = reader.payload_at()
        assert os.pread(fd, length, offset) == b"whole contents"
        assert [*reader] == []


def test_raw(images: ImageDir) -> None:
    with images.writer("NFTABLES", 10) as writer:
        writer.put_payload(b"table inet t {}\n")
    with images.reader("NFTABLES", 10) as reader:
        assert [*reader] == []
        assert os.read(reader.fileno(), 5) == b"table"
        assert reader.payload() == b"table inet t {}\n"
