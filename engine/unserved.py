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
    "empty_ns": "empty namespaces",
    "enable_external_masters": "mounts with a master outside",
    "enable_external_sharing": "mounts shared with the outside",
    "enable_fs": "unknown file systems",
    "join_ns": "joining namespaces",
    "lsm_mount_context": "security contexts of mounts",
    "root": "another root of the mount tree",
    "skip_in_flight": "dropping half-open TCP connections",
    "skip_mnt": "leaving out mounts",
    "stream": "image streamers",
    "tcp_established": "connected TCP sockets",
}

# attribute: what asks for nothing but what is done anyway
_NO_WISH = {"root": "/"}

# Kinds of --external, --veth-pair and --ext-mount-map
UNSERVED_EXTERNAL = {
    "dev": "devices of mounts",
    "macvlan": "network devices",
    "mnt": "mounts",
    "net": "network namespaces",
    "netdev": "network devices",
    "pid": "pid namespaces",
    "veth": "network devices",
}

# attribute: why it makes no difference
HARMLESS = {
    "deprecated": "nothing obsolete is refused",
    "evasive_devices": "device nodes are found by number",
    "log_pid": "one process restores all tasks and writes one log",
    "manage_cgroups": "tasks stay in the control group of the restorer",
    "mntns_compat_mode": "there is one way to build mount trees",
    "network_lock": "asks how, and is decided where connections are dumped",
    "weak_sysctls": "no sysctls are restored",
}


def refuse_unserved(opts: Options) -> None:
    """Raise Refused that names every option in use which this engine does not serve."""
    problems = Problems()
    problems.cr_errno = EBADRQC
    for attribute, wish in UNSERVED.items():
        if attribute in opts.given and getattr(opts, attribute) not in (False, [], None, _NO_WISH.get(attribute)):
            problems.add(f"--{attribute.replace('_', '-')} ({wish}) is not supported by this engine")
    for item in opts.external:
        kind = item.partition("[")[0]
        if kind in UNSERVED_EXTERNAL:
            problems.add(f"--external {item} (external {UNSERVED_EXTERNAL[kind]}) is not supported by this engine")
    problems.raise_if_any(opts.command)
