"""What a table is called that was asked for with overrides: another name than its preset, for it is another table.

    quick                                   the preset as it stands
    quick+seeds-0-1-5c1f09                  other rows, columns or seeds; each cell is as the preset has it
    quick++lr-0.003+seeds-0-1-81d2ce        the runs themselves are others

One plus or two, up to `READABLE` characters of what was asked, and a digest of all of it. Spelling and order do not
matter, nor do overrides that change no number (launcher, logger, results_dir, threads ...) or repeat the preset.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString

from experiments.planning.settings import TableSettings
from experiments.store import atomic_files as atomic
from experiments.store.identity import COSMETIC_TRAINER

READABLE = 40
LONGEST = 100  # of a name, see TableSettings
SILENT = frozenset({"launcher", "logger", "results_dir", "hydra", "allow_targets"})  # sections that change no number
CELLS = frozenset({"models", "tasks", "seeds", "columns", "groups", "optional"})  # which cells there are


def preset_of(name: str) -> str:
    """`quick` of `quick+seeds-0-1-5c1f09`."""
    return name.partition("+")[0]


def is_part(name: str, preset: str) -> bool:
    """Whether a table of that name has the preset's own cells, more or fewer of them."""
    return name.startswith(f"{preset}+") and not name.startswith(f"{preset}++")


def table_name(settings: TableSettings, preset: TableSettings, overrides: Sequence[str]) -> str:
    """The name of a table.

    Args:
        settings: the table that is asked for.
        preset: the table of that name as it stands.
        overrides: what is to apply to each run, in Hydra's grammar.
    """
    mine, theirs = settings.model_dump(mode="json"), preset.model_dump(mode="json")
    table = {key: mine.get(key) for key in sorted({*mine, *theirs}) if mine.get(key) != theirs.get(key)}
    known = {entry.label: entry for entry in preset.entries()}
    odd = [e for e in settings.entries() if e.overrides and known.get(e.label) != e]
    return suffixed(preset.name, table, asked_of_runs(overrides), whole=table.keys() <= CELLS and not odd)


def asked_of_runs(overrides: Sequence[str]) -> dict[str, Any]:
    """Key -> value of the overrides that change what is run; of a key that stands twice, the last."""
    found: dict[str, Any] = {}
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        section, _, rest = override.key_or_group.partition(".")
        if section not in SILENT and not (section == "trainer" and rest.split(".")[0] in COSMETIC_TRAINER):
            value = None if override.is_delete() else override.value()
            found[override.key_or_group] = value.text if isinstance(value, QuotedString) else value
    return {key: found[key] for key in sorted(found)}


def suffixed(name: str, table: Mapping[str, Any], runs: Mapping[str, Any], *, whole: bool) -> str:
    """The name with what was asked of table and runs; `whole`: each cell is as the preset has it."""
    if not table and not runs:
        return name
    told = [f"{key.rpartition('.')[2]}-{_words(value)}" for key, value in (*runs.items(), *table.items())]
    readable = "+".join(told)
    room = max(0, min(READABLE, LONGEST - len(name) - len("++-etc-0a1b2c")))
    readable = readable if len(readable) <= room else readable[:room].rstrip("-+._") + "-etc"
    digest = atomic.digest({"table": dict(table), "runs": {key: repr(value) for key, value in runs.items()}}, 6)
    return f"{name}{'+' if whole and not runs else '++'}{readable}-{digest}"


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        value = value["label"] if "label" in value else list(value)
    if isinstance(value, list | tuple):
        return "-".join(map(_words, value)) or "none"
    return re.sub(r"[^A-Za-z0-9._]+", "-", str(value)).strip("-.") or "none"
