"""One program, one kernel state that stands still while it is checkpointed."""
