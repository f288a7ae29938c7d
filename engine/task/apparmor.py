"""AppArmor's namespaces of profiles that confine tasks: apparmor.img.

Profiles of the engine's own namespace are the system's: they must be there before a restore. A namespace in it often
belongs to a container and is gone with it, so images hold those in which a task has a profile, whole, with all that is
in them. A restore makes those that are not there, and loads the profiles that are not; it changes none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.errors import CrError
from engine.images.text import get_text, set_text
from engine.kernel import apparmor
from engine.kernel.apparmor import Policy, Profile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.dump_context import DumpContext
    from engine.restore_context import RestoreContext
    from engine.task.tree import Task

Message = Any
Namespace = tuple[str, ...]


class DumpedPolicies:
    """Outermost namespaces that labels name, as messages."""

    def __init__(self, ctx: DumpContext) -> None:
        self._ctx = ctx
        self.namespaces: dict[str, Message] = {}

    def collect(self, label: str, task: Task) -> None:
        """Read the namespaces of a label's profiles, unless they were read already."""
        from engine.images.schema import message

        for profile in apparmor.profiles_of(label):
            if not profile.namespace or profile.namespace[0] in self.namespaces:
                continue
            entry = self.namespaces[profile.namespace[0]] = message("aa_namespace")()
            try:
                _describe(entry, profile.namespace[:1])
            except OSError as error:
                what = f"AppArmor's namespace {profile.namespace[0]} can't be read: {error.strerror}"
                self._ctx.problems.add(what, task.pid, "run it under profiles of the engine's own namespace")


def _describe(entry: Message, namespace: Namespace) -> None:
    set_text(entry, "name", namespace[-1])
    for policy in apparmor.policies(namespace):
        set_text(entry.policies.add(blob=policy.blob), "name", policy.name)
    for name in apparmor.namespaces(namespace):
        _describe(entry.namespaces.add(), (*namespace, name))


def write(ctx: DumpContext) -> None:
    """The image, where there is anything to write."""
    from engine.images.schema import message

    if namespaces := ctx.part(DumpedPolicies).namespaces:
        ctx.images.write("APPARMOR", message("apparmor_entry")(namespaces=namespaces.values()))


# Restore


class RestoredPolicies:
    """The namespaces of the images, and what of them is to be made."""

    def __init__(self, ctx: RestoreContext) -> None:
        self._ctx = ctx
        self._images: dict[Namespace, list[Policy]] = {}
        with ctx.problems:
            if ctx.images.exists("APPARMOR"):
                self._images = dict(_walk(ctx.images.read_one("APPARMOR").namespaces, ()))
        self._loaded = apparmor.loaded()
        named = {Profile(where, policy.name) for where, policies in self._images.items() for policy in policies}
        self._to_load = named - self._loaded
        self._is_done = False
        self._created: list[Namespace] = []
        self._added: list[Profile] = []

    def check(self, label: str, pid: int) -> None:
        """All profiles of a label must be there, or be in the images."""
        for profile in apparmor.profiles_of(label):
            if profile in self._loaded or profile in self._to_load or self._is_unconfined(profile):
                continue
            remedy = "load it with apparmor_parser, or use --lsm-profile with another one"
            what = f"is confined by AppArmor's profile {profile}, which is not loaded here"
            self._ctx.problems.add(what, pid, remedy)

    def _is_unconfined(self, profile: Profile) -> bool:
        known = profile.namespace in self._images or apparmor.exists(profile.namespace)
        return profile.name == apparmor.UNCONFINED and known

    def load(self) -> None:
        """Make what is not there. It goes again if the restore fails."""
        if self._is_done:
            return
        self._is_done = True
        self._ctx.at_end(self._remove)
        self._ctx.on_success(self._keep)
        for namespace, policies in self._images.items():
            if not apparmor.exists(namespace):
                apparmor.create(namespace)
                self._created.append(namespace)
            missing = [policy for policy in policies if Profile(namespace, policy.name) in self._to_load]
            for blob in dict.fromkeys(policy.blob for policy in missing):
                self._load(namespace, blob)
            if namespace not in self._created:
                self._added += [Profile(namespace, policy.name) for policy in missing]

    def _load(self, namespace: Namespace, blob: bytes) -> None:
        try:
            apparmor.load(namespace, blob)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise CrError(f"apparmor.img: profiles of namespace {'//'.join(namespace)}: {reason}") from error

    def _keep(self) -> None:
        self._created.clear()
        self._added.clear()

    def _remove(self) -> None:
        for profile in reversed(self._added):
            apparmor.unload(profile)
        for namespace in reversed(self._created):
            apparmor.remove(namespace)


def _walk(entries: Any, above: Namespace) -> Iterator[tuple[Namespace, list[Policy]]]:
    """Namespaces with what is loaded into them, outer ones first. Raises CrError for a name that is none."""
    for entry in entries:
        name = get_text(entry.name)
        if name in ("", ".", "..") or any(character in name for character in "/:\0"):
            raise CrError(f"apparmor.img: no namespace can be called {name!r}; the image is damaged")
        namespace = (*above, name)
        yield namespace, [Policy(get_text(policy.name), policy.blob) for policy in entry.policies]
        yield from _walk(entry.namespaces, namespace)
