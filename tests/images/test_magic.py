"""The table of kinds."""

from __future__ import annotations

import pytest

from engine.images import magic
from engine.images.magic import KINDS


def test_headers() -> None:
    """Byte for byte what real images start with."""
    assert KINDS["INVENTORY"].header == bytes.fromhex("16313158")
    assert KINDS["CORE"].header == bytes.fromhex("19435654" + "47380555")
    assert KINDS["STATS"].header == bytes.fromhex("40591055" + "06330957")
    assert KINDS["PAGES"].header == b""


def test_file_names() -> None:
    assert KINDS["CORE"].file_name(17) == "core-17.img"
    assert KINDS["GHOST_FILE"].file_name(255) == "ghost-file-ff.img"
    assert KINDS["STATS"].file_name("restore") == "stats-restore"
    assert KINDS["PSTREE"].file_name() == "pstree.img"


@pytest.mark.parametrize("ids", [("../../etc/passwd",), ("",), (), (1, 2)])
def test_no_other_names_can_be_made(ids: tuple[str, ...]) -> None:
    for kind in ("STATS", "CORE"):
        with pytest.raises((ValueError, TypeError)):
            KINDS[kind].file_name(*ids)


def test_kinds_that_are_written_have_files_of_their_own() -> None:
    patterns = [kind.pattern for kind in KINDS.values() if kind.status == magic.CURRENT]
    assert len(set(patterns)) == len(patterns)


def test_a_magic_means_one_framing() -> None:
    """Except for two names that no version uses."""
    for kinds in magic.BY_MAGIC.values():
        assert len({(kind.framing, kind.messages) for kind in kinds if kind.status != magic.UNUSED}) <= 1
