"""The kinds of images: file name, magic, framing and messages of each. The one table that every reader and writer uses.

A file starts with two little-endian 32-bit numbers, COMMON or SERVICE and the magic of its kind, and goes on with
entries, each a 32-bit size and so many bytes of protobuf. The inventory has its own magic only. In version 1 of the
format (inventory_entry.img_version) all kinds have their own magic only. Raw files have neither magic nor entries.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

COMMON: Final = 0x54564319
SERVICE: Final = 0x55105940

# Framings.
SINGLE: Final = "single"
ARRAY: Final = "array"
HEAD_ARRAY: Final = "head+array"
SINGLE_PAYLOAD: Final = "single+payload"
ARRAY_PAYLOAD: Final = "array+payload"
GHOST: Final = "ghost"
RAW: Final = "raw"
RAW_MAGIC: Final = "raw-with-magic"

# Status: who still uses the kind.
CURRENT: Final = "current"
LEGACY: Final = "legacy-read"
UNUSED: Final = "unused"


class Kind:
    """One row.

    name      as used with ImageDir, "FDINFO"
    pattern   file name, with one %-conversion for the id if the kind has one
    magic     its own magic; None: raw, no header at all
    framing   single: exactly one entry. array: entries up to the end. head+array: one entry of messages[0], then
              entries of messages[1]. +payload: bytes that are not protobuf follow each entry (reader.py).
              ghost: one entry, then the contents of a file. raw: anything.
    messages  names of the entries' messages
    prefix    COMMON, SERVICE or None: the number in front of the magic
    in_work_dir  the file belongs into the work directory rather than among the images
    status    CURRENT; LEGACY: read from old images, never written; UNUSED: a name that no version wrote
    """

    __slots__ = ("framing", "in_work_dir", "magic", "messages", "name", "pattern", "prefix", "status")

    def __init__(
        self,
        name: str,
        pattern: str,
        magic: int | None,
        framing: str,
        *messages: str,
        prefix: int | None = COMMON,
        in_work_dir: bool = False,
        status: str = CURRENT,
    ) -> None:
        self.name = name
        self.pattern = pattern
        self.magic = magic
        self.framing = framing
        self.messages = messages
        self.prefix = prefix if magic is not None else None
        self.in_work_dir = in_work_dir
        self.status = status

    def __repr__(self) -> str:
        return f"Kind({self.name!r})"

    @property
    def header(self) -> bytes:
        """What the file starts with, in the current version of the format."""
        numbers = [number for number in (self.prefix, self.magic) if number is not None]
        return b"".join(number.to_bytes(4, "little") for number in numbers)

    def file_name(self, *ids: int | str) -> str:
        """The file for an id: Kind CORE, 17 -> "core-17.img". Only STATS has a word for an id, "dump" or "restore"."""
        for each in ids:
            if isinstance(each, str) and each not in ("dump", "restore"):
                raise ValueError(f"{each!r} is not an id of {self.name}")
        return self.pattern % ids


# What a dump consists of.
_CURRENT = (
    Kind("INVENTORY", "inventory.img", 0x58313116, SINGLE, "inventory_entry", prefix=None),
    Kind("STATS", "stats-%s", 0x57093306, SINGLE, "stats_entry", prefix=SERVICE, in_work_dir=True),
    Kind("IRMAP_CACHE", "irmap-cache", 0x57004059, ARRAY, "irmap_cache_entry", prefix=SERVICE, in_work_dir=True),
    Kind("CPUINFO", "cpuinfo.img", 0x61404013, SINGLE, "cpuinfo_entry"),
    # The tree, by virtual pid or tid.
    Kind("PSTREE", "pstree.img", 0x50273030, ARRAY, "pstree_entry"),
    Kind("CORE", "core-%u.img", 0x55053847, SINGLE, "core_entry"),
    Kind("IDS", "ids-%u.img", 0x54432030, SINGLE, "task_kobj_ids_entry"),
    Kind("FS", "fs-%u.img", 0x51403912, SINGLE, "fs_entry"),
    Kind("SECCOMP", "seccomp.img", 0x64413049, SINGLE, "seccomp_entry"),
    Kind("APPARMOR", "apparmor.img", 0x59423047, SINGLE, "apparmor_entry"),
    Kind("CGROUP", "cgroup.img", 0x59383330, SINGLE, "cgroup_entry"),
    # Memory, by virtual pid; shared memory by shmid; pages by pages_id.
    Kind("MM", "mm-%u.img", 0x57492820, SINGLE, "mm_entry"),
    Kind("PAGEMAP", "pagemap-%u.img", 0x56084025, HEAD_ARRAY, "pagemap_head", "pagemap_entry"),
    Kind("SHMEM_PAGEMAP", "pagemap-shmem-%u.img", 0x56084025, HEAD_ARRAY, "pagemap_head", "pagemap_entry"),
    Kind("PAGES", "pages-%u.img", None, RAW),
    Kind("MEMFD_INODE", "memfd.img", 0x48453499, ARRAY, "memfd_inode_entry"),
    # Descriptor tables, by files_id, open files and what they hold; ghosts by ghost id, TCP by socket inode.
    Kind("FDINFO", "fdinfo-%u.img", 0x56213732, ARRAY, "fdinfo_entry"),
    Kind("FILES", "files.img", 0x56303138, ARRAY, "file_entry"),
    Kind("REMAP_FPATH", "remap-fpath.img", 0x59133954, ARRAY, "remap_file_path_entry"),
    Kind("GHOST_FILE", "ghost-file-%x.img", 0x52583605, GHOST, "ghost_file_entry", "ghost_chunk_entry"),
    Kind("FILE_LOCKS", "filelocks.img", 0x54323616, ARRAY, "file_lock_entry"),
    Kind("PIPES_DATA", "pipes-data.img", 0x56453709, ARRAY_PAYLOAD, "pipe_data_entry"),
    Kind("FIFO_DATA", "fifo-data.img", 0x59333054, ARRAY_PAYLOAD, "pipe_data_entry"),
    Kind("SK_QUEUES", "sk-queues.img", 0x56264026, ARRAY_PAYLOAD, "sk_packet_entry"),
    Kind("TCP_STREAM", "tcp-stream-%x.img", 0x51465506, SINGLE_PAYLOAD, "tcp_stream_entry"),
    Kind("TTY_INFO", "tty-info.img", 0x59453036, ARRAY, "tty_info_entry"),
    Kind("TTY_DATA", "tty-data.img", 0x59413026, ARRAY, "tty_data_entry"),
    Kind("BPFMAP_DATA", "bpfmap-data.img", 0x64324033, ARRAY_PAYLOAD, "bpfmap_data_entry"),
    # Namespaces, by our id of the namespace (timens: 0 when it is not dumped).
    Kind("PIDNS", "pidns-%u.img", 0x61157326, SINGLE, "pidns_entry"),
    Kind("USERNS", "userns-%u.img", 0x55474906, SINGLE, "userns_entry"),
    Kind("UTSNS", "utsns-%u.img", 0x54473203, SINGLE, "utsns_entry"),
    Kind("TIMENS", "timens-%u.img", 0x43114433, SINGLE, "timens_entry"),
    Kind("IPC_VAR", "ipcns-var-%u.img", 0x53115007, SINGLE, "ipc_var_entry"),
    Kind("IPCNS_SHM", "ipcns-shm-%u.img", 0x46283044, ARRAY_PAYLOAD, "ipc_shm_entry"),
    Kind("IPCNS_MSG", "ipcns-msg-%u.img", 0x55453737, ARRAY_PAYLOAD, "ipc_msg_entry", "ipc_msg"),
    Kind("IPCNS_SEM", "ipcns-sem-%u.img", 0x59573019, ARRAY_PAYLOAD, "ipc_sem_entry"),
    Kind("NETNS", "netns-%u.img", 0x55933752, SINGLE, "netns_entry"),
    Kind("NETDEV", "netdev-%u.img", 0x57373951, ARRAY, "net_device_entry"),
    Kind("IFADDR", "ifaddr-%u.img", None, RAW),
    Kind("ROUTE", "route-%u.img", None, RAW),
    Kind("ROUTE6", "route6-%u.img", None, RAW),
    Kind("RULE", "rule-%u.img", None, RAW),
    Kind("IPTABLES", "iptables-%u.img", None, RAW),
    Kind("IP6TABLES", "ip6tables-%u.img", None, RAW),
    Kind("NFTABLES", "nftables-%u.img", None, RAW),
    Kind("NETNF_CT", "netns-ct-%u.img", None, RAW),
    Kind("NETNF_EXP", "netns-exp-%u.img", None, RAW),
    # Mounts, by mount namespace; contents of file systems by the device number of the super block.
    Kind("MNTS", "mountpoints-%u.img", 0x55563928, ARRAY, "mnt_entry"),
    Kind("TMPFS_DEV", "tmpfs-dev-%u.tar.gz.img", None, RAW),
    Kind("AUTOFS", "autofs-%u.img", 0x49353943, SINGLE, "autofs_entry"),
    Kind("BINFMT_MISC", "binfmt-misc.img", 0x67343323, ARRAY, "binfmt_misc_entry"),
)

# What old images have in files of their own: now in core-TID, mm-PID and files.img.
_LEGACY = (
    Kind("CREDS", "creds-%u.img", 0x54023547, SINGLE, "creds_entry", status=LEGACY),
    Kind("VMAS", "vmas-%u.img", 0x54123737, ARRAY, "vma_entry", status=LEGACY),
    Kind("SIGACT", "sigacts-%u.img", 0x55344201, ARRAY, "sa_entry", status=LEGACY),
    Kind("SIGNAL", "signal-s-%u.img", 0x59255647, ARRAY, "siginfo_entry", status=LEGACY),
    Kind("PSIGNAL", "signal-p-%u.img", 0x59255647, ARRAY, "siginfo_entry", status=LEGACY),
    Kind("RLIMIT", "rlimit-%u.img", 0x57113925, ARRAY, "rlimit_entry", status=LEGACY),
    Kind("ITIMERS", "itimers-%u.img", 0x57464056, ARRAY, "itimer_entry", status=LEGACY),
    Kind("POSIX_TIMERS", "posix-timers-%u.img", 0x52603957, ARRAY, "posix_timer_entry", status=LEGACY),
    Kind("INOTIFY_WD", "inotify-wd.img", 0x54562009, ARRAY, "inotify_wd_entry", status=LEGACY),
    Kind("FANOTIFY_MARK", "fanotify-mark.img", 0x56506035, ARRAY, "fanotify_mark_entry", status=LEGACY),
    Kind("EVENTPOLL_TFD", "eventpoll-tfd.img", 0x44433746, ARRAY, "eventpoll_tfd_entry", status=LEGACY),
    Kind("TMPFS_IMG", "tmpfs-%u.tar.gz.img", None, RAW, status=LEGACY),
    Kind("BINFMT_MISC_OLD", "binfmt-misc-%u.img", 0x67343323, ARRAY, "binfmt_misc_entry", status=LEGACY),
    Kind("REG_FILES", "reg-files.img", 0x50363636, ARRAY, "reg_file_entry", status=LEGACY),
    Kind("EXT_FILES", "ext-files.img", 0x59255641, ARRAY, "ext_file_entry", status=LEGACY),
    Kind("NS_FILES", "ns-files.img", 0x61394011, ARRAY, "ns_file_entry", status=LEGACY),
    Kind("PIPES", "pipes.img", 0x56513555, ARRAY, "pipe_entry", status=LEGACY),
    Kind("FIFO", "fifo.img", 0x58364939, ARRAY, "fifo_entry", status=LEGACY),
    Kind("EVENTFD_FILE", "eventfd.img", 0x44523722, ARRAY, "eventfd_file_entry", status=LEGACY),
    Kind("EVENTPOLL_FILE", "eventpoll.img", 0x45023858, ARRAY, "eventpoll_file_entry", status=LEGACY),
    Kind("SIGNALFD", "signalfd.img", 0x57323820, ARRAY, "signalfd_entry", status=LEGACY),
    Kind("TIMERFD", "timerfd.img", 0x50493712, ARRAY, "timerfd_entry", status=LEGACY),
    Kind("INOTIFY_FILE", "inotify.img", 0x48424431, ARRAY, "inotify_file_entry", status=LEGACY),
    Kind("FANOTIFY_FILE", "fanotify.img", 0x55096122, ARRAY, "fanotify_file_entry", status=LEGACY),
    Kind("TUNFILE", "tunfile.img", 0x57143751, ARRAY, "tunfile_entry", status=LEGACY),
    Kind("TTY_FILES", "tty.img", 0x59433025, ARRAY, "tty_file_entry", status=LEGACY),
    Kind("UNIXSK", "unixsk.img", 0x54373943, ARRAY, "unix_sk_entry", status=LEGACY),
    Kind("INETSK", "inetsk.img", 0x56443851, ARRAY, "inet_sk_entry", status=LEGACY),
    Kind("PACKETSK", "packetsk.img", 0x60454618, ARRAY, "packet_sock_entry", status=LEGACY),
    Kind("NETLINK_SK", "netlinksk.img", 0x58005614, ARRAY, "netlink_sk_entry", status=LEGACY),
)

# Names and magics that are taken, for files that no version of CRIU at hand reads or writes.
_UNUSED = (
    Kind("BPFMAP_FILE", "bpfmap-file.img", 0x57506142, ARRAY, "bpfmap_file_entry", status=UNUSED),
    Kind("PIDFD", "pidfd.img", 0x54435556, ARRAY, "pidfd_entry", status=UNUSED),
    Kind("PAGES_OLD", "pages-%d.img", 0x56084025, RAW_MAGIC, status=UNUSED),
    Kind("SHM_PAGES_OLD", "pages-shmem-%d.img", 0x56084025, RAW_MAGIC, status=UNUSED),
)

KINDS: Final = {kind.name: kind for kind in (*_CURRENT, *_LEGACY, *_UNUSED)}

# A magic may stand for several kinds: the page maps, and the two queues of pending signals.
BY_MAGIC: Final[dict[int, tuple[Kind, ...]]] = {}
for _kind in KINDS.values():
    if _kind.magic is not None:
        BY_MAGIC[_kind.magic] = (*BY_MAGIC.get(_kind.magic, ()), _kind)
