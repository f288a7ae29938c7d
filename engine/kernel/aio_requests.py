"""Requests of kernel aio that wait for an event: polls (IOCB_CMD_POLL), as the kernel keeps them (fs/aio.c).

No call tells of them but the one that cancels them, which needs to know them already. So this looks into the kernel's
memory (kernel_memory.py): mm_struct.ioctx_table has the contexts, and each has a list of what can be cancelled.
"""

from __future__ import annotations

from engine.kernel.btf import btf
from engine.kernel.kernel_memory import kernel_memory

_POINTER = 8
_MOST = 1 << 16


def has_waiting(mem: int, address: int) -> bool:
    """Whether a context has such requests. mem: a descriptor of /proc/PID/mem; address: the context's number.

    Raises OSError when the kernel can't be looked into.
    """
    memory, offset = kernel_memory(), btf().offset
    mm = memory.field(memory.file(mem), "file", "private_data")
    table = memory.field(mm, "mm_struct", "ioctx_table")
    count = memory.number(table + offset("kioctx_table", "nr")) if table else 0
    if count > _MOST:
        raise OSError(0, "the kernel's table of aio contexts makes no sense")
    for number in range(count):
        context = memory.word(table + offset("kioctx_table", "table") + number * _POINTER)
        if context and memory.field(context, "kioctx", "user_id") == address:
            requests = context + offset("kioctx", "active_reqs")
            return memory.word(requests) != requests
    return False
