"""Where a command works: its images directory, its work directory, and the log in there."""

from __future__ import annotations

import os

from engine import __version__, log
from engine.errors import CrError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.images.directory import ImageDir
    from engine.options import Options


def close_descriptors(opts: Options) -> None:
    """--close, first of all. Raises CrError."""
    for fd in opts.close:
        try:
            os.close(fd)
        except OSError as exc:
            raise CrError(f"--close {fd}: {exc.strerror}") from None


def settle(opts: Options) -> None:
    """Open the images directory, go to the work directory and start the log there. Raises CrError."""
    if os.geteuid() != 0 and not opts.unprivileged:
        raise CrError(f"{opts.command} needs root (or --unprivileged, with CAP_CHECKPOINT_RESTORE)")
    opts.images_dir_fd = _open_directory(opts.images_dir, "images")
    if opts.work_dir is None:
        os.fchdir(opts.images_dir_fd)
    else:
        fd = _open_directory(opts.work_dir, "work")
        os.fchdir(fd)
        os.close(fd)
    try:
        log.setup(opts.verbosity, opts.log_file)
    except OSError as exc:
        raise CrError(f"log file {opts.log_file} cannot be opened in the work directory: {exc.strerror}") from None
    log.info(f"Crucible {__version__}, command {opts.command}")


def images_of(opts: Options, bounded: bool = False) -> ImageDir:
    """What a dump writes or a restore reads: the images directory, or a snapshot in an image cache. bounded: see
    ImageDir. Raises CrError."""
    from engine.images.directory import ImageDir

    if not opts.remote:
        return ImageDir(opts.images_dir_fd, bounded=bounded)
    from engine.transport import remote_images

    return remote_images.for_restore(opts) if opts.command == "restore" else remote_images.for_dump(opts)


def _open_directory(path: str, what: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise CrError(f"{what} directory {path} cannot be opened: {exc.strerror}") from None
