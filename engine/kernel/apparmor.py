"""AppArmor's profiles and the namespaces they are in: /sys/kernel/security/apparmor/policy.

A label is one profile, or several at once, of which each has to allow what a task does: "a//&b". A profile of another
namespace than one's own is ":namespace:profile", of one in a namespace ":outer//inner:profile"; what follows in the
same label is in the same namespace until another one is named (security/apparmor/label.c, aa_label_snxprint and
aa_label_strn_parse). A profile that is part of another one, as a hat, is "profile//part".

All is seen from the namespace of who looks; the directory `policy` is that of its namespace.
"""

from __future__ import annotations

import contextlib
import os
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = "/sys/kernel/security/apparmor"
UNCONFINED = "unconfined"
_STACKED, _INSIDE = "//&", "//"
_FIRST_FIELD = b"\x04\x08\x00version\0\x02"
_NAMESPACE_FIELD = b"\x04\x0a\x00namespace\0\x05"


class Profile(NamedTuple):
    """namespace: the names on the way to it, outermost first; empty for one's own"""

    namespace: tuple[str, ...]
    name: str

    def __str__(self) -> str:
        return f":{_INSIDE.join(self.namespace)}:{self.name}" if self.namespace else self.name


class Policy(NamedTuple):
    """A profile as it was loaded. blob may hold others, too."""

    name: str
    blob: bytes


def profiles_of(label: str) -> list[Profile]:
    """What a label consists of."""
    found: list[Profile] = []
    namespace: tuple[str, ...] = ()
    for text in label.split(_STACKED):
        name = text
        if text.startswith(":"):
            path, _, name = text[1:].partition(":")
            namespace = tuple(path.split(_INSIDE))
        found.append(Profile(namespace, name.removeprefix(_INSIDE)))
    return found


def loaded() -> set[Profile]:
    """The profiles of this namespace and of those in it."""
    with open(os.path.join(DIRECTORY, "profiles"), encoding="utf-8", errors="surrogateescape") as file:
        return {profiles_of(line.rpartition(" (")[0])[0] for line in file}


def policies(namespace: tuple[str, ...]) -> list[Policy]:
    """The profiles of a namespace, oldest first. Parts of a profile come behind it; they may have been loaded apart.

    Raises FileNotFoundError where the kernel does not keep what was loaded (CONFIG_SECURITY_APPARMOR_EXPORT_BINARY).
    """
    found = sorted(_policies(_directory(namespace), ""), key=lambda item: item[0])
    return [policy for _, policy in found]


def _policies(parent: str, above: str) -> Iterator[tuple[int, Policy]]:
    """(revision, policy) of the profiles in a namespace or a profile, whose name is above."""
    directory = os.path.join(parent, "profiles")
    for entry in sorted(os.listdir(directory)) if os.path.exists(directory) else ():
        profile = os.path.join(directory, entry)
        name = above + os.fsdecode(_read(os.path.join(profile, "name")).rstrip(b"\n"))
        # Not resolved as a whole: what the link `policy` reads as is no path.
        data = os.path.normpath(os.path.join(profile, os.readlink(os.path.join(profile, "raw_data"))))
        yield int(_read(os.path.join(os.path.dirname(data), "revision"))), Policy(name, _read(data))
        yield from _policies(profile, f"{name}{_INSIDE}")


def namespaces(namespace: tuple[str, ...]) -> list[str]:
    """The names of those in a namespace."""
    return sorted(os.listdir(os.path.join(_directory(namespace), "namespaces")))


def exists(namespace: tuple[str, ...]) -> bool:
    return os.path.isdir(_directory(namespace))


def create(namespace: tuple[str, ...]) -> None:
    os.mkdir(_directory(namespace))


def remove(namespace: tuple[str, ...]) -> None:
    """With all that is in it. Who was confined by it is in the namespace above then, unconfined."""
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(_directory(namespace))


def load(namespace: tuple[str, ...], blob: bytes) -> None:
    """Load profiles into a namespace. Raises OSError, ValueError for profiles that say they are for another one."""
    own = namespace_of(blob)
    if own not in (None, namespace[-1]):
        raise ValueError(f"they are for namespace {own}")
    # A name in what is loaded leads on from where it is loaded to.
    directory = _directory(namespace if own is None else namespace[:-1])
    with open(os.path.join(directory, ".replace"), "wb", buffering=0) as file:
        file.write(blob)


def unload(profile: Profile) -> None:
    with open(os.path.join(_directory(profile.namespace), ".remove"), "wb", buffering=0) as file:
        file.write(os.fsencode(profile.name) + b"\0")


def namespace_of(blob: bytes) -> str | None:
    """The namespace that loaded profiles name as theirs (apparmor_parser -n), right behind their version."""
    start = len(_FIRST_FIELD) + 4
    if not blob.startswith(_FIRST_FIELD) or not blob.startswith(_NAMESPACE_FIELD, start):
        return None
    start += len(_NAMESPACE_FIELD)
    (size,) = struct.unpack("<H", blob[start : start + 2].ljust(2, b"\0"))
    return os.fsdecode(blob[start + 2 : start + 2 + size].rstrip(b"\0"))


def _directory(namespace: tuple[str, ...]) -> str:
    below = (part for name in namespace for part in ("namespaces", name))
    return os.path.join(DIRECTORY, "policy", *below)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
