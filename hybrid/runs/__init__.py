"""A run on disk: its folder, checkpoints, provenance and logs, and what it may have seen before."""
