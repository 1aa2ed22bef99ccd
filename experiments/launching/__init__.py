"""Processes and clusters that carry the runs of a plan."""
