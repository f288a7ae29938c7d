"""criu_opts becomes Options by the table of the command line, with the field's precedence."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Any

import pytest

from engine import unserved
from engine.errors import Problems, Refused
from engine.images.schema import message
from engine.option_values import CPU_CAP_IMAGE
from engine.options import OPTIONS, Options
from engine.rpc import fields
from engine.rpc.client import Client
from engine.rpc.link import Link
from engine.rpc.session import base_options
from zdtm.harness.rpc import request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def link() -> Iterator[Link]:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    found = Link(its)
    yield found
    found.close()
    ours.close()


def options(link: Link, command: str = "dump", base: Options | None = None, service: bool = False, **said: Any) -> Any:
    opts = request("DUMP", {"images_dir": "/images", **said}).opts
    client, problems = Client(link, opts, lambda _pid: None), Problems()
    found = fields.options_of(opts, base or Options(), client, problems, command, in_service=service)
    problems.raise_if_any(command)
    return found


def refusal(link: Link, command: str = "dump", service: bool = False, **said: Any) -> str:
    with pytest.raises(Refused) as caught:
        options(link, command, service=service, **said)
    assert caught.value.cr_errno == 56
    return caught.value.message


def test_every_field_means_something() -> None:
    """No field is passed over: each is an option, a place, or known to be none."""
    names = {field.name for field in message("criu_opts").DESCRIPTOR.fields}
    known = set(fields._OPTION_OF) | set(fields._PLACES) | set(fields._NO_OPTION)
    assert names - known == set()
    assert known - names == set()
    assert set(fields._SPECIAL) | set(fields._FILES_HAVE_NO_SAY) <= names


def test_fields_that_need_no_form_of_their_own_are_of_simple_types() -> None:
    """And those with messages in them have one."""
    for field in message("criu_opts").DESCRIPTOR.fields:
        special = field.message_type is not None or field.enum_type is not None
        assert not special or field.name in fields._SPECIAL, field.name


def test_simple_fields(link: Link) -> None:
    opts = options(
        link, pid=7, leave_running=True, ghost_limit=5000, shell_job=True, link_remap=False, timeout=3,
        external=["tty[1:2]", "unix[5]"], log_level=4,
    )  # fmt: skip
    assert (opts.tree, opts.leave_running, opts.shell_job, opts.link_remap) == (7, True, True, False)
    assert (opts.ghost_limit, opts.timeout, opts.external, opts.verbosity) == (5000, 3, ["tty[1:2]", "unix[5]"], 4)


def test_a_client_that_names_no_task_means_itself(link: Link) -> None:
    assert options(link).tree == link.peer.pid


@pytest.mark.parametrize(
    ("said", "attribute", "value"),
    [
        ({"ext_unix_sk": True, "unix_sk_ino": [{"inode": 4}, {"inode": 9}]}, "ext_unix_sk", frozenset({4, 9})),
        ({"ext_unix_sk": True}, "ext_unix_sk", frozenset()),
        ({"unix_sk_ino": [{"inode": 4}]}, "ext_unix_sk", None),
        ({"cpu_cap": 1}, "cpu_cap", 1 | CPU_CAP_IMAGE),
        ({"manage_cgroups": True}, "manage_cgroups", "soft"),
        ({"manage_cgroups": False}, "manage_cgroups", "ignore"),
        ({"manage_cgroups": True, "manage_cgroups_mode": 5}, "manage_cgroups", "strict"),
        ({"network_lock": 3}, "network_lock", "skip"),
        ({"leave_running": True, "leave_stopped": True}, "leave_running", False),
        ({"log_to_stderr": True}, "log_file", None),
        ({"log_file": "a.log", "log_to_stderr": True}, "log_file", "a.log"),
        ({}, "log_file", "criu.log"),
        ({"empty_ns": 0}, "empty_ns", []),
    ],
)
def test_fields_with_a_form_of_their_own(link: Link, said: dict[str, Any], attribute: str, value: object) -> None:
    assert getattr(options(link, **said), attribute) == value


def test_what_restore_alone_takes(link: Link) -> None:
    given = [{"key": "pipe:[5]", "fd": 3}]
    opts = options(link, "restore", inherit_fd=given, exec_cmd=["sh", "-c", "true"], rst_sibling=True)
    assert opts.inherit_fd == [(3, "pipe:[5]")]
    assert opts.exec_cmd == ["sh", "-c", "true"]
    assert opts.restore_sibling
    assert opts.restore_detached


def test_all_that_is_wrong_is_said_at_once_and_by_name(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unserved, "UNSERVED", {"root": "", "track_mem": "", "page_server": "", "cgroup_root": ""})
    said = refusal(
        link, pid=-5, root="/r", track_mem=True, log_file="a/b", empty_ns=3, ps={"port": 70000, "address": "h"},
        join_ns=[{"ns": "pid", "ns_file": "7"}], config_file="/dev/full",
        cg_root=[{"ctrl": "cpu", "path": "/x"}],
    )  # fmt: skip
    for word in (
        r"--tree -5: must be a process id above 0", r"--root \(", r"--track-mem \(", r"log_file a/b:", r"empty_ns 0x3:",
        r"--page-server \(", r"--join-ns pid:7: a pid namespace", r"--cgroup-root \(",
    ):  # fmt: skip
        assert re.search(word, said), f"{word} is not in {said}"


def test_there_must_be_a_place_for_images(link: Link) -> None:
    opts = request("DUMP", {}).opts
    problems = Problems()
    fields.options_of(opts, Options(), Client(link, opts, lambda _pid: None), problems, "dump")
    assert problems.reasons == ["neither images_dir_fd nor images_dir says where the images are"]


def test_a_service_can_not_do_what_a_child_can(link: Link) -> None:
    said = refusal(link, "restore", service=True, rst_sibling=True, inherit_fd=[{"key": "k", "fd": 1}], ps={"fd": 9})
    assert all(f"{name}: a service can't have" in said for name in ("rst_sibling", "inherit_fd", "ps.fd"))


def test_descriptors_are_numbers_of_the_client(link: Link) -> None:
    opts = options(link, images_dir_fd=8, work_dir_fd=9)
    assert opts.images_dir == f"/proc/{link.peer.pid}/fd/8"
    assert opts.work_dir == f"/proc/{link.peer.pid}/fd/9"


# Precedence


def base(tmp_path: Path, *lines: str, words: tuple[str, ...] = ()) -> Options:
    """What requests start from where the default configuration file has these lines."""
    from engine import argv

    path = tmp_path / "default.conf"
    path.write_text("\n".join(lines))
    return base_options(argv.parse(["swrk", "3", "--config", str(path), *words]))


def test_fields_win_over_the_default_files(link: Link, tmp_path: Path) -> None:
    start = base(tmp_path, "tcp-close", "ghost-limit 7", "external a[1]", "log-file default.log", "images-dir /no")
    opts = options(link, base=start, tcp_close=False, external=["b[2]"])
    assert (opts.tcp_close, opts.ghost_limit, opts.external) == (False, 7, ["a[1]", "b[2]"])
    assert (opts.images_dir, opts.log_file) == ("/images", "default.log")
    assert options(link, base=start, log_file="x.log").log_file == "x.log"
    assert options(link, base=start, log_to_stderr=True).log_file is None
    assert start.external == ["a[1]"]


def test_the_file_of_the_request_wins_over_fields(link: Link, tmp_path: Path) -> None:
    path = tmp_path / "request.conf"
    path.write_text("tcp-close\nghost-limit 9\nimages-dir /of-file\nwork-dir /w\nlog-file dir/f.log\nverbosity 1\n")
    said: dict[str, Any] = {"tcp_close": False, "ghost_limit": 5, "work_dir_fd": 4, "log_file": "x", "log_level": 3}
    opts = options(link, **said, config_file=str(path))
    assert (opts.tcp_close, opts.ghost_limit, opts.images_dir, opts.work_dir) == (True, 9, "/of-file", "/w")
    assert opts.log_file == "dir/f.log"
    assert opts.verbosity == 3, "the level is always that of the request"
    assert options(link, config_file=str(path)).verbosity == 2


def test_options_of_a_server_that_are_about_itself(link: Link, tmp_path: Path) -> None:
    """Its directories and its log are its own. What else it was told holds for requests, too."""
    words = ("-W", str(tmp_path), "-o", "own.log", "-v4", "--tcp-close", "--pidfile", "p", "--address", "a")
    start = base(tmp_path, "link-remap", words=words)
    assert start.given == {"tcp_close", "link_remap"}
    opts = options(link, base=start)
    assert (opts.tcp_close, opts.link_remap, opts.work_dir, opts.log_file) == (True, True, None, "criu.log")


def test_table_names_only_fields_that_exist() -> None:
    names = {field.name for field in message("criu_opts").DESCRIPTOR.fields}
    for option in OPTIONS.values():
        assert set(option.rpc) <= names, option.name
