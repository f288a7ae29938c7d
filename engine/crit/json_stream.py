"""Reading JSON piece by piece: of an image that has been decoded, no more is in memory than an entry.

An entry is parsed as a whole when it is in the buffer, which is the usual case. From one that is larger, the bytes in
"extra" go into a temporary file.
"""

from __future__ import annotations

import binascii
import codecs
import json
import os
import re
import tempfile
from typing import TYPE_CHECKING, Any

from engine.crit.files import printable
from engine.errors import CrError

if TYPE_CHECKING:
    from collections.abc import Iterator

_AT_ONCE = 1 << 20
_LONGEST_ERROR = 500
MAX_VALUE = 256 << 20
"""Characters of the largest value that is parsed as a whole."""
_SPACE = re.compile(r"[ \t\r\n]*")
_NEAR_THE_END = 16
"""An error so close to the end of what has been read may be due to what has not."""
_ESCAPES = {"\\n": "", "\\r": "", "\\t": "", "\\/": "/"}
_ESCAPE = re.compile(r"\\.")


class Blob:
    """Bytes in a file of ours, without a name."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile(buffering=_AT_ONCE)  # noqa: SIM115 - goes with the object
        self.size = 0

    def add(self, data: bytes) -> None:
        self.file.write(data)
        self.size += len(data)

    def pieces(self) -> Iterator[bytes]:
        """All of it, from the beginning."""
        self.file.seek(0)
        while data := self.file.read(_AT_ONCE):
            yield data

    def __del__(self) -> None:
        self.file.close()


class JsonStream:
    """Values of a JSON text, in order. Whoever iterates over names() or elements() takes each value in between, by
    value(), entry() or the like. Whatever is wrong with the text is a CrError that names the file and the place."""

    def __init__(self, fd: int, name: str) -> None:
        """fd: a regular file, which is read from its beginning and stays open. name: for messages."""
        self._fd = fd
        self.name = name
        self._read_up_to = 0
        self._decode = codecs.getincrementaldecoder("utf-8")()
        self._parse = json.JSONDecoder().raw_decode
        self._buffer = ""
        self._at = 0
        self._dropped = 0
        self._ended = False

    def error(self, what: str) -> CrError:
        """what: may quote the text, of which it then shows a beginning."""
        shown = printable(what)
        shown = shown if len(shown) <= _LONGEST_ERROR else shown[:_LONGEST_ERROR] + "…"
        return CrError(f"{self.name}: {shown} (at character {self._dropped + self._at})")

    def names(self) -> Iterator[str]:
        """The keys of the object that begins here."""
        self._expect("{")
        if self._skip("}"):
            return
        while True:
            key = self.value() if self._peek() == '"' else None
            if not isinstance(key, str):
                raise self.error("there must be a key, in quotes")
            self._expect(":")
            yield key
            if self._skip("}"):
                return
            self._expect(",")

    def elements(self) -> Iterator[None]:
        """Stops before each element of the list that begins here."""
        self._expect("[")
        if self._skip("]"):
            return
        while True:
            yield
            if self._skip("]"):
                return
            self._expect(",")

    def value(self) -> Any:
        """Whatever is here."""
        self._peek()
        while True:
            found = self._whole()
            if found is not None:
                return found[0]
            if len(self._buffer) - self._at > MAX_VALUE:
                raise self.error(f"a value of more than {MAX_VALUE} characters is larger than any of an image")
            self._more()

    def entry(self, streamed: str) -> dict[str, Any]:
        """The object here. streamed: a key whose value, if it is a large string of base64, becomes a Blob."""
        if self._peek() != "{":
            raise self.error("an entry must be an object")
        found = self._whole()
        if found is None and len(self._buffer) - self._at < _AT_ONCE:
            self._more()
            found = self._whole()
        if found is not None:
            value: dict[str, Any] = found[0]
            return value
        return {
            key: self._blob() if key == streamed and self._peek() == '"' else self.value() for key in self.names()
        }

    def end(self) -> None:
        """Nothing may follow."""
        if self._peek():
            raise self.error("something follows what should be all")

    def _whole(self) -> tuple[Any] | None:
        """The value here, if all of it is in the buffer."""
        try:
            value, end = self._parse(self._buffer, self._at)
        except json.JSONDecodeError as error:
            near_the_end = error.pos > len(self._buffer) - _NEAR_THE_END
            if not self._ended and (near_the_end or error.msg.startswith("Unterminated")):
                return None
            self._at = error.pos
            raise self.error(f"this is no JSON: {error.msg}") from None
        except RecursionError:
            raise self.error("it is nested too deeply") from None
        except ValueError as error:
            raise self.error(f"this is no number of an image: {error}") from None
        if end == len(self._buffer) and not self._ended:
            return None
        self._at = end
        return (value,)

    def _blob(self) -> Blob:
        """The bytes of the base64 string here."""
        blob = Blob()
        self._expect('"')
        pending = ""
        while True:
            end = self._buffer.find('"', self._at)
            text = pending + self._buffer[self._at : end if end >= 0 else None]
            self._at = end + 1 if end >= 0 else len(self._buffer)
            cut = len(text) - 1 if text.endswith("\\") else len(text)
            clean = _ESCAPE.sub(lambda match: _ESCAPES.get(match[0], match[0]), text[:cut])
            whole = len(clean) if end >= 0 else len(clean) // 4 * 4
            try:
                blob.add(binascii.a2b_base64(clean[:whole], strict_mode=True))
            except (binascii.Error, ValueError) as error:
                raise self.error(f"this is no base64: {error}") from None
            if end >= 0:
                return blob
            pending = clean[whole:] + text[cut:]
            if not self._more():
                raise self.error("it ends within a string")

    def _peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            match = _SPACE.match(self._buffer, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._more():
                return ""

    def _skip(self, char: str) -> bool:
        """Go past a character if it is the next one."""
        found = self._peek() == char
        self._at += found
        return found

    def _expect(self, char: str) -> None:
        if not self._skip(char):
            found = self._peek()
            raise self.error(f"{char} must be here, {found} is" if found else f"it ends where {char} must be")

    def _more(self) -> bool:
        """Read on: as much as is there already, so that a large value is not tried too often."""
        if self._ended:
            return False
        kept = self._buffer[self._at :]
        data = os.pread(self._fd, max(_AT_ONCE, len(kept)), self._read_up_to)
        self._read_up_to += len(data)
        self._ended = not data
        self._dropped += self._at
        try:
            self._buffer = kept + self._decode.decode(data, final=self._ended)
        except UnicodeDecodeError:
            raise self.error("this is no JSON: it is not UTF-8 text") from None
        self._at = 0
        return not self._ended
