"""How the text of an option becomes its value. Every function raises ValueError with the reason in words.

A `Combine` takes the value an option has so far and the text of one more use of it (None: used without a text), and
gives its new value; so repeatable options, counters and plain values are all served by one call.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    Combine: TypeAlias = Callable[[Any, str | None], Any]
    Parse: TypeAlias = Callable[[str], Any]

_SUFFIXES = {"K": 10, "M": 20, "G": 30}

CPU_CAP_FPU, CPU_CAP_CPU, CPU_CAP_INS, CPU_CAP_IMAGE = 1, 2, 4, 8
CPU_CAP_ALL = CPU_CAP_FPU | CPU_CAP_CPU | CPU_CAP_INS
CPU_CAP_DEFAULT = CPU_CAP_FPU | CPU_CAP_INS
_CPU_CAP_WORDS = {"fpu": CPU_CAP_FPU, "cpu": CPU_CAP_CPU, "ins": CPU_CAP_INS, "all": CPU_CAP_ALL}

_JOINABLE = ("net", "uts", "ipc", "time", "mnt", "user")


def replace(parse: Parse, bare: Any = None) -> Combine:
    """The last use wins. bare: the value of an optional argument that is not there."""
    return lambda _old, text: bare if text is None else parse(text)


def append(parse: Parse) -> Combine:
    """Uses add up to a list, in the order given."""
    return lambda old, text: [*old, parse(text or "")]


def keep(old: Any, _text: str | None) -> Any:
    """The use alone counts (Options.given); where the value comes from is engine.argv's business."""
    return old


def string(text: str) -> str:
    if "\0" in text:
        raise ValueError("contains a NUL byte")
    return text


def integer(text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 10):
        raise ValueError("not a decimal number")
    return int(text)


def natural(text: str) -> int:
    value = integer(text)
    if value < 0:
        raise ValueError("must not be negative")
    return value


def pid(text: str) -> int:
    value = integer(text)
    if value <= 0:
        raise ValueError("must be a process id above 0")
    return value


def positive(text: str) -> int:
    value = natural(text)
    if value == 0:
        raise ValueError("must be above 0")
    return value


def snapshot_id(text: str) -> str:
    """What a snapshot in an image cache is called."""
    from engine.transport.frames import check_id

    return check_id(text)


def port(text: str) -> int:
    """CRIU cuts to 16 bits rather than complain, and scripts exist that rely on it."""
    return natural(text) & 0xFFFF


def size(text: str) -> int:
    """Bytes, with an optional suffix K, M or G (1024 based)."""
    shift = _SUFFIXES.get(text[-1:].upper(), 0)
    return natural(text[:-1] if shift else text) << shift


def choice(*words: str) -> Parse:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError("must be one of " + ", ".join(words))
        return text

    return parse


def network_lock(text: str) -> str:
    word = choice("iptables", "nftables", "skip", "none")(text)
    return "skip" if word == "none" else word


def verbosity(old: int, text: str | None) -> int:
    """-v adds one, -vvv (which arrives as "vv") the number of letters, -v4 and --verbosity=4 set."""
    if text is None:
        return old + 1
    if set(text) == {"v"}:
        return old + 1 + len(text)
    return natural(text)


def comma_list(old: list[str], text: str | None) -> list[str]:
    return [*old, *(word for word in string(text or "").split(",") if word)]


def socket_inodes(old: frozenset[int] | None, text: str | None) -> frozenset[int]:
    """Inodes of the external unix peers that are accepted; the empty set stands for any."""
    inodes = frozenset(natural(word) for word in text.split(",")) if text else frozenset()
    return (old or frozenset()) | inodes


def cpu_cap(old: int, text: str | None) -> int:
    """Words add to the default set and ^word takes away; using the option at all asks for cpuinfo.img."""
    value = old | CPU_CAP_IMAGE
    for word in (text or "all").split(","):
        name = word.removeprefix("^")
        if word == "none":
            value = 0
        elif name not in _CPU_CAP_WORDS:
            raise ValueError("must be a list of fpu, cpu, ins, all, none, where ^ before a word negates it")
        elif word.startswith("^"):
            value &= ~_CPU_CAP_WORDS[name]
        else:
            value |= _CPU_CAP_WORDS[name]
    return value


def join_ns(text: str) -> tuple[str, str, str]:
    """NS:PID or NS:FILE[,EXTRA] as (namespace, pid or file, extra or "")."""
    ns, colon, rest = text.partition(":")
    target, _, extra = rest.partition(",")
    if ns == "pid":
        raise ValueError("a pid namespace cannot be joined by a process, only by its children")
    if ns not in _JOINABLE:
        raise ValueError("the namespace must be one of " + ", ".join(_JOINABLE))
    if not colon or not target:
        raise ValueError("must look like NS:PID or NS:FILE[,EXTRA]")
    if extra and ns != "user":
        raise ValueError("only the user namespace takes a UID,GID")
    return ns, target, extra


def inherit_fd(old: list[tuple[int, str]], text: str | None) -> list[tuple[int, str]]:
    """fd[N]:KEY as (N, KEY). debug[N]:TEXT writes TEXT to N at once and adds nothing."""
    head, separator, key = (text or "").partition("]:")
    word, _, number = head.partition("[")
    if not separator or not key or word not in ("fd", "debug"):
        raise ValueError("must look like fd[N]:KEY")
    fd = natural(number)
    if word == "fd":
        return [*old, (fd, key)]
    import os

    try:
        os.write(fd, key.encode())
    except OSError as exc:
        raise ValueError(f"cannot write to descriptor {fd}: {exc.strerror}") from None
    return old


def cgroup_root(text: str) -> tuple[str, str]:
    """[CONTROLLER:]/PATH as (controller or "", path)."""
    controller, slash, path = text.partition("/")
    if not slash or (controller and not controller.endswith(":")):
        raise ValueError("must look like /PATH or CONTROLLER:/PATH")
    return controller.removesuffix(":"), "/" + path


def veth_pair(text: str) -> str:
    """IN=OUT, the older spelling of --external veth[IN]:OUT."""
    inner, _, outer = text.partition("=")
    if not inner or not outer:
        raise ValueError("must look like IN=OUT")
    return f"veth[{inner}]:{outer}"


def ext_mount_map(text: str) -> str:
    """KEY:VALUE or auto, the older spelling of --external mnt[KEY]:VALUE and mnt[]."""
    if text == "auto":
        return "mnt[]"
    key, _, value = text.partition(":")
    if not key or not value:
        raise ValueError('must look like KEY:VALUE, or be "auto"')
    return f"mnt[{key}]:{value}"
