"""What most tests of crit do: there and back, and a tree to look into."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.crit.decode import decode
from engine.crit.encode import encode
from tests.crit.puppet import Puppet
from tests.hostile.subject import RICH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def there_and_back(tmp_path: Path) -> Callable[[Path], str]:
    """Decodes and encodes a file in both forms, which must give its very bytes. Returns the plain JSON."""

    def run(path: Path) -> str:
        text, again = tmp_path / "text", tmp_path / "again"
        for pretty in True, False:
            decode(str(path), str(text), pretty)
            encode(str(text), str(again))
            assert again.read_bytes() == path.read_bytes(), text.read_text()
        return text.read_text()

    return run


@pytest.fixture
def back(tmp_path: Path) -> Callable[[str], bytes]:
    """Encodes JSON."""

    def run(text: str) -> bytes:
        source, target = tmp_path / "source", tmp_path / "target"
        source.write_text(text)
        encode(str(source), str(target))
        return target.read_bytes()

    return run


@pytest.fixture(scope="session")
def rich(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The images of a tree that has a bit of everything, and is gone."""
    return _dump_rich(tmp_path_factory.mktemp("rich"))


@pytest.fixture
def fresh(tmp_path: Path) -> str:
    """The same, of a moment ago: its pids are still free, where all of them may be used within seconds."""
    return _dump_rich(tmp_path)


def _dump_rich(place: Path) -> str:
    (place / "subject").mkdir()
    with Puppet(place / "subject", RICH) as subject:
        return subject.dump(place / "images", "--link-remap", "--file-locks")


@pytest.fixture
def puppet(tmp_path: Path) -> Iterator[Puppet]:
    (tmp_path / "puppet").mkdir()
    with Puppet(tmp_path / "puppet") as puppet:
        yield puppet
