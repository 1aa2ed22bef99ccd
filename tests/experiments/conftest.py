"""Fixtures of the harness's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.store.store import Store


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the user's cache; what preflight found is remembered over the session."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESSFORMER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")
