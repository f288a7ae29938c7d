"""What a module of the engine keeps for the length of one dump or restore, without the context knowing about it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Part = TypeVar("Part")


class Parts:
    """Base of DumpContext and RestoreContext.

    ctx.part(Pipes) is the one Pipes object of that context, made as Pipes(ctx) when it is first asked for. Kinds of
    files are single objects that serve every dump of the process: what belongs to one dump lives in such a part.
    """

    def __init__(self) -> None:
        self._parts: dict[Callable[[Any], Any], Any] = {}

    def part(self, make: Callable[[Any], Part]) -> Part:
        """The part that `make`, a class, makes."""
        if make not in self._parts:
            self._parts[make] = make(self)
        found: Part = self._parts[make]
        return found
