"""A device that the engine can't dump is kept open: a limit for the sleep of processors. A plugin carries it over.

states: misc/external-plugin
flavours: h
needs: root, file /dev/cpu_dma_latency
plugins: cpu_dma_latency
"""

import os

from zdtm.lib.program import equal, ready, run

LIMIT = 4321


def main() -> None:
    device = os.open("/dev/cpu_dma_latency", os.O_RDWR)
    os.write(device, LIMIT.to_bytes(4, "little"))
    equal(int.from_bytes(os.pread(device, 4, 0), "little"), LIMIT, "limit that holds")
    ready()
    equal(int.from_bytes(os.pread(device, 4, 0), "little"), LIMIT, "limit that holds after the restore")


if __name__ == "__main__":
    run(main)
