"""What this kernel can do, found out by doing it.

One probe a feature, a function named after it, in the module of its area. A probe returns whether the feature is
there, or raises the OSError that says why not. What would change the state of this process is done in a forked child
(child.py). No probe looks at the kernel's version: distributions carry features back, and configurations leave
them out.

The names are those of `criu check --feature`.
"""

from __future__ import annotations

from functools import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MODULES = {
    "files": "mnt_id fdinfo_lock timerfd kcmp_epoll aio_remap openat2 pidfd_store memfd_hugetlb tun tun_ns",
    "memory": "mem_dirty_track uffd uffd-noncoop pagemap_scan pagemap_scan_guard_pages can_map_vdso compat_cr",
    "mounts": "autofs move_mount_set_group overlayfs_maps",
    "namespaces": "userns cgroupns timens external_net_ns ns_pid nsid link_nsid newifindex",
    "net": "tcp_half_closed sk_ns sk_unix_file net_diag_raw nftables has_ipt_legacy network_lock_nftables "
    "sockopt_buf_lock ipv6_freebind",
    "tasks": "seccomp_suspend seccomp_filters loginuid clone3_set_tid apparmor_stacking get_rseq_conf timer_cr_ids "
    "breakpoints",
}
FEATURES = {name: module for module, names in _MODULES.items() for name in names.split()}
"""Name of every feature, and the module with its probe."""


@cache
def reason_against(name: str) -> str | None:
    """None when the kernel has the feature, else why not, in words. KeyError: no such feature."""
    try:
        return None if _probe(name)() else "the kernel does not have it"
    except OSError as exc:
        return str(exc.strerror or exc)


def has(name: str) -> bool:
    """Whether the kernel has the feature. Asked once per process. KeyError: no such feature."""
    return reason_against(name) is None


def _probe(name: str) -> Callable[[], bool]:
    from importlib import import_module

    module = import_module(f"engine.kernel.features.{FEATURES[name]}")
    probe: Callable[[], bool] = getattr(module, name.replace("-", "_"))
    return probe
