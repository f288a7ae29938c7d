"""An open device whose node was unlinked: a copy of /dev/null with a mode and an owner of its own.

states: deleted-files-and-remaps/removed-device-node
flavours: h
needs: root, cap CAP_MKNOD
"""

import os
import stat

from zdtm.lib.program import check, equal, ready, run

NULL = os.makedev(1, 3)


def main() -> None:
    os.mknod("node", stat.S_IFCHR, NULL)
    os.chmod("node", 0o642)
    os.chown("node", 1001, 1002)
    fd = os.open("node", os.O_RDWR)
    os.unlink("node")
    ready()
    status = os.fstat(fd)
    check(stat.S_ISCHR(status.st_mode), "the descriptor is no character device")
    equal(status.st_rdev, NULL, "device number")
    equal(oct(stat.S_IMODE(status.st_mode)), oct(0o642), "mode")
    equal((status.st_uid, status.st_gid), (1001, 1002), "owner")
    equal(status.st_nlink, 0, "number of names")
    equal(os.write(fd, b"nothing"), 7, "bytes that the device takes")
    equal(os.read(fd, 64), b"", "what the device gives")
    equal(os.listdir(), [], "names in the directory")


if __name__ == "__main__":
    run(main)
