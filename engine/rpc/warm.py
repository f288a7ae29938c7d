"""What makes a service fast: everything is loaded before the first request comes."""

from __future__ import annotations

import gc
import importlib
import pkgutil

import engine


def load_everything() -> None:
    """All modules of the engine, all messages, and what a dump loads ahead. What is there then is never looked at by
    the garbage collector again, whose marks would make a worker copy every page."""
    for module in pkgutil.walk_packages(engine.__path__, "engine."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    from engine.dump_ahead import load_ahead
    from engine.images.magic import KINDS
    from engine.images.schema import columns, message

    for name in {name for kind in KINDS.values() for name in kind.messages}:
        message(name)()
    message("criu_resp")()
    message("criu_req")()
    columns("pagemap_entry")()
    load_ahead()
    gc.collect()
    gc.freeze()
