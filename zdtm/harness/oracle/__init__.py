"""The second judge: compares what a tree looks like from outside before the dump and after the restore.

picture.py takes a picture: tasks.py (plain facts of /proc), files.py and sockets.py (descriptors), maps.py and
memory.py (mappings and their contents). Numbers that a checkpoint cannot keep are replaced by names.py. compare.py
finds and prints what differs. kernel.py wraps the system calls.
"""
