"""The JSON itself: the form that the field's tool (criu 3.17's crit was compared) gives to images."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from engine.crit.decode import decode
from engine.images.runs import encode as encode_runs
from engine.images.schema import message
from tests.images.samples import SAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from engine.images.directory import ImageDir

@pytest.fixture
def text(images: ImageDir, tmp_path: Path) -> Callable[..., str]:
    """Decodes a file of the images."""

    def run(name: str, pretty: bool = False, with_payload: bool = True) -> str:
        decode(f"{images.name}/{name}", str(tmp_path / "text"), pretty, with_payload)
        return (tmp_path / "text").read_text()

    return run


def _entries(text: str) -> list[Any]:
    found: list[Any] = json.loads(text)["entries"]
    return found


def test_one_line(images: ImageDir, text: Callable[..., str]) -> None:
    SAMPLES["PSTREE",](images)
    assert text("pstree.img") == (
        '{"magic": "PSTREE", "entries": [{"pid": 1, "ppid": 0, "pgid": 1, "sid": 1, "threads": [1, 10]}, '
        '{"pid": 300, "ppid": 0, "pgid": 1, "sid": 1, "threads": [300, 309]}]}\n'
    )


@pytest.mark.parametrize("pretty", [False, True])
def test_white_space_is_that_of_json_dump(pretty: bool, images: ImageDir, text: Callable[..., str]) -> None:
    """What is put together by hand is what json would make of the whole."""
    with images.writer("PAGEMAP", 1) as writer:
        writer.put(message("pagemap_head")(pages_id=1))
        for piece in encode_runs((n * 8192, n + 1, 4) for n in range(50_000)):
            writer.put_payload(piece)
    for sample, make in SAMPLES.items():
        if sample[0] != "PAGEMAP":
            make(images)
    images.write("SECCOMP", message("seccomp_entry")())
    for name in os.listdir(images.name):
        found = text(name, pretty)
        assert found == json.dumps(json.loads(found), indent=4 if pretty else None) + "\n", name


def test_page_maps(images: ImageDir, text: Callable[..., str]) -> None:
    SAMPLES["PAGEMAP", 1](images)
    entry = '{"vaddr": 0, "compat_nr_pages": 3, "flags": 6, "nr_pages": 3}'
    assert text("pagemap-1.img").startswith(f'{{"magic": "PAGEMAP", "entries": [{{"pages_id": 1}}, {entry}')
    assert _entries(text("pagemap-1.img", pretty=True))[2] == {
        "vaddr": "0x200000", "compat_nr_pages": 3, "flags": "PE_LAZY | PE_PRESENT", "nr_pages": 3
    }  # fmt: skip


def test_marked_fields(images: ImageDir, text: Callable[..., str]) -> None:
    mm = message("mm_entry")(exe_file_id=1, **{
        f"mm_{name}": 0x1000
        for name in (
            "start_code end_code start_data end_data start_stack start_brk brk arg_start arg_end env_start env_end"
        ).split()
    })  # fmt: skip
    mm.vmas.add(start=0x2000, end=0x3000, pgoff=16, shmid=0, prot=3, flags=0x100022, status=0x201, fd=-1, madv=1 << 14)
    images.write("MM", mm, 5)
    [plain], [pretty] = _entries(text("mm-5.img")), _entries(text("mm-5.img", pretty=True))
    assert (plain["mm_brk"], pretty["mm_brk"]) == (4096, "0x1000")
    assert plain["vmas"][0]["flags"] == 0x100022
    assert pretty["vmas"][0] == {
        "start": "0x2000", "end": "0x3000", "pgoff": 16, "shmid": 0, "prot": "PROT_READ | PROT_WRITE",
        "flags": "MAP_PRIVATE | MAP_ANON | 0x100000", "status": "VMA_AREA_REGULAR | VMA_ANON_PRIVATE", "fd": -1,
        "madv": "0x4000"
    }  # fmt: skip


def test_hex_holds_for_all_below(images: ImageDir, text: Callable[..., str]) -> None:
    core = message("core_entry")(mtype=1)
    core.thread_info.clear_tid_addr = 0x10
    for part, value in ((core.thread_info.gpregs, 0xAB), (core.thread_info.fpregs, 1)):
        for field in part.DESCRIPTOR.fields:
            if field.is_required:
                setattr(part, field.name, value)
    images.write("CORE", core, 5)
    [pretty] = _entries(text("core-5.img", pretty=True))
    assert pretty["mtype"] == "X86_64"
    assert pretty["thread_info"]["gpregs"]["ip"] == "0xab"
    assert _entries(text("core-5.img"))[0]["thread_info"]["gpregs"]["ip"] == 0xAB


def _inet(**more: Any) -> Any:
    entry = message("inet_sk_entry")(
        id=1, ino=2, family=2, type=1, proto=6, state=10, src_port=80, dst_port=0, flags=2, backlog=5, **more
    )
    entry.fown.SetInParent()
    for field in entry.fown.DESCRIPTOR.fields:
        setattr(entry.fown, field.name, 0)
    for field in entry.opts.DESCRIPTOR.fields:
        if field.is_required:
            setattr(entry.opts, field.name, 0)
    return entry


def test_sockets(images: ImageDir, text: Callable[..., str], there_and_back: Callable[[Path], str]) -> None:
    words = [int.from_bytes(bytes((127, 0, 0, 1)), "little")]
    images.write("INETSK", [_inet(src_addr=words, dst_addr=[0, 0, 0, 1 << 24]), _inet(src_addr=[1, 2], dst_addr=[])])
    first, second = _entries(text("inetsk.img", pretty=True))
    shown = (first["family"], first["type"], first["proto"], first["state"], first["flags"])
    assert shown == ("INET", "STREAM", "TCP", "LISTEN", "0x2")
    assert (first["src_addr"], first["dst_addr"], second["src_addr"]) == (["127.0.0.1"], ["::1"], [1, 2])


def test_devices(images: ImageDir, text: Callable[..., str]) -> None:
    """dev is the kernel's, with 20 bits of minor; rdev is the C library's."""
    ghost = message("ghost_file_entry")(uid=0, gid=0, mode=0o20600, dev=8 << 20 | 300, rdev=0x103)
    images.write("GHOST_FILE", ghost, 7)
    [ghost] = _entries(text("ghost-file-7.img", pretty=True))
    assert (ghost["dev"], ghost["rdev"], ghost["extra"]) == ("8:300", "1:3", "")


def test_states_are_not_misnamed(images: ImageDir, text: Callable[..., str], back: Callable[[str], bytes]) -> None:
    """The field's tool says "Zombie" for what is stopped. That is read, but not written."""
    for state, shown in ((1, "Alive"), (2, 2), (3, 3)):
        core = message("core_entry")(mtype=1)
        core.tc.task_state = state
        core.tc.exit_code = core.tc.personality = core.tc.flags = core.tc.blk_sigset = 0
        core.tc.comm = "x"
        images.write("CORE", core, 5)
        pretty = text("core-5.img", pretty=True)
        assert _entries(pretty)[0]["tc"]["task_state"] == shown
    with open(f"{images.name}/core-5.img", "rb") as file:
        assert back(pretty.replace('"task_state": 3', '"task_state": "Zombie"')) == file.read()


