"""Plans of births, played step by step: every tree that can come about can be made again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import CrError
from engine.restore_context import RestoredTask
from engine.task import births
from tests.task.history import OUTSIDE, ROOT, World

if TYPE_CHECKING:
    from collections.abc import Iterable

ACTS = ("clone", "clone", "clone", "sibling", "session", "group", "join", "adopt", "exit", "reap")


def tree(world: World) -> list[RestoredTask]:
    """What pstree.img would tell of a world: a preorder walk."""
    found: dict[int, RestoredTask] = {}
    waiting = [ROOT]
    while waiting:
        process = world.processes[waiting.pop()]
        task = RestoredTask(process.pid, process.pgid, process.sid, found.get(process.ppid))
        task.ids = None if process.dead else object()
        if task.parent:
            task.parent.children.append(task)
        found[task.pid] = task
        waiting += sorted((child.pid for child in world.children(task.pid)), reverse=True)
    return list(found.values())


def play(tasks: list[RestoredTask], dead_pids: Iterable[int] = ()) -> World:
    """A world in which the plan for these tasks has been carried out, as engine/restore_stages.py does it."""
    plan = births.Plan(tasks[0], tasks, set(dead_pids))
    world = World()
    for step in plan.steps:
        if isinstance(step, births.Clone):
            world.clone(step.creator.pid, step.task.pid, bool(step.flags))
        elif isinstance(step, births.Setsid):
            world.setsid(step.task.pid)
        elif isinstance(step, births.Subreaper):
            world.processes[step.task.pid].adopts = step.adopts
        else:
            bury(world, step.task, step.parent)
    for task, group in plan.joins(tasks):
        world.setpgid(task.pid, group)
    for helper, parent in plan.helpers:
        bury(world, helper, parent)
    for task in tasks:
        if task.ids is None:
            world.exit(task.pid)
    return world


def bury(world: World, task: RestoredTask, parent: RestoredTask) -> None:
    assert world.processes[task.pid].ppid == parent.pid
    assert not world.processes[parent.pid].dead
    world.exit(task.pid)
    world.reap(task.pid)


def make_again(world: World) -> None:
    """Plan the births of a world's tree, play them, and find the same tree."""
    again = play(tree(world))
    assert again.places() == world.places()


def acted(acts: list[tuple[str, int, int]], leads: bool = True) -> World:
    """A world in which processes, chosen by number, did these things, as far as the kernel let them. leads: the root
    leads its session, as it must but for --shell-job."""
    world = World()
    if leads:
        world.setsid(ROOT)
    following = ROOT + 1
    for act, who, number in acts:
        alive = [process for process in world.processes.values() if not process.dead]
        process = alive[who % len(alive)]
        try:
            if act in ("clone", "sibling"):
                while following in world.numbers():
                    following += 1
                world.clone(process.pid, following, act == "sibling")
                following += 1
            elif act in ("session", "group", "join") and process.pid == ROOT and not leads:
                continue
            elif act == "session":
                world.setsid(process.pid)
            elif act == "group":
                world.setpgid(process.pid, process.pid)
            elif act == "join":
                groups = sorted({other.pgid for other in world.processes.values()})
                world.setpgid(process.pid, groups[number % len(groups)])
            elif act.startswith("adopt"):
                process.adopts = act == "adopt"
            elif process.pid != ROOT and act == "exit":
                world.exit(process.pid)
            elif act == "reap":
                dead = sorted(child.pid for child in world.children(process.pid) if child.dead)
                world.reap(dead[number % len(dead)] if dead else process.pid)
        except PermissionError:
            continue
    return world


HISTORIES = st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 40), st.integers(0, 40)), max_size=60)


@given(HISTORIES)
def test_any_history(acts: list[tuple[str, int, int]]) -> None:
    make_again(acted(acts))


@given(HISTORIES)
def test_any_history_inside_a_shell(acts: list[tuple[str, int, int]]) -> None:
    """--shell-job: the root stays in session and group of the engine."""
    make_again(acted(acts, leads=False))


def test_root_alone() -> None:
    make_again(acted([]))


def test_children_born_before_a_session() -> None:
    """The leader's first child stays in the old session, the second is in the new one."""
    make_again(acted([("clone", 0, 0), ("clone", 1, 0), ("session", 1, 0), ("clone", 1, 0)]))


