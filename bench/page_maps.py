"""Page maps with very many entries, by crit and in the straightforward way."""

from __future__ import annotations

import json
import os
import random
import tempfile
from typing import TYPE_CHECKING, Any

from bench.engine import timed
from bench.rows import Row
from engine.crit.decode import decode
from engine.crit.encode import encode
from engine.images.directory import ImageDir
from engine.images.pagemap import PagemapWriter
from engine.images.schema import message

if TYPE_CHECKING:
    from collections.abc import Iterator

GOAL = 10.0
_HEADER = 8


def measure(entries: int, runs: int) -> Iterator[Row]:
    """How long crit takes for a page map, and how many times as long one dictionary per message takes. The JSON goes
    to /dev/null: how fast a disk is does not matter."""
    with tempfile.TemporaryDirectory(prefix="crucible-bench-") as place, ImageDir(place) as images:
        with PagemapWriter(images, 1, "PAGEMAP", 1) as writer:
            writer.write(_some_runs(entries))
        image, text = images.path("PAGEMAP", 1), os.path.join(place, "text")
        ours, theirs = [], []
        for _ in range(runs):
            ours.append(timed(lambda: decode(image, os.devnull)))
            theirs.append(timed(lambda: _one_dictionary_per_message(image, os.devnull)))
        decode(image, text)
        back = min(timed(lambda: encode(text, os.path.join(place, "again"))) for _ in range(runs))
    note = f"{min(ours):.0f} ms, one dictionary per message {min(theirs):.0f} ms; encoding {back:.0f} ms"
    what = f"crit decode of {entries} pagemap entries"
    yield Row(what, min(theirs) / min(ours), "times as fast", note, GOAL, more_is_better=True)


def _some_runs(count: int) -> Iterator[tuple[int, int, int]]:
    """Runs of a process that has used much of its memory: short ones mostly, with short holes between them."""
    rng, vaddr = random.Random(1), 0x7F00_0000_0000
    for _ in range(count):
        nr_pages = rng.choice((1, 1, 1, 2, 3, 4, 5, 16, 200))
        yield vaddr, nr_pages, rng.choice((4, 6))
        vaddr += (nr_pages + rng.randrange(1, 9)) * 4096


def _one_dictionary_per_message(image: str, text: str) -> None:
    """The same JSON, made by the protobuf runtime and the json module."""
    with open(image, "rb") as file:
        data = file.read()
    entries: list[dict[str, Any]] = []
    make, at = message("pagemap_head"), _HEADER
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        entry = make.FromString(data[at + 4 : at + 4 + size])
        entries.append({field.name: value for field, value in entry.ListFields()})
        make, at = message("pagemap_entry"), at + 4 + size
    with open(text, "w") as out:
        out.write(json.dumps({"magic": "PAGEMAP", "entries": entries}) + "\n")
