"""Lazy restore: tasks run at once, and their memory follows. docs/lazy-pages.md is for users.

    pending.py    what of an address space is still to come
    memory.py     one address space: faults, events, filling
    guard.py      no task may run on without the daemon
    images.py     pages from local images
    remote.py     pages from where the tree was dumped
    frozen.py     the dump's side there: the tree stands, and gives its pages
    link.py       the socket between a restore and the daemon
    daemon.py     the verb lazy-pages
    restored.py   the restore's side
"""
