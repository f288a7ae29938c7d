"""What belongs to a task, one kernel object a module, dump facing restore.

tree.py            the tasks of a tree, as dump and restore hold them
seize.py           stopping them; tracing.py one thread, freezer.py by a control group
pstree.py          who is whose child; births.py the order in which they are made again; dead_leader.py, zombie.py
core.py            a thread's image, with what the modules on registers (cpu_state*.py), signals, timers, limits,
                   credentials and the like find out
mm.py, vma.py      the address space and its mappings; rebuild.py makes it again; aio.py, uprobes.py, vdso.py are
                   about mappings of the kernel's own making
pages.py           what is in private memory; page_stream.py sends it, segments.py has what is to be read
watch.py           which pages change from now on; increment.py counts with them, holder.py keeps watch
"""
