"""Crucible's engine: checkpoint and restore of Linux process trees, compatible with CRIU's images and command line."""

__version__ = "0.1.0"

# Callers of criu, runc among them, ask for its version to learn what it can do. This is the one we are compatible with.
CRIU_VERSION = "4.2"
