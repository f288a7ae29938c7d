"""What crit reads and writes: images and JSON, from files and pipes."""

from __future__ import annotations

import os
import stat
from io import BufferedWriter

from engine.errors import CrError, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

_COPIED_AT_ONCE = 1 << 20
_READ = os.O_RDONLY | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_STDIN, _STDOUT = 0, 1


def open_input(path: str | None) -> int:
    """A descriptor for a file, None: standard input, from its beginning. What comes from a pipe is copied into a file
    without a name first, since images are read by offsets. CrError: it can't be read."""
    name = path or "standard input"
    try:
        fd = os.dup(_STDIN) if path is None else os.open(path, _READ)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.lseek(fd, 0, os.SEEK_SET)
            return fd
        try:
            return _copied(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise CrError(f"{name} cannot be read: {error.strerror}") from error


def _copied(fd: int) -> int:
    import tempfile

    with tempfile.TemporaryFile(buffering=0) as copy:
        while data := os.read(fd, _COPIED_AT_ONCE):
            copy.write(data)
        copy.seek(0)
        return os.dup(copy.fileno())


class Output:
    """Where a verb writes to: a file, which appears when it is complete, or standard output.

        with Output(path) as out:
            out.write(data)
    """

    def __init__(self, path: str | None) -> None:
        """path: None for standard output. CrError: it can't be written."""
        self._path = os.path.realpath(path) if path else None
        self._temporary: str | None = None
        try:
            self._raw = open(self._open(), "wb", buffering=0)  # noqa: SIM115 - closed by __exit__
        except OSError as error:
            raise CrError(f"{path} cannot be written: {error.strerror}") from error
        self._file = BufferedWriter(self._raw, _COPIED_AT_ONCE)
        self.write = self._file.write

    def _open(self) -> int:
        if self._path is None:
            return os.dup(_STDOUT)
        if os.path.exists(self._path) and not os.path.isfile(self._path):
            return os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        self._temporary = f"{self._path}.{os.getpid()}.tmp"
        return os.open(self._temporary, _CREATE, 0o644)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, exception: type[BaseException] | None, *_: object) -> None:
        try:
            if exception is None:
                self._file.close()
                if self._temporary and self._path:
                    os.replace(self._temporary, self._path)
                    self._temporary = None
            else:
                # What is still buffered is not wanted, and closing would write it.
                self._raw.close()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise CrError(f"the output cannot be written: {text_of(error)}") from error
        finally:
            if self._temporary:
                os.unlink(self._temporary)

    def text(self, text: str) -> None:
        """Write text that is ASCII, as JSON is."""
        self.write(text.encode("ascii"))


def printable(text: str) -> str:
    """Names come from anywhere: nothing in them may move a terminal's cursor, or look like another line."""
    return text if text.isprintable() else text.encode("unicode_escape", "backslashreplace").decode("ascii")


def show_nothing_more() -> None:
    """Whoever read standard output has gone: let nothing that may still be written fail."""
    devnull = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(devnull, _STDOUT)
    os.close(devnull)


def unpack_base64(text: Any) -> bytes:
    """The bytes of base64, with or without line breaks. ValueError: it is none."""
    import binascii

    if not isinstance(text, str):
        raise ValueError(f"{type(text).__name__} where base64 should be")
    try:
        return binascii.a2b_base64("".join(text.split()), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(f"no base64 ({error})") from None
