"""criu_opts becomes Options: each field is a use of the option that names it in the table (Option.rpc).

What is said later wins: the configuration files that were read at the start, the fields, the file that the client names
in config_file, and last a few fields which no file has a say in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine import argv, config
from engine.errors import Problems
from engine.images.text import get_text
from engine.option import EBADRQC, OptionError
from engine.option_values import CPU_CAP_ALL, CPU_CAP_IMAGE
from engine.options import OPTIONS, Options
from engine.unserved import refuse_unserved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from engine.option import Option
    from engine.rpc.client import Client

Message = Any

_OPTION_OF: dict[str, Option] = {name: option for option in OPTIONS.values() for name in option.rpc}
# Fields that say where; see _say_where().
_PLACES = ("images_dir_fd", "images_dir", "work_dir_fd", "log_file", "log_to_stderr", "config_file")
# Fields that are no option: what the client itself wants; status_fd is obsolete, the answer says the same.
_NO_OPTION = ("notify_scripts", "orphan_pts_master", "pidfd_store_sk", "status_fd")
_FILES_HAVE_NO_SAY = ("parent_img", "irmap_scan_paths", "log_level", "mntns_compat_mode")
_FOR_SWRK_ONLY = {"rst_sibling": "a child", "inherit_fd": "descriptors", "ps.fd": "a connected socket"}
_DEFAULT_LOG = "criu.log"
_CLONE_NEWNET = 0x40000000
_CGROUP_MODES = ("ignore", "none", "props", "soft", "full", "strict", "soft")
_NETWORK_LOCKS = {1: "iptables", 2: "nftables", 3: "skip"}
_PRE_DUMP_MODES = {1: "splice", 2: "read"}


def options_of(
    fields: Message,
    base: Options,
    client: Client,
    problems: Problems,
    command: str,
    words: Iterable[str] = (),
    in_service: bool = False,
) -> Options:
    """Options for one request. base: what holds where neither fields nor their file say anything.

    problems  gets everything that is wrong with them
    """
    opts = Options()
    for attribute in base.given:
        opts.given.add(attribute)
        value = getattr(base, attribute)
        setattr(opts, attribute, value.copy() if isinstance(value, list) else value)
    opts.client, opts.command, opts.words = client, command, list(words)
    opts.restore_detached = command == "restore"
    present = [descriptor.name for descriptor, _ in fields.ListFields()]
    if in_service:
        _refuse_for_service(fields, problems)
    _apply(opts, fields, [name for name in present if name not in _FILES_HAVE_NO_SAY], problems)
    _say_where(opts, fields, problems)
    if fields.HasField("config_file"):
        with problems:
            argv.apply_all(opts, config.read_file(get_text(fields.config_file)))
    if "images_dir" not in opts.given:
        problems.add("neither images_dir_fd nor images_dir says where the images are")
    _apply(opts, fields, {"log_level", *present}.intersection(_FILES_HAVE_NO_SAY), problems)
    for check in (argv.check, refuse_unserved):
        with problems:
            check(opts)
    if problems:
        problems.cr_errno = EBADRQC
    return opts


def add_externals(opts: Options, names: Iterable[str | bytes]) -> None:
    """Use --external for each."""
    for name in names:
        opts.use(OPTIONS["external"], get_text(name))


def _apply(opts: Options, fields: Message, names: Iterable[str], problems: Problems) -> None:
    for name in names:
        if name not in _PLACES and name not in _NO_OPTION:
            with problems:
                _use(opts, name, getattr(fields, name), fields)


def _use(opts: Options, name: str, value: Any, fields: Message) -> None:
    """One field. Raises OptionError."""
    option = _OPTION_OF[name]
    if name in _SPECIAL:
        _SPECIAL[name](opts, option, value, fields)
    elif isinstance(value, bool):
        opts.set(option, value)
    elif isinstance(value, (str, bytes)):
        opts.use(option, get_text(value))
    elif isinstance(value, int):
        opts.use(option, str(value))
    else:
        for item in value:
            opts.use(option, get_text(item))


# Fields with a form of their own


def _each(text_of: Callable[[Any], str]) -> Callable[[Options, Option, Any, Message], None]:
    """A field with messages, each of which is what the command line writes like this."""

    def use(opts: Options, option: Option, items: Any, _: Message) -> None:
        for item in items:
            opts.use(option, text_of(item))

    return use


def _word(words: dict[int, str]) -> Callable[[Options, Option, Any, Message], None]:
    """A field with a number that stands for a word."""
    return lambda opts, option, value, _: opts.use(option, words[value])


def _ext_unix_sk(opts: Options, option: Option, value: bool, fields: Message) -> None:
    inodes = ",".join(str(peer.inode) for peer in fields.unix_sk_ino)
    if value:
        opts.use(option, inodes or None)
    else:
        opts.set(option, None)


def _empty_ns(opts: Options, option: Option, mask: int, _: Message) -> None:
    if mask & ~_CLONE_NEWNET:
        raise OptionError(f"empty_ns {mask:#x}: only the net namespace can be left empty")
    if mask:
        opts.use(option, "net")


def _cpu_cap(opts: Options, option: Option, mask: int, _: Message) -> None:
    opts.set(option, mask & CPU_CAP_ALL | CPU_CAP_IMAGE)


def _manage_cgroups(opts: Options, option: Option, value: bool, _: Message) -> None:
    opts.use(option, "soft" if value else "ignore")


def _auto_ext_mnt(opts: Options, option: Option, value: bool, _: Message) -> None:
    if value:
        opts.use(option, "auto")


def _exec_cmd(opts: Options, option: Option, words: Any, _: Message) -> None:
    opts.set(option, [get_text(word) for word in words])


def _page_server(opts: Options, option: Option, server: Message, fields: Message) -> None:
    """With lazy pages only the port counts: the server is this side."""
    if server.HasField("port"):
        opts.use(OPTIONS["port"], str(server.port & 0xFFFF))
    if fields.lazy_pages:
        return
    opts.set(OPTIONS["page-server"], True)
    if server.HasField("address"):
        opts.use(OPTIONS["address"], get_text(server.address))
    if server.HasField("fd"):
        opts.use(OPTIONS["ps-socket"], str(server.fd))


_SPECIAL: dict[str, Callable[[Options, Option, Any, Message], None]] = {
    "auto_ext_mnt": _auto_ext_mnt,
    "cg_root": _each(lambda item: f"{item.ctrl}:{item.path}" if item.ctrl else item.path),
    "cpu_cap": _cpu_cap,
    "empty_ns": _empty_ns,
    "exec_cmd": _exec_cmd,
    "ext_mnt": _each(lambda item: f"{item.key}:{item.val}"),
    "ext_unix_sk": _ext_unix_sk,
    "inherit_fd": _each(lambda item: f"fd[{item.fd}]:{item.key}"),
    "join_ns": _each(lambda item: f"{item.ns}:{item.ns_file}" + (f",{item.extra_opt}" if item.extra_opt else "")),
    "manage_cgroups": _manage_cgroups,
    "manage_cgroups_mode": _word(dict(enumerate(_CGROUP_MODES))),
    "network_lock": _word(_NETWORK_LOCKS),
    "pre_dump_mode": _word(_PRE_DUMP_MODES),
    "ps": _page_server,
    "unix_sk_ino": lambda opts, option, value, fields: None,  # read together with ext_unix_sk
    "veths": _each(lambda item: f"{item.if_in}={item.if_out}"),
}


def _refuse_for_service(fields: Message, problems: Problems) -> None:
    """What only a child of the client can do for it."""
    asked = {"rst_sibling": fields.rst_sibling, "inherit_fd": fields.inherit_fd, "ps.fd": fields.ps.HasField("fd")}
    for name, what in _FOR_SWRK_ONLY.items():
        if asked[name]:
            problems.add(f"{name}: a service can't have {what} of its client's", remedy="use swrk")


# Who and where


def _say_where(opts: Options, fields: Message, problems: Problems) -> None:
    """Task, directories and log. Descriptors are the client's own numbers; without a pid the client means itself."""
    assert opts.client is not None
    peer = opts.client.link.peer.pid

    def path_of(fd: int) -> str:
        if not peer:
            problems.add(f"descriptor {fd}: the client isn't in this pid namespace", remedy="name directories by path")
        return f"/proc/{peer}/fd/{fd}"

    if opts.command in ("dump", "pre-dump") and opts.tree is None:
        with problems:
            opts.use(OPTIONS["tree"], str(peer))
    if fields.images_dir_fd != -1:
        opts.use(OPTIONS["images-dir"], path_of(fields.images_dir_fd))
    elif fields.HasField("images_dir"):
        opts.use(OPTIONS["images-dir"], get_text(fields.images_dir))
    if fields.HasField("work_dir_fd"):
        opts.use(OPTIONS["work-dir"], path_of(fields.work_dir_fd))
    log_file = get_text(fields.log_file)
    if "/" in log_file:
        problems.add(f"log_file {log_file}: must be a file name in the work directory, without a slash")
    elif log_file or fields.log_to_stderr:
        opts.log_file = log_file or None
    elif opts.log_file is None:
        opts.log_file = _DEFAULT_LOG
