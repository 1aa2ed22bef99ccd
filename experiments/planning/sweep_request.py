"""What a sweep is asked for, read once: a grid of overrides, a tuning over a space, or variants, one change at a time.

    model=ressformer,transformer task=listops seed=0,1 trainer.optim.lr=1e-3,3e-3     a grid
    sweep=lr table=quick trials=16                                                  a preset with a `space`: a tuning
    sweep=readings table=quick                                                      a preset with `variants`

The grammar is that of Hydra's multirun (lists, range(), choice()). `sweep=NAME` reads the arguments of
conf/sweep/NAME.yaml first; later ones win.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from experiments.errors import UserError, unknown
from experiments.planning.hydra_config import (
    composed,
    composer,
    config_folders,
    files_at_fault,
    plain,
    require_option,
    values_of,
)
from experiments.planning.hydra_values import literal, override_key
from experiments.planning.limits import MOST_RUNS, require_runs
from experiments.planning.settings import TableSettings, section
from experiments.planning.sweep_names import OWN, Claim, claimed
from experiments.planning.sweep_settings import Tuning, Variants
from experiments.store import atomic_files as atomic

CELLS = ("model", "task", "seed", "budget")


@dataclass(frozen=True)
class SweepRequest:
    """A sweep that is ready to be planned.

    Attributes:
        table: settings of the ad-hoc table; of a grid every trial is a row, of the others a row is still a model.
        overrides: what applies to every run.
        settings: the preset of a tuning or of variants; None = a grid.
        claim: its name, to be taken when it is run; None = a grid.
    """

    table: dict[str, Any]
    overrides: list[str]
    settings: Tuning | Variants | None = None
    claim: Claim | None = None


def read_sweep(arguments: Sequence[str]) -> SweepRequest:
    """The sweep that the arguments ask for. Nothing is written.

    Raises:
        UserError: no model or task, an unknown preset or table, a wrong value, a grid beside a preset's own trials, or
            models of unequal effort.
    """
    names = values_of("sweep", arguments)
    raw = preset_file(names[-1]) if names else {}
    if "variants" in raw:
        return _variants(arguments, names[-1], section(Variants, raw, f"sweep {names[-1]}"))
    if "space" in raw and (tuning := _tuning(arguments, names[-1], section(Tuning, raw, f"sweep {names[-1]}"))):
        return tuning
    return _grid(arguments)


def _variants(arguments: Sequence[str], preset_name: str, settings: Variants) -> SweepRequest:
    counts = {model: len(variants) for model, variants in settings.variants.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{model} {count}" for model, count in counts.items())
        raise UserError(f"sweep {preset_name}: every model gets as many variants as the others, not {told}")
    refuse_sampler(arguments, preset_name)
    given = left_over(arguments, "table")
    axes, fixed = read_axes([*settings.overrides, *given])
    if grid := [key for key in axes if key not in CELLS]:
        raise UserError(f"sweep {preset_name} tries its variants and takes no grid beside them; fix {', '.join(grid)}")
    tables = values_of("table", arguments)
    claim = claimed(arguments, preset_name, tables, [asks(given), tables, settings.variants])
    table = swept_table(claim.name, axes, read_axes(given)[0], tables)
    if lost := [entry["model"] for entry in table["models"] if settings.of(entry["model"]) is None]:
        have = ", ".join(settings.variants)
        raise UserError(f"sweep {preset_name} has no variants for {lost[0]}; it has them for {have}")
    return SweepRequest(table, fixed, settings, claim)


def _tuning(arguments: Sequence[str], preset_name: str, settings: Tuning) -> SweepRequest | None:
    """None where the arguments fix all that the preset's space has: then it is a grid."""
    given = left_over(arguments, "table", "trials")
    axes, fixed = read_axes([*settings.overrides, *given])
    space = {
        key: axis
        for key, axis in settings.space.items()
        if key not in axes and all(override_key(o) != key for o in fixed)
    }
    if not space:
        return None
    if grid := [key for key in axes if key not in CELLS]:
        raise UserError(
            f"sweep {preset_name} tunes {', '.join(space)} and takes no grid beside it; fix {', '.join(grid)}"
        )
    tables, trials = values_of("table", arguments), values_of("trials", arguments)
    values = settings.model_dump() | {"space": space} | ({"trials": number(trials[-1])} if trials else {})
    if samplers := values_of("sweep.sampler", arguments):
        values["sampler"] = samplers[-1]
    settings = section(Tuning, values, f"sweep {preset_name}")
    searched = {key: axis.model_dump() for key, axis in settings.space.items()}
    key = [asks(given), tables, searched, settings.sampler, settings.sampler_seed]
    claim = claimed(arguments, preset_name, tables, key)
    table = swept_table(claim.name, axes, read_axes(given)[0], tables)
    require_runs(*(len(table[part]) for part in ("models", "tasks", "seeds")), settings.trials)
    return SweepRequest(table, fixed, settings, claim)


