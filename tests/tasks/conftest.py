"""No test reads or writes the user's own data and caches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESSFORMER_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
