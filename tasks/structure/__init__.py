"""Structure-sensitive tasks: one file, one task."""
