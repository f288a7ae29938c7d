"""The tests of the engine and of the suite."""
