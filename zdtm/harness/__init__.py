"""Runs the programs under checkpoints and judges: a pytest plugin, its sandbox, the modes, the oracle, the sabotage."""
