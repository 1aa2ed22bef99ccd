"""Fixtures of the harness's tests."""

from __future__ import annotations

import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.store.provenance import ROOT
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


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """An empty folder that every user can reach; pytest closes its own to others, whenever a session begins."""
    if any(not parent.stat().st_mode & stat.S_IXOTH for parent in (ROOT, *ROOT.parents)):
        pytest.skip("other users cannot reach the sources here")
    with tempfile.TemporaryDirectory(prefix="ressformer-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
