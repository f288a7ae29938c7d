"""Edits images in place: every entry of a kind, or a byte of the stored pages. Used to sabotage."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.images.directory import ImageDir
from engine.images.magic import KINDS

PAGE = 4096
PAGES_STORED = 4
"""Flag of a pagemap entry: PRESENT"""


@dataclass
class Record:
    """One entry of an image and the bytes that follow it."""

    entry: Any
    payload: bytearray
    dropped: bool = False


Edit = Callable[[Record], bool]
"""Changes a record; True when there was something to change."""


def edit_entries(image: str, edit: Edit, directory: str) -> int:
    """Apply an edit to all entries of all files of an image kind."""
    with ImageDir(directory) as images:
        return sum(_edit_file(images, image, number, edit) for number in _ids(directory, image))


def _edit_file(images: ImageDir, image: str, ids: tuple[int, ...], edit: Edit) -> int:
    records = []
    with images.reader(image, *ids) as reader:
        for entry in reader:
            records.append(Record(entry, bytearray()))
            if "payload" in reader.kind.framing:
                records[-1].payload += reader.payload()
            elif reader.kind.framing == "ghost":
                records[-1].payload += reader.payload(reader.left)
    count = sum(edit(record) for record in records)
    if count:
        with images.writer(image, *ids) as writer:
            for record in records:
                if not record.dropped:
                    writer.put(record.entry)
                    writer.put_payload(record.payload)
    return count


def _ids(directory: str, image: str) -> list[tuple[int, ...]]:
    """The ids of the files of a kind that are there; () for a kind with one file."""
    pattern = re.escape(KINDS[image].pattern).replace("%u", r"(\d+)").replace("%x", r"([0-9a-f]+)")
    base = 16 if "%x" in KINDS[image].pattern else 10
    matches = (re.fullmatch(pattern, path.name) for path in sorted(Path(directory).iterdir()))
    return [tuple(int(number, base) for number in match.groups()) for match in matches if match]


def edit_pages(pagemap: str, directory: str) -> int:
    """Invert one byte, half-way through the stored pages of each task or object."""
    hit = 0
    with ImageDir(directory) as images:
        for ids in _ids(directory, pagemap):
            head, *runs = images.read(pagemap, *ids)
            stored = sum(run.nr_pages or run.compat_nr_pages for run in runs if run.flags & PAGES_STORED)
            if stored:
                with open(f"{directory}/pages-{head.pages_id}.img", "r+b") as pages:
                    pages.seek(stored // 2 * PAGE + PAGE // 2)
                    byte = pages.read(1)[0]
                    pages.seek(-1, 1)
                    pages.write(bytes([byte ^ 0xFF]))
                hit += 1
    return hit
