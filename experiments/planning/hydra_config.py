"""conf/ and overrides through Hydra: composed configs as plain dictionaries, and Hydra's main with our manners."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ValueType
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from experiments.errors import FULL, UserError, clipped, one_line, unknown
from experiments.planning.hydra_values import literal, override_key, require_path
from experiments.planning.limits import MOST_RUNS, require_runs
from experiments.planning.search_path import (
    TEMPLATES,
    require_searchpath,
    search_folders,
    search_words,
    with_files_found,
)
from experiments.store.provenance import ROOT

INSIDE = Path(__file__).resolve().parents[1] / "conf"
CONF = INSIDE if INSIDE.is_dir() else ROOT / "conf"  # inside an installed package, at the top of a checkout

# Sections whose dataclass knows every key and refuses the others; their YAML holds only what differs from it.
DEBUG = "RESSFORMER_DEBUG_FOLDER"
OPEN = ("model.", "task.", "budget.")
GROUPS = ("model", "task", "budget", "trainer", "logger", "launcher", "table")


def config_folders() -> list[Path]:
    """Where configs are looked for: ours, and `conf/` in the folder that the user stands in."""
    own = Path.cwd() / "conf"
    return [CONF, own] if own.is_dir() and own.resolve() != CONF.resolve() else [CONF]


class OwnFolder(SearchPathPlugin):
    """Has Hydra look into the user's own `conf/`, after ours: it adds names and replaces none."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the folders beside ours."""
        for folder in config_folders()[1:]:
            search_path.append(provider="own", path=f"file://{folder}")


def register_resolvers() -> None:
    """`${pid:}`: the id of this process, so that launches of one second do not share a folder; `${debug_folder:}`."""
    OmegaConf.register_new_resolver("pid", os.getpid, replace=True)
    OmegaConf.register_new_resolver("debug_folder", debug_folder, replace=True)


def debug_folder() -> str:
    """Where a command writes that only tries whether something runs: a folder of its own, the same for its children."""
    name = f"ressformer-debug-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
    return os.environ.setdefault(DEBUG, os.path.join(tempfile.gettempdir(), name))


@contextlib.contextmanager
def composer() -> Iterator[None]:
    """Make compose work inside the block, also within a Hydra app, and leave no global state behind."""
    register_resolvers()
    Plugins.instance().register(OwnFolder)
    state = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().clear()
        GlobalHydra.instance().hydra = state


def options(group: str, overrides: Sequence[str] = ()) -> list[str]:
    """The names in a config group (inside `composer`), and in the folders that `hydra.searchpath` overrides add."""
    found = GlobalHydra.instance().hydra
    assert found is not None
    names = found.config_loader.get_group_options(
        group, config_name="config", overrides=[opened(word) for word in overrides]
    )
    return sorted(set(names))


def require_option(group: str, name: str, overrides: Sequence[str] = ()) -> None:
    """Raise UserError, with what there is, unless the group has the name; `overrides` may add folders."""
    found = options(group, overrides)
    if name not in found:
        raise UserError(unknown(group, name, found))


def opened(argument: str) -> str:
    """The argument in the form that also sets a key which the section's YAML leaves at its default; paths quoted.

    Raises:
        UserError: a path that is none, or a search path that leads nowhere.
    """
    argument = literal(argument)
    if argument.lstrip("+").startswith("hydra.searchpath="):
        require_searchpath(argument)
    return f"++{argument}" if argument.startswith(OPEN) else argument


def composed(overrides: Sequence[str]) -> DictConfig:
    """conf/config.yaml under the overrides (inside `composer`). Hydra's own errors pass through.

    Raises:
        UserError: a YAML file that cannot be read, or a group that is no mapping.
    """
    with files_at_fault(overrides):
        config = compose("config", overrides=[opened(override) for override in overrides])
        with_files_found(config, search_folders(overrides))
    for group in GROUPS:
        if group in config and OmegaConf.is_list(config[group]):
            raise UserError(f"{group} is a list, and has to be a mapping (KEY: VALUE); see {CONF / group}")
    return config


@contextlib.contextmanager
def files_at_fault(overrides: Sequence[str]) -> Iterator[None]:
    """Say of a file of conf/ that cannot be read, or a group set to what names no file, which words asked for it."""
    try:
        yield
    except (HydraException, OmegaConfBaseException):  # some are OSErrors or ValueErrors, too
        raise
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        groups = [word for word in overrides if override_key(word) in (*GROUPS, "sweep")]
        asked = f" of {clipped(' '.join(groups), 200)}" if groups else ""
        raise UserError(f"the config{asked} cannot be read: {one_line(str(error))}") from None


