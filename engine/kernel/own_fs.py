"""Code that runs with a root and current directory of its own, in a thread: unshare(2), CLONE_FS."""

from __future__ import annotations

import errno
import threading
from typing import TYPE_CHECKING, TypeVar

from engine.kernel.libc import NR, syscall

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")

_CLONE_FS = 0x200


def with_own_fs(work: Callable[[], Result]) -> Result:
    """Call `work`, which may use chdir, chroot and umask: the rest of the process does not see it."""
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            syscall(NR["unshare"], _CLONE_FS)
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    try:
        thread.start()
    except RuntimeError:
        raise OSError(errno.ENOMEM, "there is no memory for a thread") from None
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