def test_payloads(images: ImageDir, text: Callable[..., str]) -> None:
    for make in SAMPLES.values():
        make(images)
    assert [entry["extra"] for entry in _entries(text("pipes-data.img"))] == [
        base64.encodebytes(data).decode() for data in (b"hello", b"", b"x" * 300)
    ]
    assert _entries(text("tcp-stream-abc.img"))[0]["extra"] == {"inq": "aW5wdXQ=\n", "outq": "b3V0cA==\n"}
    assert _entries(text("ipcns-sem-9.img"))[1]["extra"] == [7] * 5
    assert [entry["extra"] for entry in _entries(text("ipcns-shm-9.img"))] == ["c2hhcmVk\n", ""]
    assert _entries(text("ipcns-msg-9.img"))[0]["extra"][:2] == [{"mtype": 1, "msize": 3}, "b25l\n"]
    ghost, *chunks = _entries(text("ghost-file-1f.img"))
    assert "extra" not in ghost
    assert chunks == [{"len": 5, "off": 0, "extra": "c3RhcnQ=\n"}, {"len": 6, "off": 9000, "extra": "bWlkZGxl\n"}]


def test_payloads_left_out(images: ImageDir, text: Callable[..., str]) -> None:
    for make in SAMPLES.values():
        make(images)
    assert [entry["extra"] for entry in _entries(text("pipes-data.img", with_payload=False))] == [
        "... <5B>", "... <0B>", "... <300B>"
    ]  # fmt: skip
    assert [entry["extra"] for entry in _entries(text("ipcns-msg-9.img", with_payload=False))] == [
        "... <17B>", "... <0B>", "... <8B>"
    ]  # fmt: skip


def test_raw_images(images: ImageDir, text: Callable[..., str]) -> None:
    with images.writer("IPTABLES", 9) as writer:
        writer.put_payload(b"*filter\nCOMMIT\n")
    assert json.loads(text("iptables-9.img")) == {
        "magic": "IPTABLES", "entries": [{"extra": base64.encodebytes(b"*filter\nCOMMIT\n").decode()}]
    }  # fmt: skip
