"""One run: training, selection, evaluation, its record."""