def test_dead_session_leader() -> None:
    """The root's child led a session, had a child and died; the root adopted that."""
    acts = [("adopt", 0, 0), ("clone", 0, 0), ("session", 1, 0), ("clone", 1, 0), ("exit", 1, 0), ("reap", 0, 0)]
    world = acted(acts)
    (orphan,) = world.children(ROOT)
    assert orphan.sid not in world.processes
    make_again(world)


def test_dead_session_leader_is_a_zombie() -> None:
    world = acted([("adopt", 0, 0), ("clone", 0, 0), ("session", 1, 0), ("clone", 1, 0), ("exit", 1, 0)])
    assert [process.dead for process in world.children(ROOT)] == [True, False]
    make_again(world)


def test_group_of_zombies() -> None:
    """All members are dead, and the leader is reaped: somebody has to lead it until they have joined."""
    world = acted(
        [("clone", 0, 0), ("group", 1, 0), ("clone", 0, 0), ("join", 2, 1), ("exit", 1, 0), ("reap", 0, 0)]
        + [("exit", 1, 0)]
    )
    (zombie,) = world.children(ROOT)
    assert zombie.dead
    assert zombie.pgid not in world.processes
    make_again(world)


def test_dead_pids_get_helpers() -> None:
    """Tasks that are gone but whose files in /proc are open: they are there while descriptors are made, then gone."""
    world = acted([("clone", 0, 0)])
    plan = births.Plan((tasks := tree(world))[0], tasks, {500, 501})
    assert sorted(helper.pid for helper, _ in plan.helpers) == [500, 501]
    assert play(tasks, {500, 501}).places() == world.places()


def test_foreground_groups_without_members() -> None:
    """One that has died out, whose number a helper has for a moment; and one that its leader has left, which a helper
    keeps for as long as it takes to bring it to the foreground."""
    world = acted([("clone", 0, 0), ("clone", 0, 0)])
    tasks = tree(world)
    root, wanderer = tasks[:2]
    plan = births.Plan(root, tasks, set(), {500: root.pid, wanderer.pid: root.pid, root.pid: root.pid})
    helpers = {helper.pgid: helper for helper, _ in plan.helpers}
    assert sorted(helpers) == sorted([500, wanderer.pid])
    assert helpers[500].pid == 500
    assert {helper.sid for helper in helpers.values()} == {root.sid}
    joins = plan.joins(tasks)
    steps = [joins.index(step) for step in ((wanderer, wanderer.pid), (wanderer, root.pgid))]
    holder = joins.index((helpers[wanderer.pid], wanderer.pid))
    assert steps[0] < holder < steps[1], "the group is made, held and left"


def test_leader_that_has_risen() -> None:
    """A task adopts from a session led below it, then adopts no more, and the leader itself rises past it. The leader
    would have to be born there and rise again; this is refused."""
    acts = [("adopt", 0, 0), ("clone", 0, 0), ("clone", 1, 0), ("session", 1, 0), ("adopt", 1, 0), ("clone", 1, 0)]
    acts += [("clone", 3, 0), ("session", 4, 0), ("clone", 4, 0), ("clone", 5, 0), ("exit", 5, 0), ("reap", 4, 0)]
    world = acted([*acts, ("adopt no more", 1, 0), ("exit", 3, 0), ("reap", 1, 0)])
    leader, below = world.processes[104], world.processes[106]
    assert (leader.ppid, leader.sid, below.ppid, below.sid) == (ROOT, 104, 101, 104)
    with pytest.raises(CrError, match=r"no order of births gives tasks 106 their"):
        births.Plan((tasks := tree(world))[0], tasks, set())


def test_session_from_nowhere() -> None:
    """Images that no kernel has made: a session whose leader is below its member, in another one."""
    root = RestoredTask(ROOT, ROOT, ROOT, None)
    member = RestoredTask(101, 102, 102, root)
    leader = RestoredTask(102, 102, 102, member)
    root.children, member.children = [member], [leader]
    for task in (root, member, leader):
        task.ids = object()
    with pytest.raises(CrError, match=r"pstree.img: no order of births gives tasks 101, 102"):
        births.Plan(root, [root, member, leader], set())


def test_outside_is_not_the_root() -> None:
    """What the root is born into is not any session of the images."""
    world = acted([("clone", 0, 0), ("session", 1, 0)])
    assert OUTSIDE not in {process.sid for process in world.processes.values()}
