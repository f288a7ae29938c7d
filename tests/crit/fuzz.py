"""python -m tests.crit.fuzz SECONDS [CORPUS]: feed crit with images and JSON that atheris makes up, guided by coverage.

What begins with { is taken for JSON, all else for an image. Whatever comes in: either it comes back byte for byte, or
there is one CrError. CORPUS keeps what was of interest from one run to the next.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["engine.crit", "engine.images"]):
    from engine.crit.decode import decode
    from engine.crit.encode import encode
    from engine.errors import CrError
    from engine.images.directory import ImageDir

from tests.crit import anything
from tests.images.samples import SAMPLES

_LONGEST = 4096
_MEBIBYTES = 2048
_SECONDS_FOR_ONE = 20


class Target:
    """place: an empty directory."""

    def __init__(self, place: Path) -> None:
        self._source, self._text, self._image = (place / name for name in ("source", "text", "image"))

    def __call__(self, data: bytes) -> None:
        self._source.write_bytes(data)
        try:
            if data.startswith(b"{"):
                encode(str(self._source), str(self._image))
                decode(str(self._image), str(self._text))
            else:
                decode(str(self._source), str(self._text))
                encode(str(self._text), str(self._image))
                assert self._image.read_bytes() == data
        except CrError as error:
            assert "\n" not in error.message, error.message


def fill(corpus: Path) -> None:
    """One image of each kind as a beginning, and its JSON."""
    with tempfile.TemporaryDirectory() as place, ImageDir(place) as images:
        for make in SAMPLES.values():
            make(images)
        for kind in anything.KINDS_OF_FILES:
            anything.write(images, kind, 1)
        for path in Path(place).iterdir():
            decode(str(path), str(corpus / f"{path.name}.json"))
            (corpus / path.name).write_bytes(path.read_bytes())


def main() -> None:
    seconds, *rest = sys.argv[1:]
    with tempfile.TemporaryDirectory() as place:
        corpus = Path(rest[0] if rest else f"{place}/corpus")
        corpus.mkdir(exist_ok=True)
        fill(corpus)
        limits = [f"-max_total_time={seconds}", f"-max_len={_LONGEST}", f"-rss_limit_mb={_MEBIBYTES}"]
        limits += [f"-timeout={_SECONDS_FOR_ONE}", f"-artifact_prefix={corpus.parent}/"]
        atheris.Setup([sys.argv[0], *limits, str(corpus)], Target(Path(place)))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
