"""The image format: kinds and magics, framing, schema, page maps. Knows nothing of processes."""
