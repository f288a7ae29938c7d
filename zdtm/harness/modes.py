"""The modes: what is done to a program between READY and its verdict. Each reads as its list of steps."""

from __future__ import annotations

from collections.abc import Callable

from zdtm.harness.cow_run import CowRun
from zdtm.harness.item import Bad, Item, NothingToSabotage
from zdtm.harness.lazy_remote_run import LazyRemoteRun
from zdtm.harness.lazy_run import LazyRun
from zdtm.harness.page_server_run import PageServerRun
from zdtm.harness.remote_run import RemoteRun
from zdtm.harness.rpc_run import RpcRun
from zdtm.harness.run import Run
from zdtm.harness.sandbox import Result

ITERATIONS = 3


def nocr(run: Run) -> None:
    """Control: no checkpoint at all. A program that fails here is wrong, whatever the engine does."""
    run.start()
    run.finish()


def cli(run: Run) -> None:
    """Dump, restore, verdict."""
    run.start()
    before = run.first_picture()
    run.dump(1)
    run.restore(1)
    run.compare(before, "after the restore")
    run.finish()


def refused(run: Run) -> None:
    """`expect: refuse`: the dump says no and changes nothing."""
    run.start()
    before = run.first_picture()
    run.refused_dump(1, run.program.refusal or "")
    run.compare(before, "after the refused dump")
    run.finish()


def iters(run: Run) -> None:
    """Dump and restore several times over: what a restore leaves must be as good to dump as the original."""
    run.start()
    before = run.first_picture()
    for number in range(1, ITERATIONS + 1):
        run.dump(number)
        run.restore(number)
        run.compare(before, f"after restore {number} of {ITERATIONS}")
    run.finish()


def snapshot(run: Run) -> None:
    """Dump with --leave-running: the original must not notice, and the image must work when the original is gone."""
    run.start()
    before = run.first_picture()
    run.dump(1, leave_running=True)
    run.compare(before, "after the dump the original went on from")
    run.finish()
    run.put_work_back()
    run.restore(1)
    run.compare(before, "after the restore")
    run.finish()


def pre_dump(run: Run) -> None:
    """Pre-dumps, each of which builds on the one before, then a dump that builds on the last."""
    run.start()
    before = run.first_picture()
    last = ITERATIONS + 1
    for number in range(1, last):
        run.pre_dump(number)
    run.dump(last, increment=True)
    run.restore(last)
    run.compare(before, "after the restore")
    run.finish()


def page_server(run: Run) -> None:
    """A pre-dump, where that can be, and a dump that builds on it, whose pages go to a page server."""
    run.start()
    before = run.first_picture()
    increment = "pre-dump" not in run.program.without_modes
    if increment:
        run.pre_dump(1)
    run.dump(2, increment=increment)
    run.restore(2)
    run.compare(before, "after the restore")
    run.finish()


def lazy_remote(run: Run) -> None:
    """The dumped tree stands until the restored one, which runs in another sandbox, has all of its memory."""
    assert isinstance(run, LazyRemoteRun)
    run.start()
    before = run.first_picture()
    run.dump_and_stand(1)

    def arrive() -> None:
        run.restore(1)
        run.compare(before, "after the restore")
        run.finish()

    run.elsewhere(arrive)
    run.see_off(1)


MODES: dict[str, Callable[[Run], None]] = {
    "nocr": nocr,
    "cli": cli,
    "iters": iters,
    "snapshot": snapshot,
    "snapshot-cow": snapshot,
    "pre-dump": pre_dump,
    "rpc": cli,
    "pre-dump-rpc": pre_dump,
    "page-server": page_server,
    "lazy": cli,
    "remote": cli,
    "lazy-remote": lazy_remote,
}
RUNS = {
    "snapshot-cow": CowRun,
    "rpc": RpcRun,
    "pre-dump-rpc": RpcRun,
    "page-server": PageServerRun,
    "lazy": LazyRun,
    "remote": RemoteRun,
    "lazy-remote": LazyRemoteRun,
}
"""How modes run for which it takes more than the engine's command line."""


def run_mode(item: Item, mode: str) -> Result:
    """Run one item in its sandbox and judge it."""
    run = RUNS.get(mode, Run)(item)
    steps = refused if mode == "cli" and item.program.refusal is not None else MODES[mode]
    try:
        steps(run)
        run.check_host()
    except Bad as bad:
        text = f"{bad.text}\n{run.output_text()}" if bad.judge == "program" else bad.text
        return Result("failed", bad.judge, text, run.seconds)
    except NothingToSabotage as reason:
        return Result("skipped", "", str(reason), run.seconds)
    return Result("passed", seconds=run.seconds)
