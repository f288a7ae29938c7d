"""Other kernels, other machines: boots a kernel of Debian's under QEMU and runs a command in it, `python -m ci.vm`."""
