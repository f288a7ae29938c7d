"""Plugins for the engine, which programs of the suite name in their headers (`plugins:`)."""
