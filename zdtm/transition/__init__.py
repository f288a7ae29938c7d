"""Programs that keep changing their state while they are checkpointed."""
