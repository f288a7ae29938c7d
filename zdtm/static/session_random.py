"""A tree of 40 tasks that have been born, left sessions, adopted and died at random, the same way in each run.

states: process-tree/random-crazy-session-trees
flavours: h
slow: forty interpreters, whose memory is stored, and read by the oracle before and after
"""

from random import Random

from zdtm.lib.family import Child, Dying, Recipe, Sibling, grow, release, settlers
from zdtm.lib.gate import Gate
from zdtm.lib.proc import family
from zdtm.lib.program import check, equal, ready, run

SEED = 11
TASKS = 40


def random_recipe(random: Random, depth: int) -> Recipe:
    """Up to depth generations. A task becomes a leader once at most: a group leader cannot start a session."""
    recipe: Recipe = []
    leads = False
    for _ in range(random.randint(1, 5)):
        step = random.choice(("session", "group", "reaper", "no reaper", "child", "child", "sibling", "dying"))
        if step in ("session", "group"):
            if not leads:
                recipe.append(step)
            leads = True
        elif "reaper" in step:
            recipe.append(step)
        elif depth:
            births: dict[str, type[Child | Sibling | Dying]] = {"child": Child, "sibling": Sibling, "dying": Dying}
            recipe.append(births[step](random_recipe(random, depth - 1)))
    return recipe


def main() -> None:
    random = Random(SEED)
    recipe: Recipe = []
    while settlers(recipe) < TASKS:
        recipe.append(Child(random_recipe(random, 3)))
    gate = Gate()
    pids = grow(gate, recipe)
    before = {pid: family(pid) for pid in pids}
    check(len({entry.sid for entry in before.values()} - set(before)) > 3, "too few sessions have lost their leaders")
    ready()
    for pid, expected in before.items():
        equal(family(pid), expected, f"parent, group and session of {pid}")
    release(gate)


if __name__ == "__main__":
    run(main)
