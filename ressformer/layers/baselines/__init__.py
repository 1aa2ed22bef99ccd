"""Attention of the baselines: Longformer's windows, BigBird's blocks, Reformer's hashing, over one tiled kernel."""
