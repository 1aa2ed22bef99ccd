"""Where a user's own YAML files and classes are looked for: the folders of `hydra.searchpath`."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import QuotedString
from omegaconf import OmegaConf

from experiments.errors import UserError, clipped
from experiments.planning.hydra_values import override_key

TEMPLATES = ("decoder", "mixer")  # models that are none until a class of the user's is named, under a key of that name
SEARCH = "hydra.searchpath"


def search_words(overrides: Sequence[str]) -> list[str]:
    """Those of the overrides that add folders to where configs are looked for."""
    return [override for override in overrides if override_key(override) == SEARCH]


def search_folders(overrides: Sequence[str]) -> list[Path]:
    """The folders that `hydra.searchpath=[file://FOLDER]` adds."""
    found = (override.value() for override in OverridesParser.create().parse_overrides(search_words(overrides)))
    places = [str(place) for value in found for place in (value if isinstance(value, list) else [value])]
    return [Path(place.removeprefix("file://")).expanduser() for place in places if place.startswith("file://")]


def with_files_found(config: Any, folders: Sequence[Path]) -> None:
    """Look up the file of a user's own class in `folders` where the user's folder does not have it."""
    for key in TEMPLATES:
        section: Any = OmegaConf.select(config, f"model.{key}")
        name = section.get("file") if OmegaConf.is_dict(section) else None
        if isinstance(name, str) and name and not Path(name).expanduser().exists():
            place = next((folder / name for folder in folders if (folder / name).is_file()), None)
            if place is not None:
                section.file = str(place.absolute())


def require_searchpath(argument: str) -> None:
    """Raise UserError unless each folder of `hydra.searchpath=[...]` is there: Hydra passes over the others in silence.

    Hydra looks up no `${...}` in it: such a folder is none. An argument that Hydra cannot parse is left to it.
    """
    (override,) = OverridesParser.create().parse_overrides([argument])
    given = override.value()
    for entry in given if isinstance(given, list) else [given]:
        text = str(entry.text if isinstance(entry, QuotedString) else entry)
        kind, sign, place = text.rpartition("://")
        if kind == "pkg" or (sign and kind not in ("file", "pkg")):
            there = kind == "pkg" and _is_package(place)
        else:
            there = Path(place).is_dir()
        if not there:
            raise UserError(
                f"hydra.searchpath: there is no {'package' if kind == 'pkg' else 'folder'} {clipped(text)}; write "
                "'hydra.searchpath=[file://FOLDER]', the folder that has model/NAME.yaml or task/NAME.yaml in it"
            )


def _is_package(place: str) -> bool:
    try:
        return importlib.util.find_spec(place.replace("/", ".")) is not None
    except (ImportError, ValueError):
        return False
