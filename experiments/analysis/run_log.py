"""The log of a run, line by line; reading it loads no model."""

from __future__ import annotations

import json
from collections.abc import Iterator

from experiments.store.store import Store


def log_lines(store: Store, run: str, wanted: bytes = b"") -> Iterator[dict[str, float]]:
    """The lines of a run's metrics.jsonl that contain `wanted`; a torn last line is left out."""
    for line in store.log(run).splitlines():
        if wanted in line:
            try:
                yield json.loads(line)
            except ValueError:
                continue
