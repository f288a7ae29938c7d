"""crucible gc: take out of file systems what a dump has left there for a restore that will never be.

That is the link remaps. They are found by the names in the images, as a restore finds them, and nothing is made for it.
A link is only removed if everything says that it is the dump's own: its name, the inode, and that the file has as many
other names as it had before the dump. It may be the last name of somebody's data otherwise.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from engine import log
from engine.errors import CrError
from engine.images.directory import ImageDir
from engine.objects import link_remap, table
from engine.objects.paths import problem_of, stat_name
from engine.objects.restored_remap import RestoredRemaps
from engine.restore_check import check_inventory
from engine.restore_context import RestoreContext

if TYPE_CHECKING:
    from engine.options import Options

    Message = Any


def run(opts: Options) -> int:
    """The verb: says what it removes. Returns the exit status, 1 if something has to be left; raises CrError."""
    with ImageDir(opts.images_dir_fd, bounded=True) as images:
        ctx = RestoreContext(opts, images)
        check_inventory(images.read_one("INVENTORY"), ctx)
        table.read(ctx)
        links = ctx.part(RestoredRemaps).links()
        ctx.problems.raise_if_any("gc")
    found = _present(links)
    doubtful = {name: why for name, status in found.items() if (why := _doubt(name, links[name], status, found))}
    for name in found.keys() - doubtful.keys():
        log.msg(f"{'would remove' if opts.dry_run else 'removing'} {name}")
        if not opts.dry_run:
            link_remap.remove(name)
    for name, why in doubtful.items():
        log.error(f"{name} is left: {why} (look at it, and remove it if it is not needed)")
    return 1 if doubtful else 0


def _present(links: dict[str, Message]) -> dict[str, os.stat_result]:
    """Those that are still there. Raises CrError for names that no dump has given."""
    found = {}
    for name in links:
        if problem_of(name) or not link_remap.is_link_remap(name):
            raise CrError(f"remap-fpath.img: {name!r} is no link of a dump; the image is damaged")
        try:
            found[name] = stat_name(name)
        except FileNotFoundError:
            log.info(f"{name} is gone already")
        except OSError as error:
            raise CrError(f"{name} can't be looked at: {error.strerror}") from error
    return found


def _doubt(name: str, entry: Message, status: os.stat_result, found: dict[str, os.stat_result]) -> str | None:
    """Why a link may not be the dump's own."""
    if not entry.HasField("link_inode") or not entry.HasField("link_names"):
        return "the images, which another engine has written, do not tell its inode"
    if stat.S_ISDIR(status.st_mode) or status.st_ino != entry.link_inode:
        return f"it is inode {status.st_ino}, the dump's link was {entry.link_inode}"
    same = (status.st_dev, status.st_ino)
    ours = sum((other.st_dev, other.st_ino) == same for other in found.values())
    if status.st_nlink - ours != entry.link_names:
        return f"the file has {status.st_nlink - ours} other names, at the dump it had {entry.link_names}"
    return None
