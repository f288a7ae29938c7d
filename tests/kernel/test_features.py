"""The probes of kernel features: each answers, alters nothing, and says no where there is nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from engine.kernel import features
from engine.kernel.features import child, files, memory
from engine.kernel.features.child import CLONE_NEWNET, in_child, tracee
from engine.kernel.procfs import children

# `criu check --feature` of CRIU 4.2.
NAMES = """
mnt_id mem_dirty_track aio_remap timerfd tun tun_ns userns fdinfo_lock seccomp_suspend seccomp_filters loginuid
cgroupns autofs tcp_half_closed compat_cr uffd uffd-noncoop can_map_vdso sk_ns sk_unix_file net_diag_raw nsid link_nsid
kcmp_epoll timens external_net_ns clone3_set_tid newifindex nftables has_ipt_legacy pidfd_store ns_pid
apparmor_stacking network_lock_nftables sockopt_buf_lock memfd_hugetlb move_mount_set_group openat2 get_rseq_conf
ipv6_freebind pagemap_scan timer_cr_ids overlayfs_maps breakpoints pagemap_scan_guard_pages
""".split()


def surroundings() -> dict[str, object]:
    """What a probe could leave behind. Mounts and devices of probes are all named so; others come and go here."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return {
        "descriptors": sorted(os.listdir("/proc/self/fd")),
        "mounts": [line for line in mounts if " probe " in line],
        "namespaces": [os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")],
        "children": Path(f"/proc/self/task/{os.getpid()}/children").read_text(),
        "devices": [name for name in os.listdir("/sys/class/net") if name.startswith(("probe", "tun"))],
        "loginuid": Path("/proc/self/loginuid").read_text(),
    }


def test_names_are_those_of_criu() -> None:
    assert set(features.FEATURES) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_probe_answers_and_leaves_no_trace(name: str) -> None:
    features.reason_against(name)  # what it imports may open descriptors once
    features.reason_against.cache_clear()
    before = surroundings()
    reason = features.reason_against(name)
    assert reason is None or reason
    assert surroundings() == before


def test_features_that_every_kernel_this_runs_on_has() -> None:
    for name in "mnt_id fdinfo_lock ns_pid openat2 pidfd_store clone3_set_tid timerfd sk_ns".split():
        assert features.reason_against(name) is None, name


def test_an_answer_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    features.reason_against.cache_clear()
    asked = []

    def probe() -> bool:
        asked.append(1)
        return False

    monkeypatch.setattr(files, "mnt_id", probe)
    assert not features.has("mnt_id")
    assert not features.has("mnt_id")
    assert len(asked) == 1
    features.reason_against.cache_clear()


def test_an_error_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def probe() -> bool:
        raise OSError(errno.ENOSYS, "Function not implemented")

    features.reason_against.cache_clear()
    monkeypatch.setattr(files, "openat2", probe)
    assert features.reason_against("openat2") == "Function not implemented"
    features.reason_against.cache_clear()


def test_dirty_tracking_is_either_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    for soft, wp in ((False, False), (True, False), (False, True)):
        monkeypatch.setattr(memory, "soft_dirty", lambda soft=soft: soft)
        monkeypatch.setattr(memory, "wp_async", lambda wp=wp: wp)
        assert memory.mem_dirty_track() == (soft or wp)


def test_a_childs_answers_and_errors_come_back() -> None:
    def fail() -> bool:
        raise OSError(errno.EPERM, "")

    assert in_child(lambda: True)
    assert not in_child(lambda: False)
    with pytest.raises(PermissionError):
        in_child(fail)
    with pytest.raises(OSError, match="killed, signal 9"):
        in_child(lambda: os.kill(os.getpid(), 9) is None)


def test_a_child_has_namespaces_of_its_own() -> None:
    ours = os.readlink("/proc/self/ns/net")
    assert in_child(lambda: os.readlink("/proc/self/ns/net") != ours, CLONE_NEWNET)


def test_a_tracee_whose_options_are_refused_is_gone() -> None:
    before = set(children(os.getpid()))
    with pytest.raises(OSError), tracee(lambda: None, options=1 << 30):
        pass
    assert set(children(os.getpid())) <= before


def test_numbers_of_namespaces() -> None:
    """The constants of linux/sched.h, whose mistakes would make every probe say yes."""
    assert child.CLONE_NEWTIME == 0x80
    assert child.CLONE_NEWNS == os.CLONE_NEWNS if hasattr(os, "CLONE_NEWNS") else 0x20000
