"""No option is passed over in silence: each is read by the engine, or refused, or known to make no difference."""

from __future__ import annotations

import re
from pathlib import Path

import engine
from engine.options import OPTIONS
from engine.unserved import HARMLESS, UNSERVED

# Read while the command line is taken apart, before there is an Options object to read; and --all is two others.
_READ_BY_THE_PARSER = {"config", "no_default_config", "all", "ms"}
_READ_BY_METHODS = {"allows_external_peer": "ext_unix_sk"}
_TABLES = {"options.py", "unserved.py", "argv.py"}  # argv.py only compares options with each other


def read_attributes() -> set[str]:
    """Attributes of Options that the engine's source reads."""
    found = set()
    for path in Path(engine.__file__).parent.rglob("*.py"):
        if path.name not in _TABLES:
            found |= set(re.findall(r"\b_?(?:opts|options)\.([a-z_]+)", path.read_text()))
    found |= {attribute for method, attribute in _READ_BY_METHODS.items() if method in found}
    return found | _READ_BY_THE_PARSER


def test_every_option_is_served_or_listed() -> None:
    attributes = {option.attribute for option in OPTIONS.values()}
    assert attributes - read_attributes() - set(UNSERVED) - set(HARMLESS) == set()


def test_the_lists_name_options_once() -> None:
    attributes = {option.attribute for option in OPTIONS.values()}
    assert set(UNSERVED) | set(HARMLESS) <= attributes
    assert not set(UNSERVED) & set(HARMLESS)


def test_what_is_read_is_not_refused() -> None:
    """Who teaches the engine an option takes it off these lists."""
    assert read_attributes() & (set(UNSERVED) | set(HARMLESS)) == set()
