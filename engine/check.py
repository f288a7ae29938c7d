"""crucible check: can this kernel do what dump and restore need?

    check                  what every dump and restore needs
    check --extra          and what only some tasks need
    check --experimental   and what the engine does not rely on yet
    check --all            everything
    check --feature NAME   one feature: exit status and one line

Exit status 1 when something needed is missing, also when only an extra feature is.
"""

from __future__ import annotations

from engine import log
from engine.errors import CrError
from engine.kernel.features import FEATURES, reason_against

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.options import Options

# Nothing works without these.
NEEDED = (
    "clone3_set_tid fdinfo_lock get_rseq_conf kcmp_epoll mnt_id ns_pid openat2 pidfd_store seccomp_filters "
    "seccomp_suspend timerfd"
).split()
# Needed by tasks that have such an object, or by options.
EXTRA = (
    "aio_remap autofs can_map_vdso cgroupns ipv6_freebind loginuid mem_dirty_track memfd_hugetlb move_mount_set_group "
    "net_diag_raw network_lock_nftables nftables nsid pagemap_scan pagemap_scan_guard_pages sk_ns sk_unix_file "
    "sockopt_buf_lock tcp_half_closed timens tun tun_ns uffd uffd-noncoop userns"
).split()
# The rest: there are other ways, or nothing uses them.
EXPERIMENTAL = [name for name in FEATURES if name not in NEEDED and name not in EXTRA]


def run(opts: Options) -> int:
    """The verb. Returns the exit status; raises CrError for an unknown feature."""
    if opts.feature is not None:
        return _check_feature(opts.feature)
    wanted = [*(EXTRA if opts.extra else ()), *(EXPERIMENTAL if opts.experimental else ())]
    missing = _missing(NEEDED)
    missing_extra = _missing(wanted)
    if missing:
        log.error(f"this kernel lacks what every dump and restore needs: {' '.join(missing)}")
        return 1
    if missing_extra:
        log.msg(
            "Looks good but some kernel features are missing\n"
            "which, depending on the process tree, may cause\n"
            "dump or restore failure."
        )
        return 1
    log.msg("Looks good.")
    return 0


def _check_feature(name: str) -> int:
    if name not in FEATURES:
        raise CrError(f"unknown feature {name}; known are: {' '.join(FEATURES)}")
    reason = reason_against(name)
    if reason is not None:
        log.error(f"feature {name} is not supported: {reason}")
        return 1
    log.msg(f"{name} is supported")
    return 0


def _missing(names: Iterable[str]) -> list[str]:
    """Those of the features that the kernel lacks; each is told as a warning."""
    missing = []
    for name in names:
        reason = reason_against(name)
        log.debug(f"feature {name}: {reason or 'yes'}")
        if reason is not None:
            log.warn(f"feature {name} is missing: {reason}")
            missing.append(name)
    return missing
