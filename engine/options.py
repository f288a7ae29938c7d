"""All options of all commands: the one table that the command line, configuration files and the RPC service read.

The table is the body of class Options. Each line there is an Option record, and its name is also the attribute in
which an Options object holds the value:

    opts = Options()
    opts.use(OPTIONS["ghost-limit"], "4M")       # opts.ghost_limit == 4 << 20

Names, letters and defaults are those of CRIU 4.2.
"""

from __future__ import annotations

import os

from engine import option_values as values
from engine.option import Table, custom, flag, many, one

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.rpc.client import Client

COMMANDS = tuple(
    "dump pre-dump restore lazy-pages check page-server image-proxy image-cache service swrk dedup cpuinfo gc".split()
)
_ALL = " ".join(COMMANDS)
_NETWORK = "dump pre-dump page-server lazy-pages service image-proxy image-cache"
_REMOTE = "dump pre-dump restore"
_REMOTE_DAEMONS = "image-proxy image-cache"


class Options(Table):
    """The values of one run.

    command, words  the verb and what follows it ("cpuinfo", ["dump"])
    images_dir_fd   the images directory, opened before the work dir is entered (engine/places.py)
    client          who asked for this by RPC, if somebody did
    """

    # What to do, and where
    tree: int | None = one("-t PID", "dump pre-dump", "root of the process tree", values.pid, rpc="pid")
    leave_stopped: bool = flag(
        "dump restore",
        "leave the tasks stopped",
        rpc="leave_stopped",
        negatable=False,
        pulls={"leave_running": False},
        short="s",
    )
    leave_running: bool = flag(
        "dump",
        "leave the tasks running",
        rpc="leave_running",
        negatable=False,
        pulls={"leave_stopped": False},
        short="R",
    )
    restore_detached: bool = flag("restore", "exit as soon as the tasks run", short="d")
    restore_sibling: bool = flag(
        "restore", "make the root task a child of our parent; needs --restore-detached", rpc="rst_sibling", short="S"
    )
    daemon: None = flag(
        "page-server lazy-pages service image-proxy image-cache",
        "go to the background once the socket is ready",
        into="restore_detached",
        short="d",
    )
    images_dir: str = one("-D DIR", _ALL, "directory of the image files", default=".", rpc="images_dir_fd images_dir")
    work_dir: str | None = one(
        "-W DIR", _ALL, "directory of logs, statistics and pid files (default: the images directory)", rpc="work_dir_fd"
    )
    root: str | None = one("-r DIR", "dump restore", "root of the mount tree to dump from or restore into", rpc="root")
    pidfile: str | None = one(
        "FILE",
        "restore page-server lazy-pages service image-proxy image-cache",
        "write the pid of root task, server or service to a new file",
    )
    action_script: list[str] = many(
        "FILE",
        "dump restore lazy-pages page-server service image-proxy image-cache",
        "run a script at every step; the one given last runs first",
    )
    exec_cmd: list[str] = custom(
        "", "restore", "afterwards become the command that follows --", values.keep, [], rpc="exec_cmd"
    )
    libdir: str = one(
        "-L DIR",
        "dump pre-dump restore",
        "directory of plugins",
        os.path.abspath,
        default=os.environ.get("CRIU_LIBS_DIR", "/usr/lib/criu/"),
    )
    close: list[int] = many("FD", _ALL, "close an inherited descriptor first of all", values.natural)
    status_fd: int = one(
        "FD",
        "page-server lazy-pages service image-proxy image-cache dump",
        "write a zero byte to a descriptor and close it when ready",
        values.natural,
        default=-1,
        rpc="status_fd",
    )
    unprivileged: bool = flag(_ALL, "run without root", rpc="unprivileged")

    # Log and configuration
    log_file: str | None = one("-o FILE", _ALL, "log to a file in the work dir; - is standard output", rpc="log_file")
    log_pid: bool = flag("restore", "log to FILE.PID for each restored task")
    verbosity: int = custom(
        "-v [N]",
        _ALL,
        "more log lines: -v adds one to the level (2 at first), -vN sets it",
        values.verbosity,
        2,
        rpc="log_level",
    )
    display_stats: bool = flag("dump pre-dump restore", "print statistics at the end", rpc="display_stats")
    config: str | None = one("FILE", _ALL, "read this file instead of the two default configuration files")
    no_default_config: bool = flag(_ALL, "do not read the two default configuration files", negatable=False)
    help: bool = flag(_ALL, "print this text", negatable=False, short="h")
    version: bool = flag(_ALL, "print the version", negatable=False, short="V")

    # What the tree may have to do with the world outside
    shell_job: bool = flag(
        "dump restore", "allow a session, process group and terminal from outside", rpc="shell_job", short="j"
    )
    tcp_established: bool = flag("dump restore", "dump and restore connected TCP sockets", rpc="tcp_established")
    tcp_close: bool = flag("dump restore", "keep TCP sockets but drop their connections", rpc="tcp_close")
    skip_in_flight: bool = flag("dump", "drop TCP connections that are not accepted yet", rpc="tcp_skip_in_flight")
    network_lock: str = one(
        "METHOD",
        "dump",
        "how packets are held back: iptables, nftables, skip",
        values.network_lock,
        default="iptables",
        rpc="network_lock",
    )
    ext_unix_sk: frozenset[int] | None = custom(
        "-x [INODE,...]",
        "dump restore",
        "allow unix sockets with a peer outside, or only those peers",
        values.socket_inodes,
        None,
        rpc="ext_unix_sk unix_sk_ino",
    )
    external: list[str] = many(
        "KIND[ID]:KEY", "dump restore", "a resource that is not dumped but found again on restore", rpc="external"
    )
    veth_pair: None = many(
        "IN=OUT", "restore", "older spelling of --external veth[IN]:OUT", values.veth_pair, rpc="veths", into="external"
    )
    ext_mount_map: None = many(
        "-M KEY:VALUE",
        "dump restore",
        "older spelling of --external mnt[KEY]:VALUE",
        values.ext_mount_map,
        rpc="ext_mnt auto_ext_mnt",
        into="external",
    )
    inherit_fd: list[tuple[int, str]] = custom(
        "fd[N]:KEY", "restore", "use our descriptor N for the file of that key", values.inherit_fd, [], rpc="inherit_fd"
    )
    join_ns: list[tuple[str, str, str]] = many(
        "-J NS:PID|FILE[,EXTRA]", "restore", "put the tasks into an existing namespace", values.join_ns, rpc="join_ns"
    )
    empty_ns: list[str] = many(
        "net", "dump restore", "make a namespace but restore nothing in it", values.choice("net"), rpc="empty_ns"
    )
    weak_sysctls: bool = flag("restore", "leave out sysctls that this kernel does not have", rpc="weak_sysctls")

    # Files and mounts
    file_locks: bool = flag("dump restore", "dump and restore file locks", rpc="file_locks", short="l")
    link_remap: bool = flag(
        "dump", "make hard links for deleted files that still have a name elsewhere", rpc="link_remap"
    )
    ghost_limit: int = one(
        "SIZE",
        "dump",
        "largest deleted file that goes into the images, in bytes or with K, M, G",
        values.size,
        default=1 << 20,
        rpc="ghost_limit",
    )
    ghost_fiemap: bool = flag("dump", "find the data of deleted files by fiemap", default=True)
    evasive_devices: bool = flag("dump", "take any path to a device node", rpc="evasive_devices")
    force_irmap: bool = flag(
        "dump pre-dump", "look for the paths of inotify and fanotify marks on disk", rpc="force_irmap"
    )
    irmap_scan_path: list[str] = many(
        "DIR", "dump pre-dump", "a directory to look through for them", rpc="irmap_scan_paths"
    )
    file_validation: str = one(
        "METHOD",
        "dump restore",
        "compare files by filesize or buildid too",
        values.choice("filesize", "buildid"),
        default="buildid",
    )
    skip_file_rwx_check: bool = flag("restore", "accept files whose mode has changed", rpc="skip_file_rwx_check")
    skip_mnt: list[str] = many("DIR", "dump", "leave out a mount", rpc="skip_mnt")
    enable_fs: list[str] = custom(
        "FS,...",
        "dump restore",
        "file systems to try although we know nothing of them, or all",
        values.comma_list,
        [],
        rpc="enable_fs",
    )
    enable_external_sharing: bool = flag(
        "dump", "allow mounts that share with mounts outside", negatable=False, rpc="ext_sharing"
    )
    enable_external_masters: bool = flag(
        "dump", "allow mounts whose master is outside", negatable=False, rpc="ext_masters"
    )
    mntns_compat_mode: bool = flag("restore", "build mount trees without move_mount(2)", rpc="mntns_compat_mode")

    # Control groups, security modules, processor
    manage_cgroups: str = custom(
        "[MODE]",
        "dump restore",
        "which existing control groups are reused: none, props, soft, full, strict, ignore",
        values.replace(values.choice("none", "props", "soft", "full", "strict", "ignore"), "soft"),
        "soft",
        rpc="manage_cgroups manage_cgroups_mode",
    )
    cgroup_root: list[tuple[str, str]] = many(
        "[CONTROLLER:]/PATH",
        "dump restore",
        "put the control groups below another directory",
        values.cgroup_root,
        rpc="cg_root",
    )
    cgroup_props: str | None = one("TEXT", "dump", "description of controller properties", rpc="cgroup_props")
    cgroup_props_file: str | None = one("FILE", "dump", "file with such a description", rpc="cgroup_props_file")
    cgroup_dump_controller: list[str] = many(
        "NAME", "dump", "a controller whose properties are dumped", rpc="cgroup_dump_controller"
    )
    cgroup_yard: str | None = one(
        "DIR", "dump restore", "directory where the controllers are mounted", rpc="cgroup_yard"
    )
    freeze_cgroup: str | None = one(
        "DIR", "dump pre-dump", "stop the tasks by this freezer control group", os.path.abspath, rpc="freeze_cgroup"
    )
    lsm_profile: str | None = one(
        "PROFILE", "restore", "security profile: apparmor:NAME, selinux:CONTEXT or none", rpc="lsm_profile"
    )
    lsm_mount_context: str | None = one(
        "CONTEXT", "restore", "replaces the context= option of mounts", rpc="lsm_mount_context"
    )
    cpu_cap: int = custom(
        "[LIST]",
        "dump restore cpuinfo",
        "which processor features must match: fpu, cpu, ins, all, none, ^ negates",
        values.cpu_cap,
        values.CPU_CAP_DEFAULT,
        rpc="cpu_cap",
    )
    allow_uprobes: bool = flag("dump restore", "accept the mapping that uprobes leave")
    timeout: int = one(
        "SECONDS",
        "dump pre-dump",
        "seconds until the tasks must have stopped",
        values.natural,
        default=10,
        rpc="timeout",
    )

    # Memory
    track_mem: bool = flag("dump pre-dump", "watch which pages change from now on", rpc="track_mem")
    prev_images_dir: str | None = one(
        "DIR",
        "dump pre-dump page-server",
        "images of the previous dump, relative to the images directory",
        rpc="parent_img",
    )
    auto_dedup: bool = flag(
        "dump pre-dump restore page-server", "punch pages out of images that no longer need them", rpc="auto_dedup"
    )
    dry_run: bool = flag("gc", "say what would be removed, and remove nothing")
    pre_dump_mode: str = one(
        "MODE",
        "pre-dump",
        "how pre-dump reads memory: splice or read",
        values.choice("splice", "read"),
        default="splice",
        rpc="pre_dump_mode",
    )
    snapshot: bool = flag("dump", "let the tasks go on before their memory is written; needs --leave-running")
    lazy_pages: bool = flag(
        "dump restore page-server", "move memory only when it is touched", negatable=False, rpc="lazy_pages"
    )
    page_server: bool = flag("dump pre-dump lazy-pages", "send pages to, or get them from, a page server", rpc="ps")
    address: str | None = one(
        "ADDRESS", _NETWORK, "address of the page server, or socket path of the service", rpc="ps"
    )
    port: int | None = one("PORT", _NETWORK, "port of the page server", values.port, rpc="ps")
    ps_socket: int = one(
        "FD",
        "dump pre-dump page-server lazy-pages",
        "an already connected socket to the page server",
        values.natural,
        default=-1,
        rpc="ps",
    )
    stream: bool = flag("dump pre-dump restore cpuinfo", "read and write images through an image streamer")
    tls: bool = flag(_NETWORK, "encrypt the traffic of the page server", rpc="tls")
    tls_cacert: str | None = one("FILE", _NETWORK, "certificate authority that is trusted", rpc="tls_cacert")
    tls_cacrl: str | None = one("FILE", _NETWORK, "certificates that are revoked", rpc="tls_cacrl")
    tls_cert: str | None = one("FILE", _NETWORK, "our certificate", rpc="tls_cert")
    tls_key: str | None = one("FILE", _NETWORK, "our private key", rpc="tls_key")
    tls_no_cn_verify: bool = flag(
        _NETWORK, "do not compare the host name with the certificate", negatable=False, rpc="tls_no_cn_verify"
    )

    # Images that go to another machine without touching a disk; all of these are ours
    remote: bool = flag(_REMOTE, "dump to an image proxy, restore from an image cache", negatable=False)
    snapshot_id: str = one("ID", _REMOTE, "which snapshot in the image cache", values.snapshot_id, default="default")
    remote_socket: str | None = one(
        "PATH",
        f"{_REMOTE} {_REMOTE_DAEMONS}",
        "unix socket of the image proxy (default: image-proxy.sock) or cache (image-cache.sock), in the work dir",
    )
    remote_timeout: int = one(
        "SECONDS",
        f"{_REMOTE} {_REMOTE_DAEMONS} page-server lazy-pages",
        "how long a silent peer is waited for",
        values.positive,
        default=30,
    )
    max_memory: int = one(
        "SIZE", "image-cache", "memory for images (default: three quarters of what is free)", values.size, default=0
    )
    unconfirmed: bool = flag(
        "restore", "restore a snapshot although its dump vanished before it said that the tree had ended"
    )

    # Checks
    feature: str | None = one("NAME", "check", "check one kernel feature")
    extra: bool = flag("check", "also check what only some tasks need")
    experimental: bool = flag("check", "also check what is not relied on yet")
    all: bool = flag("check", "both of these", negatable=False, pulls={"extra": True, "experimental": True})
    deprecated: bool = flag(_ALL, "accept obsolete image formats and kernels", default="CRIU_DEPRECATED" in os.environ)
    ms: bool = flag("check", "no longer exists", negatable=False)

    def __init__(self) -> None:
        super().__init__()
        self.command = ""
        self.words: list[str] = []
        self.images_dir_fd = -1
        self.client: Client | None = None

    def allows_external_peer(self, inode: int) -> bool:
        """Whether --ext-unix-sk covers the unix socket with this inode number."""
        return self.ext_unix_sk is not None and (not self.ext_unix_sk or inode in self.ext_unix_sk)


OPTIONS = Options.table
