"""The entries of page maps as JSON, thousands at a time: an address space may have a million of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.crit.form import to_json
from engine.crit.names import FLAGS, flags_to_text
from engine.images.runs import parse

if TYPE_CHECKING:
    from engine.crit.streamed import ImageText
    from engine.images.reader import ImageReader

_WINDOW = 256 << 10
_ODD_AT_ONCE = 1000


def add_entries(reader: ImageReader, text: ImageText, pretty: bool) -> None:
    """Write all entries of a page map."""
    text.add(to_json(next(reader), reader.raw, pretty))
    make = _Entries(text.between, pretty)
    while reader.left:
        end, *table = parse(reader.peek(_WINDOW), exact=True)
        if end:
            text.add_text(make(*table))
            reader.skip(end)
            continue
        for _, entry in zip(range(_ODD_AT_ONCE), reader, strict=False):
            text.add(to_json(entry, reader.raw, pretty))


class _Entries:
    """Makes the text of runs. An entry is its address, and a rest of which there are few different ones."""

    def __init__(self, between: str, pretty: bool) -> None:
        self._pretty = pretty
        inner = between[1:] + 4 * " " if pretty else ""
        comma = f",{inner}" if pretty else ", "
        self._start = f'{{{inner}"vaddr": '
        self._rest = f'{comma}"compat_nr_pages": %d{comma}"flags": %s{comma}"nr_pages": %d{between[1:] * pretty}}}'
        self._between = between

    def __call__(self, vaddr: list[int], nr_pages: list[int], flags: list[int]) -> tuple[str, ...]:
        rests = _Rests(self._rest, self._between + self._start, self._pretty)
        pieces = [""] * (2 * len(vaddr))
        pieces[::2] = map('"0x{:x}"'.format, vaddr) if self._pretty else map(repr, vaddr)
        pieces[1::2] = map(rests.__getitem__, zip(nr_pages, flags, strict=True))
        pieces[-1] = pieces[-1].removesuffix(self._between + self._start)
        return self._start, "".join(pieces)


class _Rests(dict[tuple[int, int], str]):
    """(nr_pages, flags): what stands between the address of such an entry and the next address."""

    def __init__(self, form: str, between: str, pretty: bool) -> None:
        super().__init__()
        self._form = form + between
        self._pretty = pretty

    def __missing__(self, key: tuple[int, int]) -> str:
        nr_pages, flags = key
        shown = f'"{flags_to_text(flags, FLAGS["pmap.flags"])}"' if self._pretty else flags
        self[key] = rest = self._form % (nr_pages, shown, nr_pages)
        return rest
