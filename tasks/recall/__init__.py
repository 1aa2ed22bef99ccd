"""Recall tasks: controls in which looping should not matter."""
