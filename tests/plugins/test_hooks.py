"""Every hook that is called: when, with what, and what comes of its answers and failures."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from tests.hostile.trial import errors_of
from tests.plugins.conftest import OUTSIDE, PERF

if TYPE_CHECKING:
    from tests.plugins.conftest import Place

RECORDER = r"""
import ctypes, socket, stat, struct

def init(stage, images_dir):
    note("init", stage, sorted(name for name in os.listdir(images_dir) if name == "inventory.img"))

def fini(stage, failure):
    note("fini", stage, failure)

def open_perf():
    attributes = ctypes.create_string_buffer(struct.pack("IIQ", 1, 120, 9), 120)
    number = 298 if os.uname().machine == "x86_64" else 241
    return ctypes.CDLL(None).syscall(number, attributes, 0, -1, -1, 0)

def dump_ext_file(fd, number):
    note("dump_ext_file", os.readlink(f"/proc/self/fd/{fd}"))
    os.close(fd)
    return b"a clock"

def restore_ext_file(state, number):
    note("restore_ext_file", state.decode())
    return open_perf()

def dump_unix_sk(fd, number):
    peer = socket.socket(fileno=fd).getpeername()
    note("dump_unix_sk", os.path.basename(peer))
    return peer.encode()

def restore_unix_sk(state, number):
    note("restore_unix_sk", os.path.basename(state.decode()))
    again = socket.socket(socket.AF_UNIX)
    again.connect(state)
    return again.detach()

def handle_device_vma(fd, info):
    note("handle_device_vma", stat.S_ISBLK(info.st_mode), os.readlink(f"/proc/self/fd/{fd}"))
    return True

def update_vma_map(path, address, offset):
    note("update_vma_map", path, offset)
    return os.open(path, os.O_RDWR), offset

