"""Question answering tasks: one file, one task."""
