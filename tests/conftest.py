"""What holds for every test: a busy machine may be slow, and fails none for it."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):  # tests of a GPU run where only what they need is installed
    from hypothesis import HealthCheck, settings

    settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("any machine")
