"""Debian's packages for the guests: fetched by an apt with a configuration of its own, unpacked, never installed.

All of it is kept in CRUCIBLE_VM_CACHE, or ~/.cache/crucible-vm, and used again.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

RELEASE = "bookworm"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SOURCES = f"""deb [signed-by={KEYRING}] http://deb.debian.org/debian {RELEASE} main
deb [signed-by={KEYRING}] http://deb.debian.org/debian-security {RELEASE}-security main
"""
USR_MERGED = "bin sbin lib".split()


def cache() -> Path:
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "crucible-vm"
    directory = Path(os.environ.get("CRUCIBLE_VM_CACHE", default)).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    return directory


class Archive:
    """The packages of one architecture, in Debian's words: amd64, arm64.

    Commands that fail raise subprocess.CalledProcessError, apt's own messages having gone to stderr.
    """

    def __init__(self, architecture: str) -> None:
        self.architecture = architecture
        self._directory = cache() / f"apt-{architecture}"
        self._configuration = self._directory / "apt.conf"

    def real_name(self, package: str) -> str:
        """What a meta-package stands for today: "linux-image-amd64" -> "linux-image-6.1.0-56-amd64"."""
        self._update()
        text = self._apt("apt-cache", "depends", "--important", package)
        found = re.search(r"Depends: (\S+)", text)
        if found is None:
            raise LookupError(f"package {package} is not in Debian {RELEASE} for {self.architecture}, or needs nothing")
        return found[1]

    def with_dependencies(self, packages: Iterable[str], *, installed: bool = False) -> list[str]:
        """The packages and all that they depend on; installed: without what this machine has."""
        self._update()
        status = ["-o", "Dir::State::status=/var/lib/dpkg/status"] if installed else []
        text = self._apt("apt-get", "install", "--simulate", "--no-install-recommends", *status, *packages)
        return re.findall(r"^Inst (\S+?)(?::\S+)? ", text, re.MULTILINE)

    def unpack(self, packages: Iterable[str], into: Path) -> None:
        """Lay the packages' files out below a directory, as in a system where /bin is /usr/bin."""
        self._update()
        downloads = self._directory / "downloads"
        downloads.mkdir(exist_ok=True)
        for old in downloads.glob("*.deb"):
            old.unlink()
        self._apt("apt-get", "download", *packages, cwd=downloads)
        for name in USR_MERGED:
            (into / "usr" / name).mkdir(parents=True, exist_ok=True)
            if not (into / name).is_symlink():
                (into / name).symlink_to(f"usr/{name}")
        for package in sorted(downloads.glob("*.deb")):
            with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as tar:
                subprocess.run(["tar", "-x", "--keep-directory-symlink", "-C", into], stdin=tar.stdout, check=True)
            package.unlink()

    def _update(self) -> None:
        """Fetch the lists of packages, the first time in this cache."""
        if self._configuration.exists():
            return
        for directory in ("state/lists/partial", "cache/archives/partial"):
            (self._directory / directory).mkdir(parents=True, exist_ok=True)
        (self._directory / "status").touch()
        (self._directory / "sources.list").write_text(SOURCES)
        unfinished = self._configuration.with_suffix(".new")
        unfinished.write_text(
            f'APT::Architecture "{self.architecture}";\n'
            f'APT::Architectures {{"{self.architecture}";}};\n'
            'APT::Sandbox::User "root";\n'
            f'Dir::State "{self._directory}/state";\n'
            f'Dir::State::status "{self._directory}/status";\n'
            f'Dir::Cache "{self._directory}/cache";\n'
            f'Dir::Etc::SourceList "{self._directory}/sources.list";\n'
            'Dir::Etc::SourceParts "/dev/null";\n'
        )
        self._apt("apt-get", "update", "-qq", configuration=unfinished)
        unfinished.rename(self._configuration)

    def _apt(self, *command: str, cwd: Path | None = None, configuration: Path | None = None) -> str:
        environment = os.environ | {"APT_CONFIG": str(configuration or self._configuration), "LC_ALL": "C"}
        done = subprocess.run(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout
