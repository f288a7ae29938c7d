"""Tests of engine.images."""
