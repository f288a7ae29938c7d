"""One restore from images that have been tampered with, and what must be true of it whatever has been done to them."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING, NamedTuple

from tests.hostile import ward
from tests.hostile.subject import RICH, Subject

if TYPE_CHECKING:
    from pathlib import Path

_ERROR = re.compile(r"^(?:\(\d+\.\d+\) )?Error \(.*?\): (.*)$", re.MULTILINE)
_NEVER = ("internal error", "Traceback")


def errors_of(log: str) -> list[str]:
    """The texts of the error lines of a log."""
    return _ERROR.findall(log)


class Damage(NamedTuple):
    """Files of an image set in another form: bytes, None for a file that is gone, a str for a symlink to that."""

    what: str
    files: dict[str, bytes | str | None]


class Trials:
    """A set of images and the place it was dumped in.

    log     of the last restore
    pids    of the tree, the root first; tids: these and those of the other threads
    place   has the directories `whole`, the images, `tried`, those that are tried, and `files`, which is not to change:
            there are `subject`, where the tree ran, and `elsewhere`, which no image speaks of
    """

    def __init__(self, place: Path, program: str = RICH) -> None:
        self.place = place
        ward.warm_up()
        for name in ("whole", "tried", "files", "files/subject", "files/elsewhere"):
            (place / name).mkdir()
        subject = Subject(place / "files" / "subject", program)
        words = ["dump", "-t", str(subject.pid), "-D", str(place / "whole"), "-v4", "--link-remap", "--file-locks"]
        outcome = ward.command(*words)
        assert outcome.status == 0, outcome.log
        self.pids = subject.pids
        ward.end(subject.pids)
        (place / "whole" / "stats-dump").unlink()
        self.images = {name: (place / "whole" / name).read_bytes() for name in sorted(os.listdir(place / "whole"))}
        self.tids = [int(name[5:-4]) for name in self.images if name.startswith("core-")]
        self.files = ward.Files(place / "files")
        self.log = ""

    def restore(self, damage: Damage, *options: str) -> ward.Outcome:
        """Restore, the tree stopped if it comes to be, from the images with this damage."""
        tried = self.place / "tried"
        shutil.rmtree(tried)
        tried.mkdir()
        for name in self.images:
            if name not in damage.files:
                os.link(self.place / "whole" / name, tried / name)
        for name, content in damage.files.items():
            if isinstance(content, bytes):
                (tried / name).write_bytes(content)
            elif content is not None:
                os.symlink(content, tried / name)
        words = ["restore", "-D", str(tried), "-W", str(self.place / "tried"), "-d", "-s", "-v2", "--file-locks"]
        return ward.command(*words, *options)

    def problem(self, damage: Damage) -> str | None:
        """What was not right about a restore; None: it has succeeded, or failed as it should."""
        outcome = self.restore(damage)
        self.log = outcome.log
        found = self._judge(outcome)
        if outcome.left:
            ward.end(outcome.left)
        if outcome.status and (changed := self.files.difference()):
            found.append(f"files were touched: {changed}")
        self.files.put_back()
        if not found:
            return None
        return f"{damage.what}: {'; '.join(found)}\n    " + outcome.log.strip().replace("\n", "\n    ")

    def _judge(self, outcome: ward.Outcome) -> list[str]:
        found = [f"there is {word!r} in the log" for word in _NEVER if word in outcome.log]
        if outcome.status is None:
            found.append("it hangs")
        elif outcome.status not in (0, 1):
            found.append(f"exit status {outcome.status}")
        elif outcome.status == 1 and not _ERROR.search(outcome.log):
            found.append("it fails without a word")
        elif outcome.status == 0 and _ERROR.search(outcome.log):
            found.append("it succeeds with an error")
        if outcome.status != 0 and outcome.left:
            found.append(f"processes are left: {outcome.left}")
        return found