def pause_devices(pid): note("pause_devices", pid)
def checkpoint_devices(pid): note("checkpoint_devices", pid)
def dump_devices_late(pid): note("dump_devices_late", pid)
def restore_init(): note("restore_init")
def post_forking(): note("post_forking")
def resume_devices_late(pid): note("resume_devices_late", pid)
"""


def test_all_hooks_there_and_back(place: Place, server: socket.socket, loop: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(server.getsockname())
        peer, _ = server.accept()
        pid = place.start(PERF + OUTSIDE, str(client.fileno()), loop, keep=(client.fileno(),)).pid
    place.plugin("recorder", RECORDER)
    with peer:
        assert place.dump() == 0, place.log
    assert place.noted() == [
        "init dump []",
        f"pause_devices {pid}",
        f"checkpoint_devices {pid}",
        f"handle_device_vma True {loop}",
        "dump_ext_file anon_inode:[perf_event]",
        "dump_unix_sk server",
        f"dump_devices_late {pid}",
        "fini dump None",
    ]
    assert place.restore() == 0, place.log
    noted = place.noted()
    assert noted[:4] == [
        "init restore ['inventory.img']",
        "restore_init",
        f"update_vma_map {loop} 0",
        "post_forking",
    ]
    assert sorted(noted[4:6]) == ["restore_ext_file a clock", "restore_unix_sk server"]
    assert noted[6:] == [f"resume_devices_late {pid}", "fini restore None"]
    assert "anon_inode:[perf_event]" in place.links()
    peer, _ = server.accept()
    with peer:
        peer.settimeout(10)
        peer.send(b"again")
        assert peer.recv(64) == b"AGAIN disk"


def test_pre_dump(place: Place) -> None:
    """It has to do with tasks and mappings, and asks nobody about files."""
    pid = place.start(PERF).pid
    place.plugin("recorder", RECORDER)
    assert place.run("pre-dump", "-t", str(pid), "--track-mem") == 0, place.log
    assert place.noted() == ["init pre-dump []", f"pause_devices {pid}", "fini pre-dump None"]
    place.subject.remember()


def test_file_that_no_plugin_knows_is_refused(place: Place) -> None:
    place.start(PERF)
    place.plugin("modest", "def dump_ext_file(fd, number): note('asked')\ndef fini(stage, failure): note(failure)")
    (error,) = place.refused()
    assert error.endswith("(anon_inode:[perf_event]): a perf event can't be dumped (close it before the dump)")
    asked, failure = place.noted()
    assert asked == "asked"
    assert failure.startswith("dump refused, one reason: ")


def test_plugins_are_asked_in_the_order_of_their_names(place: Place) -> None:
    place.start(PERF)
    for name, answer in (("c", b"c"), ("a", None), ("b", b"b")):
        place.plugin(name, f"def dump_ext_file(fd, number):\n    note({name!r})\n    return {answer!r}")
    assert place.dump() == 0, place.log
    assert place.noted() == ["a", "b"]
    assert place.restore() == 1
    (error,) = errors_of(place.log)
    assert error.endswith(
        "hook RESTORE_EXT_FILE of plugin 'b', which has dumped it, is needed to restore it (see --libdir)"
    )


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("init(stage, images_dir)", "hook init, stage dump: ValueError: no luck"),
        ("pause_devices(pid)", "hook PAUSE_DEVICES, task PID: ValueError: no luck"),
        ("checkpoint_devices(pid)", "hook CHECKPOINT_DEVICES, task PID: ValueError: no luck"),
        (
            "dump_ext_file(fd, number)",
            "hook DUMP_EXT_FILE, descriptor FD (anon_inode:[perf_event]) of task PID: ValueError: no luck",
        ),
        ("dump_devices_late(pid)", "hook DUMP_DEVICES_LATE, task PID: ValueError: no luck"),
    ],
)
def test_dump_fails_with_a_hook(place: Place, source: str, error: str) -> None:
    """One message, and nothing else has happened."""
    pid = place.start(PERF).pid
    place.plugin("good", RECORDER)
    place.plugin("bad", f"def {source}:\n    raise ValueError('no\\nluck')\n")
    (said,) = place.refused()
    perf = next(n for n in os.listdir(f"/proc/{pid}/fd") if "perf" in os.readlink(f"/proc/{pid}/fd/{n}"))
    assert said == f"plugin bad, {error}".replace("PID", str(pid)).replace("FD", perf, 1 if "FD" in error else 0)
    noted = place.noted()
    if not source.startswith("init"):
        assert noted[-1].startswith("fini dump ")
        assert noted[-1].endswith(said)
    assert os.listdir(place.images) == []


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("restore_init():\n    raise SystemExit(3)", "hook RESTORE_INIT, the images: SystemExit: 3"),
        ("post_forking():\n    open('/nowhere')", "hook POST_FORKING, the tree of task PID: FileNotFoundError: "),
        ("resume_devices_late(pid):\n    raise KeyError", "hook RESUME_DEVICES_LATE, task PID: KeyError"),
        ("restore_ext_file(state, number):\n    return None", "no plugin has made it again (hook RESTORE_EXT_FILE)"),
        ("restore_ext_file(state, number):\n    return 'x'", "returned 'x', not a descriptor"),
        ("restore_ext_file(state, number):\n    return 9999", "returned descriptor 9999: Bad file descriptor"),
    ],
)
def test_restore_fails_with_a_hook(place: Place, source: str, error: str) -> None:
    """Nothing of the tree stays."""
    pid = place.start(PERF).pid
    place.plugin("one", RECORDER)
    assert place.dump() == 0, place.log
    place.noted()
    place.plugin("one", f"{RECORDER}\ndef {source}\n")
    assert place.restore() == 1
    (said,) = errors_of(place.log)
    assert error.replace("PID", str(pid)) in said
    assert not os.path.exists(f"/proc/{pid}")
    assert place.noted()[-1].endswith(said)


@pytest.mark.parametrize("answer", ["'text'", "True", "bytearray(3)"])
def test_state_must_be_bytes(place: Place, answer: str) -> None:
    place.start(PERF)
    place.plugin("odd", f"def dump_ext_file(fd, number): return {answer}")
    (error,) = place.refused()
    assert error.startswith("plugin odd, hook DUMP_EXT_FILE, ")
    assert error.endswith(", not bytes")


def test_fini_that_fails_is_only_logged(place: Place) -> None:
    place.start(PERF)
    place.plugin("one", f"{RECORDER}\ndef fini(stage, failure): raise ValueError('too late')")
    assert place.dump() == 0
    assert "plugin one, hook fini, stage dump: ValueError: too late" in place.log


def test_restore_without_the_plugin_is_refused_by_name(place: Place) -> None:
    place.start(PERF)
    place.plugin("one", RECORDER)
    assert place.dump() == 0, place.log
    (place.plugins / "one.py").unlink()
    assert place.restore() == 1
    assert errors_of(place.log) == ["the images need plugin 'one' (put it into the directory of --libdir)"]


def test_a_hook_that_says_so_makes_its_plugin_needed(place: Place) -> None:
    place.start("import os, time")
    place.plugin("idle", "def checkpoint_devices(pid): pass")
    place.plugin("busy", "def checkpoint_devices(pid): return True")
    assert place.dump("--leave-running") == 0, place.log
    for path in place.plugins.iterdir():
        path.unlink()
    assert place.restore() == 1
    assert any("need plugin 'busy'" in error for error in errors_of(place.log))
    assert "idle" not in place.log