class Cells:
    """Composes the cells of a grid, each half once: what the overrides say of the model, and what they say of the rest.

    Composing takes 0.1 s, and a grid of 13 models and 18 tasks has 234 cells of 31 halves.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, ...], DictConfig] = {}

    def config(self, overrides: Sequence[str]) -> DictConfig:
        """The same as `composed(overrides)`, a config of the caller's own."""
        both = tuple(search_words(overrides))
        own = tuple(o for o in overrides if override_key(o).split(".")[0].split("/")[0] == "model")
        rest = tuple(o for o in overrides if o not in own)
        model = self._half((*both, *own))
        if "model" not in model or _outside(model) != _outside(self._half(both)):
            return composed(overrides)  # a model's YAML that reaches into other sections
        config = copy.deepcopy(self._half(rest))
        config.model = model.model
        return config

    def _half(self, overrides: tuple[str, ...]) -> DictConfig:
        if overrides not in self._kept:
            self._kept[overrides] = composed(overrides)
        return self._kept[overrides]


def _outside(config: DictConfig) -> dict[Any, Any]:
    values = OmegaConf.to_container(config, resolve=False)
    assert isinstance(values, dict)
    return {key: value for key, value in values.items() if key != "model"}


def plain(config: Any) -> dict[str, Any]:
    """A resolved config as plain containers.

    Raises:
        UserError: a mandatory value (???) was not given.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise UserError(f"no value for {', '.join(missing)}; give one on the command line as key=value")
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def names_in(config: dict[str, Any], key: str) -> list[str]:
    """The names that a key of a plain config lists; null is none.

    Raises:
        UserError: it is no list of names.
    """
    value = [] if config.get(key) is None else config[key]
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise UserError(f"{key} takes a list of names, {key}=[NAME,NAME]; got {value!r}")
    return value


def results_folder(config: Any) -> str:
    """The results folder of a composed config.

    Raises:
        UserError: it has none.
    """
    return require_path("results_dir", config.get("results_dir"))


def given_dials(overrides: Sequence[str]) -> frozenset[str]:
    """The fields of the model that overrides name: a solver leaves them as they were given."""
    keys = (key for key in map(override_key, overrides) if key != "model._target_")
    given = {key.removeprefix("model.").split(".")[0] for key in keys if key.startswith("model.")}
    return frozenset(given - set(TEMPLATES))


def values_of(key: str, arguments: Sequence[str]) -> list[str]:
    """The values of all arguments `key=VALUE`, in their order."""
    return [argument.partition("=")[2] for argument in arguments if argument.startswith(f"{key}=")]


def require_jobs(arguments: Sequence[str]) -> None:
    """Raise UserError if a multirun has more jobs than a table may have runs; Hydra would make them all before one."""
    if {"-m", "--multirun"} & set(arguments):
        parse = OverridesParser.create().parse_override
        words = [parse(word) for word in arguments if "=" in word and not word.startswith("-")]
        swept = [word for word in words if word.is_discrete_sweep() and word.value_type != ValueType.GLOB_CHOICE_SWEEP]
        axes = [word.sweep_string_iterator() for word in swept]
        require_runs(*(sum(1 for _ in itertools.islice(axis, MOST_RUNS + 1)) for axis in axes))


def hydra_main(config_name: str, job: Callable[[Any], Any], config_dir: str | None = str(CONF)) -> None:
    """Run `job` under Hydra with this process's arguments. In a multirun an error ends its own job only.

    Raises:
        UserError: Hydra cannot write its own folder.
        Exception: what composition raised, or the first error of a job.
    """
    register_resolvers()
    Plugins.instance().register(OwnFolder)
    errors: list[Exception] = []
    here = os.getpid()

    @functools.wraps(job)
    def kept(config: Any) -> Any:
        try:
            return job(config)
        except Exception as error:
            if os.getpid() != here:  # a launcher's process: only an exception gets back from there
                raise
            errors.append(error)
            return None

    before = os.environ.get(FULL)
    os.environ[FULL] = "1"  # Hydra would print the error and exit with 1 itself
    arguments, sys.argv[1:] = sys.argv[1:], [opened(argument) for argument in sys.argv[1:]]
    try:
        require_jobs(sys.argv[1:])
        with files_at_fault(sys.argv[1:]):
            hydra.main(version_base="1.3", config_path=config_dir, config_name=config_name)(kept)()
    except OSError as error:  # a job's own are in `errors`; some of Hydra's complaints are OSErrors without a number
        if error.errno is None:
            raise
        where = error.filename or "its folder"
        raise UserError(
            f"{where} cannot be written ({error.strerror}); choose another with results_dir=FOLDER"
        ) from None
    finally:
        sys.argv[1:] = arguments
        if before is None:
            os.environ.pop(FULL, None)
        else:
            os.environ[FULL] = before
    if errors:
        raise errors[0]
