"""Options of CRIU that this engine knows but does not serve.

An option that would change what is dumped or restored must not be passed over in silence: it is refused. A few make
no difference here and are accepted. tests/cli/test_unserved.py holds this list against what the engine reads.
"""

from __future__ import annotations

from engine.errors import Problems
from engine.option import EBADRQC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.options import Options

# attribute: what it would ask for
UNSERVED = {
    "cgroup_dump_controller": "control group properties",
    "cgroup_props": "control group properties",
    "cgroup_props_file": "control group properties",
    "cgroup_root": "another place for control groups",
    "cgroup_yard": "another place for control groups",
    "join_ns": "joining namespaces",
    "stream": "image streamers",
}

_NO_MOUNTS = "tells of mounts, or allows some: trees with a mount namespace of their own are refused"
_NO_TCP = "tells what to do with connections: TCP/IP sockets are refused"

# attribute: why it makes no difference. What tells of things, or allows them, is given whether there are any or not,
# by runc for example. Where there are, they are refused themselves, with the task that has them.
HARMLESS = {
    "deprecated": "nothing obsolete is refused",
    "empty_ns": "trees with a net namespace of their own are refused",
    "enable_external_masters": _NO_MOUNTS,
    "enable_external_sharing": _NO_MOUNTS,
    "enable_fs": _NO_MOUNTS,
    "evasive_devices": "device nodes are found by number",
    "log_pid": "one process restores all tasks and writes one log",
    "lsm_mount_context": _NO_MOUNTS,
    "manage_cgroups": "tasks stay in the control group of the restorer",
    "mntns_compat_mode": "there is one way to build mount trees",
    "network_lock": "asks how, and is decided where connections are dumped",
    "root": _NO_MOUNTS,
    "skip_in_flight": _NO_TCP,
    "skip_mnt": _NO_MOUNTS,
    "tcp_established": _NO_TCP,
    "weak_sysctls": "no sysctls are restored",
}


def refuse_unserved(opts: Options) -> None:
    """Raise Refused that names every option in use which this engine does not serve."""
    problems = Problems()
    problems.cr_errno = EBADRQC
    for attribute, wish in UNSERVED.items():
        if attribute in opts.given and getattr(opts, attribute) not in (False, [], None):
            problems.add(f"--{attribute.replace('_', '-')} ({wish}) is not supported by this engine")
    problems.raise_if_any(opts.command)
