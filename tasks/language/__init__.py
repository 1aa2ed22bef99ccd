"""Language modelling tasks: one file, one task."""
