"""What a table's preset says, as a hash: the settings in conf/table/NAME.yaml and in the files that it names.

These are the YAML files of its models, its tasks, its budget, the trainer, and of what its overrides choose. Comments
and the order of keys do not count, nor does the layout (`groups`, `columns`), nor `per_cell`: what equal tuning chose
is found after a preset is frozen. A setting that came later counts once it has another value than the one at which it
changes nothing. Defaults in code are no part of it: records carry the version of the code.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from experiments.planning.hydra_config import CONF
from experiments.store import atomic_files as atomic
from experiments.store.identity import LATER
from experiments.store.provenance import ROOT

LAYOUT = ("groups", "columns", "confidence", "per_cell")
Read = Callable[[str], str | None]  # the text of a file below conf/, None if there is none
Settings = dict[str, Any]


def in_folder(name: str) -> str | None:
    """The text of a file of conf/ as it lies there now."""
    try:
        return (CONF / name).read_text()
    except OSError:
        return None


def preset_hash(table: str, read: Read = in_folder) -> str | None:
    """Twelve hex digits of the preset of a table; None: there is no such preset, or it cannot be read."""
    files: dict[str, Settings] = {}
    try:
        _load("table", table, read, files)
        if f"table/{table}" not in files:
            return None
        for group, name in list(_named(files, read)):
            _load(group, name, read, files)
    except (yaml.YAMLError, AttributeError, TypeError):
        return None
    said = {
        name: {key: value for key, value in settings.items() if not _says_nothing(name.partition("/")[0], key, value)}
        for name, settings in files.items()
    }
    return atomic.digest(said, 12)


def _says_nothing(group: str, key: str, value: Any) -> bool:
    """Whether a setting of a file is layout, or one that came later at its neutral value."""
    return (group == "table" and key in LAYOUT) or (f"config.{group}.{key}", value) in LATER


def _load(group: str, name: str, read: Read, files: dict[str, Settings]) -> None:
    """A file and those of its group that its defaults list names."""
    key = f"{group}/{name}"
    if key in files or (text := read(f"{key}.yaml")) is None:
        return
    files[key] = dict(yaml.safe_load(text) or {})
    for other in files[key].get("defaults", []):
        if isinstance(other, str):
            _load(group, other.partition("@")[0], read, files)


def _named(files: dict[str, Settings], read: Read) -> Iterator[tuple[str, str]]:
    """Group and name of each file that the table's own files name."""
    for settings in list(files.values()):
        for entry in settings.get("models", []):
            yield "model", entry if isinstance(entry, str) else entry["model"]
        for task in settings.get("tasks", []):
            yield "task", task
        if settings.get("budget"):
            yield "budget", str(settings["budget"])
        lists = [settings.get("overrides", []), *settings.get("per_task", {}).values()]
        lists += settings.get("per_model", {}).values()
        lists += [entry.get("overrides", []) for entry in settings.get("models", []) if isinstance(entry, dict)]
        for word in [word for words in lists for word in words]:
            group, _, name = word.lstrip("+").partition("=")
            yield group, name  # a choice of a group; a value has no file of that name
    for other in yaml.safe_load(read("config.yaml") or "{}").get("defaults", []):
        if isinstance(other, dict) and "trainer" in other:
            yield "trainer", other["trainer"]


@dataclass
class History:
    """What git knows of the sources; every answer is empty where there is no git or no history."""

    root: Path = ROOT
    _texts: dict[str, str] = field(default_factory=dict)

    def git(self, *words: str) -> str:
        """What a git command prints; empty if it fails."""
        try:
            command = ["git", "-C", str(self.root), *words]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout if done.returncode == 0 else ""

    def commits(self, path: str) -> list[tuple[str, datetime]]:
        """The commits of the main line that touched a path, the oldest first, and when each was made.

        A branch counts from its merge: what lay in it beside the main line says nothing of what stood there.
        """
        lines = self.git("log", "--first-parent", "--reverse", "--format=%H %cI", "--", path).splitlines()
        return [(commit, datetime.fromisoformat(date)) for commit, _, date in (line.partition(" ") for line in lines)]

    def reader(self, commit: str) -> Read:
        """The files of conf/ at a commit."""
        blobs = {}
        for line in self.git("ls-tree", "-r", commit, "conf/").splitlines():
            kind, _, path = line.partition("\t")
            blobs[path.removeprefix("conf/")] = kind.split()[2]

        def read(name: str) -> str | None:
            blob = blobs.get(name)
            if blob is not None and blob not in self._texts:
                self._texts[blob] = self.git("cat-file", "blob", blob)
            return None if blob is None else self._texts[blob]

        return read

    def preset_since(self, table: str, wanted: str) -> tuple[str, datetime] | None:
        """The commit since which, or at whose latest time, the preset of a table had the hash; None: at none."""
        found = None
        for commit, date in reversed(self.commits("conf")):
            if preset_hash(table, self.reader(commit)) == wanted:
                found = commit[:12], date
            elif found is not None:
                break
        return found
