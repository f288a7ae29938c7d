"""A run whose engine is asked by RPC: every command is a request to a swrk that was started for it."""

from __future__ import annotations

import re
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from engine.images.schema import enum, message
from zdtm.harness.init import died_how, doings
from zdtm.harness.item import Bad
from zdtm.harness.rpc import Client
from zdtm.harness.run import ENGINE_SECONDS, Run

_RENAMED = {"restore-sibling": "rst_sibling", "prev-images-dir": "parent_img"}
_LETTERS = {"-t": "--tree", "-d": "--restore-detached"}
_TYPES = {"dump": "DUMP", "pre-dump": "SINGLE_PRE_DUMP", "restore": "RESTORE"}
_SWRK_FD = 3


class RpcRun(Run):
    """Instead of command lines, requests. What has no field goes into a configuration file."""

    def _engine(
        self, verb: str, images: Path, options: list[str], meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        uses = dict(_uses(options))
        pidfile = uses.pop("pidfile", [None])[0]
        request = self._request(verb, images, uses)
        with self._timed(verb):
            answer = self._ask(verb, images, request, meanwhile)
        if not answer.success:
            said = self._engine_says(verb, images)
            raise Bad("engine", f"{verb}: error {answer.cr_errno}: {answer.cr_errmsg}\n{said}")
        if pidfile is not None:
            Path(pidfile).write_text(str(answer.restore.pid))

    def _request(self, verb: str, images: Path, uses: dict[str, list[str | None]]) -> Any:
        request = message("criu_req")(type=enum("criu_req_type")[_TYPES[verb]])
        opts = request.opts
        opts.images_dir_fd, opts.images_dir, opts.log_file, opts.log_level = -1, str(images), f"{verb}.log", 4
        lines = []
        for name, values in uses.items():
            if name == "tree":
                opts.pid = int(values[0] or 0)
            elif name != "restore-detached":
                lines += [line for value in values for line in _set(opts, name, value)]
        if lines:
            config = self.item.directory / f"{verb}.conf"
            config.write_text("\n".join(lines))
            opts.config_file = str(config)
        return request

    def _ask(self, verb: str, images: Path, request: Any, meanwhile: Callable[[], object]) -> Any:
        """Start a swrk and have it answer. Children are reaped meanwhile: an engine may wait for that."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fd = min(set(range(_SWRK_FD, 99)) - set(self._outside.descriptors))
        with closing(its):
            pid = self.init.spawn(
                [*self.item.engine, "swrk", str(fd)],
                self.item.engine_environment,
                self.item.directory,
                self.item.directory / "engine.out",
                self._outside.descriptors | {fd: its.fileno()},
            )
        with Client(ours) as client:
            client.send(request)
            poll = select.poll()
            poll.register(ours, select.POLLIN)
            self.init.wait_for(lambda: meanwhile() or poll.poll(0), self._limit(ENGINE_SECONDS))
            if not poll.poll(0):
                raise Bad("engine", f"{verb} was not answered\n{self._engine_says(verb, images)}\n{doings()}")
            try:
                answer = client.receive()[0]
            except EOFError as problem:
                raise Bad("engine", f"{verb}: {problem}\n{self._engine_says(verb, images)}") from problem
        status = self.init.wait_exit(pid, self._limit(ENGINE_SECONDS))
        if status is None or (status == 0) != answer.success:
            how = "still runs" if status is None else died_how(status)
            raise Bad("engine", f"{verb}: answered success={answer.success}, but {how}")
        return answer


def _uses(options: list[str]) -> Iterator[tuple[str, list[str | None]]]:
    """Options of a command line by long name, with their values in order."""
    found: dict[str, list[str | None]] = {}
    name = ""
    for word in options:
        word = _LETTERS.get(word, word)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            found.setdefault(name, []).append(value if equals else None)
        else:
            found[name][-1] = word
    return iter(found.items())


def _set(opts: Any, name: str, value: str | None) -> Iterator[str]:
    """Set the field of an option, or give the line for a configuration file."""
    field = _RENAMED.get(name, name.replace("-", "_"))
    known = opts.DESCRIPTOR.fields_by_name.get(field)
    if name == "inherit-fd":
        match = re.fullmatch(r"fd\[(\d+)\]:(.*)", value or "")
        assert match is not None, value
        opts.inherit_fd.add(fd=int(match[1]), key=match[2])
    elif known is not None and value is None and known.type == known.TYPE_BOOL:
        setattr(opts, field, True)
    elif known is not None and value is not None and known.type == known.TYPE_STRING:
        if isinstance(getattr(opts, field), str):
            setattr(opts, field, value)
        else:
            getattr(opts, field).append(value)
    else:
        yield name if value is None else f'{name} "{value}"'
