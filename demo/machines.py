"""Two machines, as far as a network and a restore can tell, on one: each has a net and a pid namespace of its own.

A veth pair joins them. The file system is that of the host, for both. Pids are a machine's own, so that a process can
be restored on one while it still stands on the other.
"""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_DEVICE = "link0"


class Machine:
    """A machine, which is there as long as its init.

    name        "here"
    address     of its end of the link
    first_pid   its processes have pids from here on, but for the init
    """

    def __init__(self, name: str, address: str, first_pid: int) -> None:
        self.name = name
        self.address = address
        self._started: list[subprocess.Popen[bytes]] = []
        words = ["unshare", "--net", "--pid", "--mount-proc", "--fork", "--kill-child", "sh", "-c"]
        script = f"echo {first_pid - 1} >/proc/sys/kernel/ns_last_pid && echo && exec sleep 100000"
        self._outside = subprocess.Popen([*words, script], stdout=subprocess.PIPE)
        assert self._outside.stdout
        self._outside.stdout.readline()
        children = Path(f"/proc/{self._outside.pid}/task/{self._outside.pid}/children")
        self.init = int(children.read_text())

    def end(self) -> None:
        """With all that runs there."""
        self._outside.kill()
        self._outside.communicate()
        for command in self._started:
            command.wait()

    def start(self, *command: str, **how: Any) -> subprocess.Popen[bytes]:
        """Run a command there, in all that is the machine's own. how: for Popen."""
        words = ["nsenter", "--target", str(self.init), "--net", "--pid", "--mount", *command]
        self._started.append(subprocess.Popen(words, **how))
        return self._started[-1]

    def net(self, *command: str) -> None:
        """Do something to its network, as the host, which knows the other machine's pids."""
        subprocess.run(["nsenter", "--target", str(self.init), "--net", *command], check=True)

    def pids(self) -> dict[int, int]:
        """{pid there: pid on the host} of what lives there and is not dead."""
        found = {}
        home = self.namespace("pid")
        for task in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                status = (task / "status").read_text()
                if (task / "ns/pid").readlink() == home and "\nState:\tZ" not in status:
                    found[int(_field(status, "NSpid").split()[-1])] = int(task.name)
        return found

    def namespace(self, kind: str, pid: int = 0) -> Path:
        """The name of the machine's namespace, or that of a process, by its pid on the host."""
        return Path(f"/proc/{pid or self.init}/ns/{kind}").readlink()

    def received(self) -> int:
        """Bytes that have come over the link."""
        return int(self._net_file("dev").partition(f"{_DEVICE}:")[2].split()[0])

    def resent(self) -> int:
        """How many TCP segments it has had to send again."""
        names, values = (line.split() for line in self._net_file("snmp").splitlines() if line.startswith("Tcp:"))
        return int(values[names.index("RetransSegs")])

    def _net_file(self, name: str) -> str:
        return Path(f"/proc/{self.init}/net/{name}").read_text()

    def limit(self, megabits: int) -> None:
        """So many leave in a second at most."""
        words = f"tc qdisc add dev {_DEVICE} root tbf rate {megabits}mbit burst 32kb latency 200ms"
        self.net(*words.split())

    def lose(self, percent: int) -> None:
        """So many of the packets that come are lost, each by chance. sch_netem is made for that, but not every kernel
        has it; a filter of classic BPF can ask for a random number, too: networking/filter.rst, "rand". They are lost
        on their arrival, for TCP knows of one that can't leave, and does not count it as sent."""
        threshold = percent * (1 << 32) // 100
        load_random, skip_from, give, lose, pass_on = 0x20, 0x35, 6, 2, 0
        program = [
            (load_random, 0, 0, (1 << 32) - 0x1000 + 56),
            (skip_from, 1, 0, threshold),
            (give, 0, 0, lose),
            (give, 0, 0, pass_on),
        ]
        code = ",".join([str(len(program)), *(" ".join(map(str, step)) for step in program)])
        self.net("tc", "qdisc", "add", "dev", _DEVICE, "clsact")
        words = f"tc filter add dev {_DEVICE} ingress protocol ip bpf direct-action bytecode".split()
        self.net(*words, code)

    def cut(self) -> None:
        """The link is down from now on, and nobody is told."""
        self.net("ip", "link", "set", _DEVICE, "down")


def _field(status: str, name: str) -> str:
    return status.partition(f"\n{name}:\t")[2].partition("\n")[0]


@contextlib.contextmanager
def joined() -> Iterator[tuple[Machine, Machine]]:
    """The machine where a process is, and the one where it is to go."""
    with contextlib.ExitStack() as stack:
        machines = []
        # A pid that is taken here has to be free there.
        for name, address, first_pid in (("here", "10.77.0.1", 1000), ("there", "10.77.0.2", 2000)):
            machines.append(Machine(name, address, first_pid))
            stack.callback(machines[-1].end)
        here, there = machines
        # Packets of one segment each, as on a wire: a lost one is not a 64th of a megabyte.
        pair = f"ip link add {_DEVICE} gso_max_segs 1 type veth peer name {_DEVICE} gso_max_segs 1 netns {there.init}"
        here.net(*pair.split())
        for machine in machines:
            machine.net("ip", "address", "add", f"{machine.address}/24", "dev", _DEVICE)
            machine.net("ip", "link", "set", "lo", "up")
            machine.net("ip", "link", "set", _DEVICE, "up")
        yield here, there
