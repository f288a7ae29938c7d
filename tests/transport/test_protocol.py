"""The messages as they are on the wire, byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import CrError
from engine.transport.protocol import SIZE, Command, PageMessage, destination_of, page_map_of


def test_layout() -> None:
    message = PageMessage(Command.ADD_F, 5, 0x1122, 0x7F0000001000, destination_of("PAGEMAP", 17))
    expected = "06000500 00000000 2211000000000000 00100000007f0000 0111000000000000"
    assert message.encode() == bytes.fromhex(expected)
    assert PageMessage(Command.CLOSE).encode() == bytes.fromhex("23100000") + bytes(28)
    assert PageMessage(Command.FORCE_CLOSE).encode() == bytes.fromhex("24100000") + bytes(28)


@given(st.binary(min_size=SIZE, max_size=SIZE))
def test_whatever_was_sent_is_taken_as_it_is(data: bytes) -> None:
    again = PageMessage.decode(data).encode()
    assert again[:4] + again[8:] == data[:4] + data[8:]


@pytest.mark.parametrize("kind", ["PAGEMAP", "SHMEM_PAGEMAP"])
@pytest.mark.parametrize("id", [1, 300, 0xFFFFFFFF])
def test_page_maps_have_names(kind: str, id: int) -> None:
    assert page_map_of(destination_of(kind, id)) == (kind, id)


def test_names_that_older_versions_use() -> None:
    for number in 10, 11, 16, 17:
        assert page_map_of(9 << 8 | number) == ("PAGEMAP", 9)
    for number in 27, 28, 29, 32, 33, 34:
        assert page_map_of(9 << 8 | number) == ("SHMEM_PAGEMAP", 9)


@pytest.mark.parametrize("destination", [0, 1, 5 << 8, 5 << 8 | 3, 5 << 8 | 255, 1 << 40 | 1, (1 << 64) - 1])
def test_names_of_nothing(destination: int) -> None:
    with pytest.raises(CrError, match="can't be"):
        page_map_of(destination)
