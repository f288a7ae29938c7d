"""Crucible's engine: checkpoint and restore of Linux process trees, compatible with CRIU's images and command line."""

__version__ = "0.1.0"
