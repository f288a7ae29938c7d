"""The kernel's structures and memory, held against what it tells by its interfaces."""

from __future__ import annotations

import os
import threading

import pytest

from engine.kernel import kernel_memory as module
from engine.kernel.btf import btf
from engine.kernel.kernel_memory import kernel_memory


def test_current_task() -> None:
    memory, task = kernel_memory(), kernel_memory().current()
    assert memory.number(task + btf().offset("task_struct", "tgid")) == os.getpid()
    assert memory.number(task + btf().offset("task_struct", "pid")) == threading.get_native_id()


def test_file() -> None:
    with open(__file__, "rb") as file:
        file.seek(1234)
        at = kernel_memory().file(file.fileno())
        assert kernel_memory().field(at, "file", "f_pos") == 1234
        inode = kernel_memory().field(at, "file", "f_inode")
        assert kernel_memory().field(inode, "inode", "i_ino") == os.fstat(file.fileno()).st_ino


def test_nothing_is_there() -> None:
    with pytest.raises(OSError, match="memory at 0x8"):
        kernel_memory().read(8, 8)


def test_more_than_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    task = kernel_memory().current()
    whole = kernel_memory().read(task + btf().offset("task_struct", "comm"), 16)
    monkeypatch.setattr(module, "_ROOM", 5)
    assert kernel_memory().read(task + btf().offset("task_struct", "comm"), 16) == whole


@pytest.mark.parametrize("path", [("no_such_struct", "x"), ("task_struct", "no_such_member"), ("sk_buff", "len", "x")])
def test_unknown_members(path: tuple[str, ...]) -> None:
    with pytest.raises(OSError, match="this kernel has no"):
        btf().offset(*path)


def test_members_of_members() -> None:
    inner = btf().offset("sk_buff_head", "qlen")
    assert btf().offset("sock", "sk_receive_queue", "qlen") == btf().offset("sock", "sk_receive_queue") + inner
