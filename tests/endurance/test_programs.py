"""Programs that nobody wrote to be checkpointed go there and back three times in a row, and on with their work."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.endurance.journey import there_and_back
from tests.hostile import ward
from tests.tools import needs_tool
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_TIMES = 3
_PATIENCE = 120

_NODE = """
const {spawn} = require('child_process'), {Worker} = require('worker_threads');
const cat = spawn('/bin/cat', [], {stdio: ['pipe', 'pipe', 'inherit']});
let count = 0;
new Worker("setInterval(() => require('worker_threads').parentPort.postMessage(1), 10)", {eval: true})
    .on('message', () => cat.stdin.write(`${++count}\\n`));
cat.stdout.pipe(process.stdout);
"""

_JAVA = """
import java.util.concurrent.*;
class Count {
    public static void main(String[] words) throws Exception {
        var queue = new SynchronousQueue<Integer>();
        for (int i = 0; i < 10; i++)
            new Thread(() -> {
                try { while (true) queue.put(new byte[100_000].length); } catch (Exception e) { }
            }).start();
        for (long sum = 0; ; Thread.sleep(1)) System.out.println(sum += queue.take());
    }
}
"""


def _spawn(place: Path, *words: str) -> int:
    """Start a program in a session of its own, whose output goes to place/output."""
    with open(place / "output", "w") as output:
        return subprocess.Popen(
            words, cwd=place, start_new_session=True, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        ).pid


def _count(place: Path) -> int:
    """The last whole line of place/output, which counts."""
    lines = (place / "output").read_text().split("\n")
    return int(lines[-2]) if len(lines) > 1 else 0


def _await_counting(place: Path) -> None:
    before = _count(place)
    wait_until(lambda: _count(place) > before, "it counts", (place / "output").read_text)


def _goes_on_counting(tmp_path: Path, start: Callable[[Path], int]) -> None:
    def work(place: Path) -> str:
        pid = start(place)
        (place / "images").mkdir()
        for _ in range(_TIMES):
            _await_counting(place)
            there_and_back(pid, place / "images")
        _await_counting(place)
        return ""

    ward.inside(tmp_path, work, _PATIENCE)


def test_node_with_a_worker_and_a_child(tmp_path: Path) -> None:
    needs_tool("node", "nodejs")
    _goes_on_counting(tmp_path, lambda place: _spawn(place, "node", "-e", _NODE))


def test_java_with_threads(tmp_path: Path) -> None:
    needs_tool("javac", "openjdk-17-jdk-headless")

    def start(place: Path) -> int:
        (place / "Count.java").write_text(_JAVA)
        return _spawn(place, "java", "-Xmx64m", "Count.java")

    _goes_on_counting(tmp_path, start)


def test_vim_in_tmux(tmp_path: Path) -> None:
    """A server on a unix socket, a pseudo terminal, and an editor that sleeps in a time-out of select(2)."""
    needs_tool("tmux", "tmux")
    needs_tool("vim", "vim")

    def work(place: Path) -> str:
        def tmux(*words: str) -> str:
            command = ["tmux", "-S", str(place / "socket"), "-f", "/dev/null", *words]
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout

        def screen() -> str:
            return tmux("capture-pane", "-p", "-t", "0")

        def types(word: str) -> None:
            tmux("send-keys", "-t", "0", word)
            wait_until(lambda: word in screen(), "vim echoes", screen)

        tmux("new-session", "-d", "-c", str(place), "vim -u NONE -i NONE -n text")
        server = int(tmux("display", "-p", "#{pid}"))
        wait_until(lambda: "~" in screen(), "vim is there", screen)
        tmux("send-keys", "-t", "0", "i")
        (place / "images").mkdir()
        for word in ("first", "second", "third"):
            types(word)
            there_and_back(server, place / "images")
        types("last")
        tmux("send-keys", "-t", "0", "Escape", ":wq", "Enter")
        wait_until((place / "text").exists, "vim has written", screen)
        wait_until(lambda: (place / "text").read_text() == "firstsecondthirdlast\n", "all of it")
        return ""

    ward.inside(tmp_path, work, _PATIENCE)
