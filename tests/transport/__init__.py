"""Tests of what goes over connections."""
