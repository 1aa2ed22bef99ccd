"""The hub's client, `datasets`: asked by its own names, kept off the network unless the user allows it."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

REACH_SECONDS = 8.0  # until a network that the user asked for counts as absent
CONVERTED = "refs/convert/parquet"  # the hub's own parquet copy of a set that was published as a script


class NoAnswer(Exception):
    """The hub's data set cannot be had; the text says why, and is empty where nobody was asked."""


def load(hub: str, subset: str, split: str, download: bool) -> Any:
    """One split of the hub's data set, from the cache of `datasets` or, if allowed, from the network.

    Raises NoAnswer when it cannot be had.
    """
    if not hub or not (download or in_cache(hub)):
        raise NoAnswer
    if download and not reachable(os.environ.get("HF_ENDPOINT", "https://huggingface.co")):
        raise NoAnswer("the hub does not answer")
    with hub_offline(not download):
        import datasets

        def ask(**more: str) -> Any:
            return datasets.load_dataset(hub, subset or None, split=split, **more)

        try:
            try:
                return ask()
            except RuntimeError as error:
                if "scripts are no longer supported" not in str(error):
                    raise
                return ask(revision=CONVERTED)
        except Exception as error:  # whatever the hub's client raises: names of its errors move between releases
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise NoAnswer(first if download else "") from None


def in_cache(hub: str, environment: Mapping[str, str] = os.environ) -> bool:
    """True if a cache of the hub's client has a folder of the data set: importing `datasets` to ask it takes longer."""
    home = Path(environment.get("HF_HOME") or Path(environment.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface")
    places = {
        environment.get("HF_HUB_CACHE") or home / "hub": "datasets--" + hub.replace("/", "--"),
        environment.get("HF_DATASETS_CACHE") or home / "datasets": hub.replace("/", "___"),
    }
    # Folders of the second are in lower or snake case, by release.
    plain = {name.replace("_", "").lower() for name in places.values()}
    return any(
        entry.name.replace("_", "").lower() in plain
        for place in places
        for entry in (Path(place).expanduser().iterdir() if Path(place).expanduser().is_dir() else ())
    )


@contextmanager
def hub_offline(offline: bool) -> Iterator[None]:
    """Keep the hub's client off the network. It reads the variable at import only, hence the constants."""
    if not offline:
        yield
        return
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    import datasets.config
    import huggingface_hub.constants

    holders: list[Any] = [datasets.config, huggingface_hub.constants]
    known = [holder.HF_HUB_OFFLINE for holder in holders]
    try:
        for holder in holders:
            holder.HF_HUB_OFFLINE = True
        yield
    finally:
        for holder, value in zip(holders, known, strict=True):
            holder.HF_HUB_OFFLINE = value if before is not None else False
        os.environ.pop("HF_HUB_OFFLINE")
        if before is not None:
            os.environ["HF_HUB_OFFLINE"] = before


def reachable(endpoint: str, environment: Mapping[str, str] = os.environ) -> bool:
    """True if the endpoint takes a connection within REACH_SECONDS; with a proxy there is no telling: True.

    `datasets` itself waits for minutes where packets are dropped.
    """
    if any(environment.get(name) for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")):
        return True
    address = urlsplit(endpoint)
    answered = threading.Event()

    def connect() -> None:
        try:
            port = address.port or (443 if address.scheme == "https" else 80)
            socket.create_connection((address.hostname or "", port), timeout=REACH_SECONDS).close()
        except OSError:
            return
        answered.set()

    # A thread, since the look-up of a name knows no timeout.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(REACH_SECONDS)
    return answered.is_set()
