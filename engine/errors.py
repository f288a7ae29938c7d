"""Every failure that the engine expects is a CrError; cli.main turns it into log lines and an exit status.

System calls raise plain OSError near the kernel. Whoever knows which object and which task the call was for
catches it and raises a CrError whose message names object, task and remedy.
"""

from __future__ import annotations

import errno
import os

_REMEDIES = {
    errno.EMFILE: "raise RLIMIT_NOFILE",
    errno.ENFILE: "raise /proc/sys/fs/file-max",
    errno.ENOSPC: "make room",
    errno.ENOMEM: "is there enough memory?",
}



class CrError(Exception):
    """One thing that went wrong, said in one sentence.

    message   shown to the user after "Error (file:line): "
    cr_errno  what an RPC client gets in criu_resp.cr_errno; 0 is not sent.
              ESRCH no such task, EEXIST pid in use, EBADRQC bad options.
    """

    def __init__(self, message: str, cr_errno: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.cr_errno = cr_errno

    @property
    def reasons(self) -> list[str]:
        """The lines to log, one for each reason."""
        return [self.message]


def text_of(error: OSError) -> str:
    """What a system call's error says, in a sentence of ours: which file or call, why, and what helps."""
    what = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    remedy = f" ({_REMEDIES[error.errno]})" if error.errno in _REMEDIES else ""
    return f"{what}{error.strerror or error}{remedy}"


class Refused(CrError):
    """A verb that cannot work, with all the reasons at once. Nothing has been changed."""

    def __init__(self, verb: str, reasons: list[str], cr_errno: int = 0) -> None:
        count = "one reason" if len(reasons) == 1 else f"{len(reasons)} reasons"
        super().__init__(f"{verb} refused, {count}: " + "; ".join(reasons), cr_errno)
        self.verb = verb
        self._reasons = reasons

    @property
    def reasons(self) -> list[str]:
        return self._reasons


class Problems:
    """Collects the reasons against a dump or a restore, so that the user sees all of them in one run.

        with problems:
            what_may_raise()        # a CrError ends the block, not the search for more
    """

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.cr_errno = 0

    def add(self, what: str, task: int | None = None, remedy: str | None = None, cr_errno: int = 0) -> None:
        """Note one reason. task: pid the object belongs to; remedy: what the user can do ("use --file-locks")."""
        reason = what if task is None else f"task {task}: {what}"
        if remedy is not None:
            reason += f" ({remedy})"
        if reason not in self.reasons:
            self.reasons.append(reason)
        self.cr_errno = self.cr_errno or cr_errno

    def __enter__(self) -> None:
        return

    def __exit__(self, _: object, error: BaseException | None, trace: object) -> bool:
        """A CrError that ends the block becomes reasons."""
        if not isinstance(error, CrError):
            return False
        for reason in error.reasons:
            self.add(reason, cr_errno=error.cr_errno)
        return True

    def __bool__(self) -> bool:
        return bool(self.reasons)

    def raise_if_any(self, verb: str) -> None:
        """Raise Refused when anything was added. verb: "dump" or "restore"."""
        if self.reasons:
            raise Refused(verb, self.reasons, self.cr_errno)
