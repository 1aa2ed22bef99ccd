"""Data sets that other people made: where they lie, how they are read, what becomes of a bad row."""
