"""One file per architecture: its config dataclass beside its core."""
