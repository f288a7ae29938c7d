"""Capabilities by name, for messages (capabilities(7), include/uapi/linux/capability.h)."""

from __future__ import annotations

_NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE"
    " NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT"
    " SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP"
    " MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()

CAP_SYS_RESOURCE = _NAMES.index("SYS_RESOURCE")


def capability_names(mask: int) -> str:
    """The set of a bit mask as "CAP_KILL, CAP_SYS_ADMIN"; a capability without a known name by its number."""
    return ", ".join(
        f"CAP_{_NAMES[number]}" if number < len(_NAMES) else f"capability {number}"
        for number in range(mask.bit_length())
        if mask >> number & 1
    )
