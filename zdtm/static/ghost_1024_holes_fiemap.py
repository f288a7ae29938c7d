"""The same file as in ghost_1024_holes; here the engine is told to find the holes by FIEMAP.

states: deleted-files-and-remaps/ghost-with-1024-holes
flavours: h
options: --ghost-limit 16M --ghost-fiemap
"""

from zdtm.lib.program import run
from zdtm.static.ghost_1024_holes import main

if __name__ == "__main__":
    run(main)
