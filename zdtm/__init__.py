"""The conformance suite: programs that hold one kernel state each, and the pytest plugin that checkpoints them."""
