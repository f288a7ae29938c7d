"""crucible crit: looking into images, one verb a module. Reads images and the system, changes neither."""
