"""ReSSFormer's attention: keys are selected, joined by cache and memory, normalised sparsely, and kept as a graph."""
