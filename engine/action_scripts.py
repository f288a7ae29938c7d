"""Programs of the user that run at the steps of a dump or restore (--action-script), and clients that are told of them.

A script gets no arguments; what it needs to know is in its environment. Scripts run in the work directory, the one
given last first, and all of them run even when one fails. Whether a failure counts is for the verb to say.
"""

from __future__ import annotations

import os

from engine import log
from engine.errors import CrError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.options import Options

# The steps at which a script can run.
ACTIONS = frozenset(
    "pre-stream pre-dump post-dump pre-restore post-restore network-lock network-unlock setup-namespaces "
    "post-setup-namespaces pre-resume post-resume status-ready".split()
)


class ActionScripts:
    """The scripts of one run, and the RPC client who wants to know, who is told first."""

    def __init__(self, opts: Options) -> None:
        """Made when the work directory is the current one. Raises CrError for a script that cannot be run."""
        self._opts = opts
        for script in opts.action_script:
            if not (os.path.isfile(script) and os.access(script, os.X_OK)):
                raise CrError(f"action script {script} is not an executable file (looked for in the work directory)")

    def run(self, action: str, init_pid: int | None = None) -> bool:
        """Tell the client, run all scripts and wait for them. Returns whether the client agreed and every script exited
        with status 0.

        action    one of ACTIONS
        init_pid  pid of the root task in our pid namespace, once it is known
        """
        assert action in ACTIONS, action
        agreed = not self._opts.client or self._opts.client.notify(action, init_pid)
        if not self._opts.action_script:
            return agreed
        environment = self._environment(action, init_pid)
        log.debug(f"Running {action} scripts")
        results = [_run(script, action, environment) for script in reversed(self._opts.action_script)]
        return agreed and all(results)

    def _environment(self, action: str, init_pid: int | None) -> dict[str, str]:
        environment = {**os.environ, "CRTOOLS_SCRIPT_ACTION": action}
        # Through our own /proc entry, so that the directory is found even when no path leads to it.
        environment["CRTOOLS_IMAGE_DIR"] = f"/proc/{os.getpid()}/fd/{self._opts.images_dir_fd}"
        environment.pop("CRTOOLS_INIT_PID", None)
        if init_pid is not None:
            environment["CRTOOLS_INIT_PID"] = str(init_pid)
        return environment


def _run(script: str, action: str, environment: dict[str, str]) -> bool:
    """Run one script. It is a path: PATH is not searched."""
    import signal

    try:
        # Python ignores these two, and an ignored signal stays ignored over execve(2).
        pid = os.posix_spawn(script, [script], environment, setsigdef=[signal.SIGPIPE, signal.SIGXFSZ])
    except OSError as exc:
        log.error(f"action script {script} ({action}) cannot be started: {exc.strerror}")
        return False
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != 0:
        how = f"exited with status {status}" if status > 0 else f"was killed by signal {-status}"
        log.error(f"action script {script} ({action}) {how}")
    return status == 0


def announce_ready(opts: Options, scripts: ActionScripts) -> None:
    """Tell whoever started this server that it can be connected to: status-ready scripts, then --status-fd.

    The parent reads one zero byte; the descriptor is closed, so that a parent that reads until the end goes on too.
    """
    scripts.run("status-ready")
    if opts.status_fd < 0:
        return
    try:
        os.write(opts.status_fd, b"\0")
        os.close(opts.status_fd)
    except OSError as exc:
        log.warn(f"--status-fd {opts.status_fd} cannot be written to: {exc.strerror}")
    opts.status_fd = -1
