"""System calls that tasks make for the engine.

    tape.py      a tape: system calls, one after the other; arch/ has the code that runs it
    visit.py     in a task that is dumped. cave.py: where the code stands; home.py, rescue.py: how the task comes back;
                 restart.py, stop_signals.py: what the kernel has in store for it meanwhile
    stub.py      in a task that is to be made
    birth.py     in a twin, a copy of a task's memory: twin.py; foster.py: who it belongs to
    runner.py    what stubs and twins have in common
    channel.py   how descriptors get there
"""