def _grid(arguments: Sequence[str]) -> SweepRequest:
    refuse_sampler(arguments, "of a grid")
    named, arguments = values_of("sweep.name", arguments), left_over(arguments, presets=True)
    axes, fixed = read_axes(arguments)
    for needed in ("model", "task"):
        if needed not in axes:
            raise UserError(
                f"a sweep needs {needed}=NAME, e.g. model=ressformer task=listops trainer.optim.lr=1e-3,3e-3"
            )
    if len(budget := axes.pop("budget", ["tiny"])) > 1:
        raise UserError("a sweep has one budget; trials of different budgets cannot be ranked")
    models_of, tasks, seeds = (axes.pop(key, ["0"]) for key in ("model", "task", "seed"))
    if not all(seed.isdigit() for seed in seeds):
        raise UserError(f"seed must be integers of 0 or more, got {', '.join(seeds)}")
    require_runs(*map(len, (models_of, tasks, seeds, *axes.values())))
    models = []
    for model, values in itertools.product(models_of, itertools.product(*axes.values())):
        trial = dict(zip(axes, values, strict=True))
        short = [f"{key.rsplit('.', 1)[-1]}={value}" for key, value in trial.items()]
        chosen = [f"{key}={value}" for key, value in trial.items()]
        models.append({"label": " ".join([model, *short]), "model": model, "overrides": chosen})
    table = {
        "name": (["-".join(["sweep", *values_of("sweep", arguments), atomic.digest(asks(arguments), 6)]), *named])[-1],
        "models": models,
        "tasks": tasks,
        "seeds": [int(seed) for seed in seeds],
        "budget": budget[0],
    }
    return SweepRequest(table, fixed)


def read_axes(arguments: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """What is swept (key, values) and what is fixed; of two arguments with one key the later wins."""
    given: list[str] = []
    for argument in arguments:
        name = argument.removeprefix("sweep=")
        given = [*preset(name), *given] if argument != name else [*given, argument]
    axes: dict[str, list[str]] = {}
    fixed: dict[str, str] = {}
    for override in OverridesParser.create().parse_overrides([literal(argument) for argument in given]):
        bare = override.get_key_element().lstrip("+~")
        written = str(override.input_line).split("=", 1)[0]
        for known in (axes, fixed):
            for key in [key for key in known if key.lstrip("+~") == bare]:
                del known[key]
        if override.is_sweep_override():
            values = itertools.islice(override.sweep_string_iterator(), MOST_RUNS + 1)
            axes[written] = [str(value) for value in values]
            if len(axes[written]) > MOST_RUNS:  # a range may go on for as long as anyone likes
                raise UserError(f"{written} asks for more than {MOST_RUNS:,} values; a sweep takes at most as many")
        elif bare in CELLS:
            axes[written] = [str(override.get_value_element_as_str())]
        else:
            fixed[written] = str(override.input_line)
    return axes, list(fixed.values())


def number(text: str) -> int | str:
    """The integer that the text is, or the text, which the setting then refuses."""
    return int(text) if text.isascii() and text.isdigit() else text


def preset_file(name: str) -> dict[str, Any]:
    """The content of conf/sweep/NAME.yaml.

    Raises:
        UserError: there is no such preset, or its file cannot be read.
    """
    files = {path.stem: path for folder in reversed(config_folders()) for path in (folder / "sweep").glob("*.yaml")}
    if name not in files:
        raise UserError(unknown("sweep", name, list(files)))
    with files_at_fault([f"sweep={name}"]):
        content = OmegaConf.load(files[name])
    if not OmegaConf.is_dict(content):
        raise UserError(f"{files[name]} is a list, and has to be a mapping (KEY: VALUE)")
    return plain(content)


def preset(name: str) -> list[str]:
    """The arguments of conf/sweep/NAME.yaml.

    Raises:
        UserError: there is no such preset.
    """
    return [str(line) for line in preset_file(name).get("overrides", [])]


def asks(arguments: Sequence[str]) -> list[str]:
    """The arguments that say what is run, sorted; not where and by whom, which must not rename a sweep."""
    return sorted(argument for argument in arguments if not argument.startswith(("launcher", "results_dir=")))


def left_over(arguments: Sequence[str], *keys: str, presets: bool = False) -> list[str]:
    """The arguments less the sweep's own, and less those of `keys`; `presets`: `sweep=NAME` stays."""
    ours = tuple(f"{key}=" for key in (*OWN, *keys, *(() if presets else ("sweep",))))
    return [argument for argument in arguments if not argument.startswith(ours)]


def refuse_sampler(arguments: Sequence[str], what: str) -> None:
    """Raise UserError if a sampler is named where nothing is sampled."""
    if values_of("sweep.sampler", arguments):
        raise UserError(f"sweep.sampler= is for a preset with a space to search; the trials of sweep {what} are stated")


def swept_table(
    name: str, axes: Mapping[str, list[str]], given: Mapping[str, list[str]], tables: Sequence[str]
) -> dict[str, Any]:
    """The table whose cells are tried: that of the preset, or a named one, with what was given in its place."""
    table: dict[str, Any] = {"budget": "tiny"}
    if tables:
        with composer():
            require_option("table", tables[-1])
            table = plain(composed([f"table={tables[-1]}"]))["table"]
        table = section(TableSettings, table, "table").model_dump()
        axes = {**given, "seed": given.get("seed") or axes.get("seed", ["0"])}
    models = axes.get("model") or table.get("models")
    tasks = axes.get("task") or table.get("tasks")
    if not models or not tasks:
        raise UserError("a sweep that tunes needs model=NAME and task=NAME, or table=NAME")
    budgets, seeds = axes.get("budget", [table["budget"]]), axes.get("seed", ["0"])
    if len(budgets) > 1 or not all(seed.isdigit() for seed in seeds):
        raise UserError("a sweep has one budget, and seeds of 0 or more")
    named = [model if isinstance(model, dict) else {"label": model, "model": model} for model in models]
    changes = {"name": name, "models": named, "tasks": tasks, "budget": budgets[0], "seeds": [int(s) for s in seeds]}
    return {**table, **changes}
