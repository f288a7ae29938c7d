"""Making pseudo terminals that have the numbers they had.

The kernel gives a new one the lowest number that is free in its devpts. So masters are opened until every wanted number
has come, and those in between are closed again. A number that is passed over is in use by somebody else.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from engine.errors import CrError
from engine.kernel import terminal
from engine.kernel.names import file_system_type
from engine.kernel.pty_holder import holder_of_master
from engine.objects.paths import open_name

if TYPE_CHECKING:
    from engine.restore_context import RestoreContext

_DEVPTS = 0x1CD1
_MAX_PATH = "/proc/sys/kernel/pty/max"


def directory_of(ptmx: str) -> str:
    """The directory with the slaves of a ptmx device: its own, or pts beside it (Documentation/filesystems/devpts.rst).

    ptmx  its name
    """
    fd = open_name(ptmx, os.O_PATH)
    try:
        inside = file_system_type(fd) == _DEVPTS
    finally:
        os.close(fd)
    return os.path.dirname(ptmx) if inside else f"{os.path.dirname(ptmx)}/pts"


def limit() -> int:
    """Numbers from here on are impossible."""
    with open(_MAX_PATH) as file:
        return int(file.read())


def refuse_index(index: int, name: str, ctx: RestoreContext) -> None:
    """Add to the problems why a pseudo terminal can't have its number again, if so. name: of its slave."""
    if index >= limit():
        ctx.problems.add(f"terminal {name}: there are {limit()} at most", remedy=f"raise {_MAX_PATH}")
    elif os.path.exists(name):
        remedy = "end that, or restore in a mount namespace with a devpts of its own"
        ctx.problems.add(f"terminal {name}: its number is in use by {holder_of_master(index)}", remedy=remedy)


def open_masters(name: str, wanted: set[int]) -> dict[int, int]:
    """A new master for each number, unlocked, non-blocking, close-on-exec. name: of the ptmx device, which says in
    which devpts. Raises CrError when a number is not to be had."""
    found: dict[int, int] = {}
    passed: list[int] = []
    try:
        while wanted - set(found):
            master = open_name(name, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            index = terminal.pty_index(master)
            if index in wanted:
                found[index] = master
                terminal.set_locked(master, False)
            else:
                passed.append(master)
            lost = [number for number in wanted - set(found) if number < index]
            if lost:
                raise CrError(
                    f"terminal {lost[0]} of {name}: its number is in use by {holder_of_master(lost[0])} (end that)"
                )
    except BaseException:
        passed += found.values()
        raise
    finally:
        for master in passed:
            os.close(master)
    return found


def with_mode(master: int, name: str, flags: int) -> int:
    """A master with the access mode and flags that it had. One that is not open for both directions is opened anew: it
    gets the number that this one gives up, being the lowest."""
    if flags & os.O_ACCMODE != os.O_RDWR:
        index = terminal.pty_index(master)
        os.close(master)
        master = open_name(name, flags & os.O_ACCMODE | os.O_NOCTTY)
        terminal.set_locked(master, False)
        if terminal.pty_index(master) != index:
            raise CrError(f"terminal {index} of {name}: its number has been taken while it was made (try again)")
    fcntl.fcntl(master, fcntl.F_SETFL, flags)
    return master
