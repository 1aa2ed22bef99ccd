"""The ledger of a table or a sweep: what is planned, what is done, what it costs, and whether it is sound.

    python -m experiments.commands.ledger plan table=quick             every run, FLOPs, hours and disk, before anything starts
    python -m experiments.commands.ledger run table=quick              run what is missing, print the table
    python -m experiments.commands.ledger status table=quick           planned, running (heartbeat, host), done, failed, stale
    python -m experiments.commands.ledger status                       all plans of the results folder
    python -m experiments.commands.ledger resume table=quick           go on with the plan as it was frozen
    python -m experiments.commands.ledger retry --failed table=quick   run failed and diverged runs again
    python -m experiments.commands.ledger verify table=quick           re-hash every record, derive the table again
    python -m experiments.commands.ledger prune [--yes]                drop what no run needs any more
    python -m experiments.commands.ledger spent results_dir=FOLDER     FLOPs and hours of all records below a folder

What follows the verb is what the table or the sweep is asked for with: `table=NAME` and overrides, or `sweep=NAME`
with or without `table=NAME`, or the axes of a sweep (`model=a,b task=c ...`), or `plan=FILE`. All but `plan` and `run`
read the newest frozen plan of that name, so that a config edited meanwhile changes nothing. `--watch` makes `status`
follow the launch.

Exit codes: 0, 1 (a run failed, or something is not sound), 2 (input), 130 (interrupted).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiments.command_line import main, unknown
from experiments.errors import UserError
from experiments.planning.plan import Plan, load_plan, plan_files
from experiments.store.store import Store

SWEEP_KEYS = ("sweep", "model", "task", "seed")


def ledger(arguments: Sequence[str]) -> int:
    """The program: a verb and what it is about.

    Raises:
        UserError: an unknown verb or option, or what the verb raises.
    """
    verb, rest = (arguments[0], list(arguments[1:])) if arguments else ("", [])
    if verb not in VERBS:
        raise UserError(unknown("verb", verb, list(VERBS)) if verb else f"no verb; available: {', '.join(VERBS)}")
    body, known = VERBS[verb]
    flags = [word for word in rest if word.startswith("-")]
    for flag in flags:
        if flag.partition("=")[0] not in known:
            raise UserError(unknown(f"option of {verb}", flag, list(known)))
    return body([word for word in rest if word not in flags], set(flags))


def _plan(words: list[str], flags: set[str]) -> int:
    from experiments.launching.estimate import Gpu, show_estimate

    assumed = Gpu()
    gpu = Gpu(
        flops=_number(flags, "--gpu-flops", assumed.flops),
        step_seconds=_number(flags, "--gpu-step-ms", assumed.step_seconds * 1e3) / 1e3,
    )
    plan, path, store, launcher = _asked(words)
    show_estimate(plan, store, launcher, measure="--no-measure" not in flags, gpu=gpu)
    print(f"frozen: {path}")
    return 0


def _number(flags: set[str], option: str, default: float) -> float:
    given = [flag.partition("=")[2] for flag in flags if flag.partition("=")[0] == option]
    try:
        value = float(given[-1]) if given else default
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UserError(f"{option} takes a number above 0, e.g. {option}={default:g}; got {given[-1]!r}")
    return value


def _run(words: list[str], flags: set[str]) -> int:
    if _is_sweep(words):
        from experiments.studies.sweep import sweep

        return sweep(words)
    from experiments.studies.reproduce import reproduce

    return reproduce(words)


def _resume(words: list[str], flags: set[str]) -> int:
    from experiments.studies.reproduce import reproduce

    _, path = frozen(words)
    return reproduce([f"plan={path}", *_launcher_words(words)])


def _retry(words: list[str], flags: set[str]) -> int:
    if "--failed" not in flags:
        raise UserError("retry runs again what has a record already: say which, e.g. retry --failed table=quick")
    return _resume([*words, "launcher.retry_failed=true"], flags)


def _status(words: list[str], flags: set[str]) -> int:
    from experiments.commands.status import overview, show_status, watch

    root = results_dir(words)
    if not [word for word in words if not word.startswith("results_dir=")]:
        return overview(Store(root, write=False))
    plan, path = frozen(words)
    store = Store(path.parent.parent, write=False)
    return watch(plan, store) if "--watch" in flags else show_status(plan, store)


def _verify(words: list[str], flags: set[str]) -> int:
    from experiments.studies.verify import verify

    plan, path = frozen(words)
    return verify(plan, path, Store(path.parent.parent, write=False))


def _prune(words: list[str], flags: set[str]) -> int:
    from experiments.commands.prune import prune

    return prune(Store(results_dir(words)), do="--yes" in flags, orphans="--orphans" in flags)


def _spent(words: list[str], flags: set[str]) -> int:
    from experiments.commands.spent import show_spent

    return show_spent(results_dir(words))


VERBS: dict[str, tuple[Callable[[list[str], set[str]], int], tuple[str, ...]]] = {
    "plan": (_plan, ("--no-measure", "--gpu-flops", "--gpu-step-ms")),
    "run": (_run, ()),
    "status": (_status, ("--watch",)),
    "resume": (_resume, ()),
    "retry": (_retry, ("--failed",)),
    "prune": (_prune, ("--yes", "--orphans")),
    "verify": (_verify, ()),
    "spent": (_spent, ()),
}


def frozen(words: list[str]) -> tuple[Plan, Path]:
    """The plan the words mean: `plan=FILE`, the newest of a table's or sweep's name, else the one they make.

    Raises:
        UserError: there is no such plan.
    """
    named = _values(words, "plan")
    if named:
        path = Path(named[-1]).absolute()
        return load_plan(path), path
    others = [w for w in words if not w.startswith(("table=", "sweep=", "results_dir=", "launcher"))]
    sweeps, tables = _values(words, "sweep"), _values(words, "table")
    names = ["-".join(["sweep", sweeps[-1], *tables])] if sweeps else tables
    if names and not others:
        name, folder = names[-1], results_dir(words) / "plans"
        have = plan_files(folder)
        fits = [path for path, found in have.items() if found == name or found.rpartition("-")[0] == name]
        if not fits:
            raise UserError(unknown("frozen plan", name, sorted(set(have.values()))) + "; plan it first")
        return load_plan(fits[-1]), fits[-1]
    plan, path, _, _ = _asked(words)
    return plan, path


def results_dir(words: list[str]) -> Path:
    """The results folder of the words, or the default one."""
    from experiments.planning.hydra_config import composed, composer, plain

    with composer():
        config = composed([f"results_dir={value}" for value in _values(words, "results_dir")])
        return Path(str(plain(config)["results_dir"])).expanduser().absolute()


def _asked(words: list[str]) -> tuple[Plan, Path, Store, Any]:
    from experiments.studies.reproduce import prepare

    if _is_sweep(words):
        from experiments.studies.sweep import asked

        table, rest = asked(words)
        return prepare(rest, table, read=False)
    return prepare(words, read=False)


def _is_sweep(words: list[str]) -> bool:
    keys = {word.split("=", 1)[0] for word in words}
    return "sweep" in keys or (not keys & {"table", "plan"} and bool(keys & set(SWEEP_KEYS)))


def _values(words: list[str], key: str) -> list[str]:
    return [word.split("=", 1)[1] for word in words if word.startswith(f"{key}=")]


def _launcher_words(words: list[str]) -> list[str]:
    return [word for word in words if word.startswith("launcher")]


if __name__ == "__main__":
    main(lambda: ledger(sys.argv[1:]))
