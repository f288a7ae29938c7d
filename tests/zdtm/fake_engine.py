#!/usr/bin/env python3
"""Not an engine: "dump" notes how a program was started, "restore" starts it again with its old pid.

Enough for the harness to go through its modes, and misbehaviour can be ordered before the verb:

    fake_engine.py [FAULT...] dump|restore|pre-dump|page-server|lazy-pages|image-proxy|image-cache OPTIONS
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

READY_SECONDS = 20
SAYS = {"image-cache": "Proxies are expected at 127.0.0.1 port 1", "image-proxy": "The image proxy is ready"}
"""What daemons that live until they are asked to end have in their logs."""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="+")
    parser.add_argument("-t", type=int)
    parser.add_argument("-D", type=Path)
    parser.add_argument("-o")
    parser.add_argument("-v4", action="store_true")
    parser.add_argument("-d", action="store_true")
    parser.add_argument("--pidfile", type=Path)
    parser.add_argument("--leave-running", action="store_true")
    parser.add_argument("--action-script")
    parser.add_argument("--track-mem", action="store_true")
    parser.add_argument("--prev-images-dir")
    for option in "--daemon", "--page-server", "--lazy-pages", "--remote", "--snapshot":
        parser.add_argument(option, action="store_true")
    for option in "--address", "--port", "--ps-socket", "--remote-socket", "--snapshot-id":
        parser.add_argument(option)
    parser.add_argument("--status-fd", type=int)
    options = parser.parse_args()
    *faults, verb = options.words
    if verb.isdigit():
        return swrk(int(verb), faults[:-1])
    if f"{verb}-fails" in faults:
        (options.D / options.o).write_text("Error (fake.py:1): ordered to fail: pipe 7 is odd\n")
        return 1
    if verb in SAYS:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        Path(options.o).write_text(SAYS[verb])
        signal.sigwait({signal.SIGTERM})
    if verb == "lazy-pages":
        os.write(options.status_fd, b"\0")
        if options.ps_socket:
            os.write(int(options.ps_socket), b"\0")
    if verb not in ("dump", "restore"):
        return 0
    return dump(options, faults) if verb == "dump" else restore(options, faults)


def swrk(fd: int, faults: list[str]) -> int:
    """Serve one request as the commands would."""
    from engine.images.schema import message

    with socket.socket(fileno=fd) as connection:
        request = message("criu_req").FromString(connection.recv(1 << 16))
        opts = request.opts
        options = argparse.Namespace(
            t=opts.pid,
            D=Path(opts.images_dir),
            leave_running=False,
            lazy_pages=False,
            action_script=None,
            pidfile=Path("swrk.pid"),
        )
        status = 0
        if request.type in (1, 2):
            status = dump(options, faults) if request.type == 1 else restore(options, faults)
        answer = message("criu_resp")(type=request.type, success=status == 0)
        if request.type == 2:
            answer.restore.pid = int(options.pidfile.read_text())
        connection.send(answer.SerializeToString())
    return status


def dump(options: argparse.Namespace, faults: list[str]) -> int:
    proc = Path(f"/proc/{options.t}")
    state = {
        "pid": options.t,
        "command": proc.joinpath("cmdline").read_text().split("\0")[:-1],
        "environment": proc.joinpath("environ").read_text().split("\0")[:-1],
        "cwd": os.readlink(proc / "cwd"),
        "out": os.readlink(proc / "fd/1"),
    }
    (options.D / "state.json").write_text(json.dumps(state))
    if "dump-hangs" in faults:
        time.sleep(1000)
    if options.lazy_pages:
        os.write(options.status_fd, b"\0")
        os.close(options.status_fd)
        os.read(int(options.ps_socket), 1)
    if options.action_script:
        os.kill(options.t, signal.SIGSTOP)
        subprocess.run([options.action_script], env={"CRTOOLS_SCRIPT_ACTION": "post-dump"}, check=True)
        os.kill(options.t, signal.SIGCONT)
    if "dump-leaves-a-process" in faults:
        subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True, stdout=subprocess.DEVNULL)
    if "dump-kills-anyway" in faults or not (options.leave_running or "dump-kills-nobody" in faults):
        ended = os.pidfd_open(options.t)
        os.kill(options.t, signal.SIGKILL)
        select.select([ended], [], [])
    return 0


def restore(options: argparse.Namespace, faults: list[str]) -> int:
    state = json.loads((options.D / "state.json").read_text())
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(state["pid"] - 1))
    readies, size = Path(state["out"]).read_text().count("READY\n"), os.path.getsize(state["out"])
    out = os.open(state["out"], os.O_WRONLY | os.O_APPEND)
    pid = os.fork()
    if pid == 0:
        if "restore-changes-umask" in faults:
            os.umask(0o77)
        start_again(state, out)
    assert pid == state["pid"], f"{pid} instead of {state['pid']}"
    end = time.monotonic() + READY_SECONDS
    while Path(state["out"]).read_text().count("READY\n") == readies:
        assert time.monotonic() < end
        time.sleep(0.002)
    # Unsay the second READY; the position is that of our descriptor too.
    os.ftruncate(out, size)
    os.lseek(out, size, os.SEEK_SET)
    options.pidfile.write_text(str(pid + ("restore-lies-about-the-pid" in faults)))
    return 0


def start_again(state: dict[str, str], out: int) -> None:
    os.setsid()
    os.chdir(state["cwd"])
    for number in (1, 2):
        os.dup2(out, number)
    os.closerange(3, 100)
    environment = dict(line.split("=", 1) for line in state["environment"])
    for signo in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(signo, signal.SIG_DFL)
    os.execve(state["command"][0], list(state["command"]), environment)


if __name__ == "__main__":
    sys.exit(main())
