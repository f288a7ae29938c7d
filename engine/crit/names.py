"""How crit spells numbers: the names of flags and of other values that fields are marked with (proto/opts.proto).

They are those of the field's tool, so that each reads what the other writes. Of the task states, only "Alive" is among
what is written: the field's tool calls a stopped task "Zombie", and has no name for a zombie.
"""

from __future__ import annotations

FLAGS: dict[str, dict[str, int]] = {
    "mmap.prot": {"PROT_READ": 1, "PROT_WRITE": 2, "PROT_EXEC": 4},
    "mmap.flags": {"MAP_SHARED": 1, "MAP_PRIVATE": 2, "MAP_DROPPABLE": 8, "MAP_ANON": 32, "MAP_GROWSDOWN": 256},
    "mmap.status": {
        "VMA_AREA_NONE": 0,
        "VMA_AREA_REGULAR": 1,
        "VMA_AREA_STACK": 2,
        "VMA_AREA_VSYSCALL": 4,
        "VMA_AREA_VDSO": 8,
        "VMA_AREA_HEAP": 32,
        "VMA_FILE_PRIVATE": 64,
        "VMA_FILE_SHARED": 128,
        "VMA_ANON_SHARED": 256,
        "VMA_ANON_PRIVATE": 512,
        "VMA_AREA_SYSVIPC": 1024,
        "VMA_AREA_SOCKET": 2048,
        "VMA_AREA_VVAR": 4096,
        "VMA_AREA_AIORING": 8192,
        "VMA_AREA_MEMFD": 16384,
        "VMA_AREA_SHSTK": 32768,
        "VMA_AREA_UPROBES": 131072,
        "VMA_UNSUPP": 2147483648,
    },
    "rfile.flags": {
        "O_WRONLY": 1,
        "O_RDWR": 2,
        "O_CREAT": 64,
        "O_EXCL": 128,
        "O_NOCTTY": 256,
        "O_TRUNC": 512,
        "O_APPEND": 1024,
        "O_NONBLOCK": 2048,
        "O_DSYNC": 4096,
        "FASYNC": 8192,
        "O_DIRECT": 16384,
        "O_LARGEFILE": 32768,
        "O_DIRECTORY": 65536,
        "O_NOFOLLOW": 131072,
        "O_NOATIME": 262144,
        "O_CLOEXEC": 524288,
    },
    "pmap.flags": {"PE_PARENT": 1, "PE_LAZY": 2, "PE_PRESENT": 4},
    "seals.flags": {
        "F_SEAL_SEAL": 1,
        "F_SEAL_SHRINK": 2,
        "F_SEAL_GROW": 4,
        "F_SEAL_WRITE": 8,
        "F_SEAL_FUTURE_WRITE": 16,
    },
}

# By the name of the marking and that of the field.
VALUES: dict[str, dict[int, str]] = {
    "gen.task_state": {1: "Alive"},
    "sk.family": {1: "UNIX", 2: "INET", 10: "INET6", 16: "NETLINK", 17: "PACKET"},
    "sk.type": {1: "STREAM", 2: "DGRAM", 3: "RAW", 5: "SEQPACKET", 10: "PACKET"},
    "sk.state": {
        1: "ESTABLISHED",
        2: "SYN_SENT",
        3: "SYN_RECV",
        4: "FIN_WAIT1",
        5: "FIN_WAIT2",
        6: "TIME_WAIT",
        7: "CLOSE",
        8: "CLOSE_WAIT",
        9: "LAST_ACK",
        10: "LISTEN",
    },
    "sk.proto": {0: "IP", 6: "TCP", 17: "UDP", 136: "UDPLITE"},
}

# What is read beside these.
_ALSO_READ = {"gen.task_state": {"Zombie": 3, "Stopped": 6}}


def flags_to_text(value: int, of: dict[str, int]) -> str:
    """ "PROT_READ | PROT_WRITE | 0x1000"; of no bit, nothing."""
    names = []
    for name, bit in of.items():
        if value & bit:
            names.append(name)
            value &= ~bit
    if value:
        names.append(f"0x{value:x}")
    return " | ".join(names)


def flags_from_text(text: str, of: dict[str, int]) -> int:
    """The way back; numbers may stand for names. ValueError: an unknown name."""
    value = 0
    for word in text.split("|"):
        name = word.strip()
        if name:
            value |= of[name] if name in of else _number(name)
    return value


def value_from_text(text: str, which: str) -> int:
    """The number of a name in VALUES[which]. ValueError: an unknown name."""
    for number, name in VALUES[which].items():
        if name == text:
            return number
    also = _ALSO_READ.get(which, {})
    return also[text] if text in also else _number(text)


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError(f"{text!r} is no name or number that can stand here") from None
