#!/usr/bin/env python3
"""Fills the figures of README.md and docs/ from results/reference: python tools/readme.py

Three kinds of blocks are written anew, each from the reference of its name and from nothing else:

    <!-- quick:table -->   ... <!-- /quick:table -->     what each column asks, with an example; then the figures
    <!-- quick:figures --> ... <!-- /quick:figures -->   means and intervals of the rows, and the levels of each column
    <!-- quick:parts chain; accuracy/hops2 = two hops; test/ood_near accuracy = longer --> ... <!-- /quick:parts -->
                                                         one task: metrics of test/id or another split, each a column.
                                                         The metric `ngram`: what counting scores on a row's text

NAME is a table in conf/table with its reference in results/reference/NAME, or in the folder of a table whose runs it
shares. Without a reference the block says so. `--check` writes nothing and exits with 1 if a page would change.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from experiments.planning.hydra_config import composed, composer, plain
from experiments.planning.instantiate import build_task
from experiments.planning.levels import PART, ngram
from experiments.planning.plan import Plan
from experiments.planning.table_plans import reference_of
from experiments.reporting.table import build
from experiments.store.store import Store

ROOT = Path(__file__).resolve().parent.parent
REFERENCES = ROOT / "results" / "reference"
BLOCK = re.compile(r"(<!-- (\w+):(table|figures|parts)([^\n>]*) -->\n).*?(<!-- /\2:\3 -->)", flags=re.DOTALL)

# What a column asks, for a reader who has never seen the task, with an example; other tasks show their card's summary.
ASKS = {
    "pydocs": ("The next byte of English prose, Python's help texts.", '`The "assert" stateme` → `n`'),
    "pycode": ("The next byte of Python source code.", "`def area(self): retu` → `r`"),
    "chain": (
        "Follow relations through facts in random order.",
        "`r1 a b; r0 b c`, ask `r0 r1 a`: r0 of r1 of a → `c`",
    ),
    "cogs_like": (
        "Translate a sentence into its logical form, all of it right.",
        "`a mat ran` → `run agent mat`",
    ),
    "listops": ("Compute a nested expression over digits.", "`[MAX 2 [MIN 7 4 ] 1 ]` → `4`"),
    "mqar": ("Recall the value that was paired with a key.", "`k3 v8; k5 v1`, ask `k5` → `v1`"),
    "table_qa": ("Look up, count or join cells of a small table.", "`r1 c0 v4; r2 c0 v7`, ask `r2 c0` → `v7`"),
    "reachability": ("Is there a directed path between two nodes?", "`a b; b c`, ask `a c` → `yes`"),
    "scan_like": ("Translate a command into a sequence of actions.", "`turn left twice` → `LEFT LEFT`"),
}
NOT_RUN = "No figures yet: the reference of `{name}` has not been run. `make reproduce-table` prints yours."
# What a row is, where its name does not say it.
ROWS = {
    "transformer_rope": "vanilla Transformer, rotary positions",
    "transformer_conv": "the control: a convolution over 4 tokens",
    "reformer": "Reformer, LSH attention",
    "ressformer_neutral": "without the starts that are ours",
}


def filled(text: str, references: Path = REFERENCES) -> str:
    """The page with each of its blocks written anew."""

    def block(found: re.Match[str]) -> str:
        _, name, kind, words, end = found.groups()
        head = [*asks(name, references), ""] if kind == "table" else []
        body = parts(name, words, references) if kind == "parts" else figures(name, references)
        return "\n".join([found[1].rstrip(), *head, *body, end])

    return BLOCK.sub(block, text)


def asks(name: str, references: Path) -> Iterator[str]:
    """A Markdown row per column of a table: the task, its question, an example."""
    found = reference(name, references)
    if found is None:
        tasks = yaml.safe_load((ROOT / "conf" / "table" / f"{name}.yaml").read_text())["tasks"]
    else:
        tasks = list(dict.fromkeys(found[0]["task"]))
    yield from ("| column | what it asks | example |", "|---|---|---|")
    for task in tasks:
        what, example = ASKS.get(task) or (_summary(task), "")
        yield f"| `{task}` | {what} | {example} |"


def _summary(task: str) -> str:
    with composer():
        return f"{build_task(plain(composed([f'task={task}']))['task'], []).describe().summary}."


def cells_of(name: str, references: Path) -> tuple[Plan, pd.DataFrame, str] | None:
    """The plan of a reference, its cells (a row per model, task, split and metric), its folder; None: there is none."""
    found = reference_of(name, references)
    return found and (found[0], build(found[0], Store(found[1], write=False)).cells, found[1].name)


def reference(name: str, references: Path) -> tuple[pd.DataFrame, dict[str, list[float]], str] | None:
    """The cells of a reference, per text the level of each row, its folder; None where there is no reference.

    Cells are a row per model and task: primary metric, test/id.
    """
    found = cells_of(name, references)
    if found is None:
        return None
    plan, frame, folder = found
    levels = {task: list(own_ngrams(plan, task).values()) for task in dict.fromkeys(frame["task"])}
    return frame[frame["primary"] & (frame["split"] == "test/id")], levels, folder


def own_ngrams(plan: Plan, task: str) -> dict[str, float]:
    """Per row the score on test/id of the best n-gram that has counted as many bytes as the row reads; text only."""
    found = {}
    for spec in plan.runs:
        rule = ngram(spec.task_info, "test/id", spec.task_info.metric) if spec.task == task else None
        if rule is not None and PART in rule.name:
            found[spec.model] = rule.value
    return found


def figures(name: str, references: Path) -> Iterator[str]:
    """The rows of a table as Markdown, then the levels of each column and how the figures were made."""
    found = reference(name, references)
    if found is None:
        yield NOT_RUN.format(name=name)
        return
    frame, read, folder = found
    columns = {task: rows.iloc[0] for task, rows in frame.groupby("task", sort=False)}
    heads = [f"{task}, {row['metric'].replace('_', ' ')} {_arrow(row)}" for task, row in columns.items()]
    yield f"| | {' | '.join(heads)} |"
    yield f"|---|{'---:|' * len(heads)}"
    for model, rows in frame.groupby("model", sort=False):
        cells = rows.set_index("task").to_dict("index")
        yield f"| {_label(model)} | {' | '.join(_figure(cells.get(task)) for task in columns)} |"
    yield f"| *chance* | {' | '.join(_number(row['chance']) for row in columns.values())} |"
    rules = (f"{_number(row['best_rule_value'])} ({row['best_rule']})" for row in columns.values())
    yield f"| *best simple rule or n-gram* | {' | '.join(rules)} |"
    if any(read.values()):
        yield f"| *n-grams of the bytes a row reads* | {' | '.join(_span(read[task]) for task in columns)} |"
    yield from _foot(folder, frame, bold="bold" if frame["best"].any() else "")


def parts(name: str, words: str, references: Path) -> Iterator[str]:
    """The rows of a table in several metrics of one task, under the headings of its groups, then the levels of each.

    Args:
        name: the table.
        words: `TASK; [SPLIT] METRIC = HEAD; ...`; test/id where no split is named. The metric `ngram` stands last.
        references: the folder of the references.
    """
    found = cells_of(name, references)
    if found is None:
        yield NOT_RUN.format(name=name)
        return
    plan, frame, folder = found
    task, *asked = (each.strip() for each in words.split(";"))
    frame = frame[frame["task"] == task]
    heads = {head.strip(): what.split() for what, _, head in (each.partition("=") for each in asked)}
    own = {head: own_ngrams(plan, task) for head, what in heads.items() if what == ["ngram"]}
    columns = {
        head: frame[(frame["metric"] == what[-1]) & (frame["split"] == (what[0] if what[1:] else "test/id"))]
        for head, what in heads.items()
        if head not in own
    }
    shown = [*(f"{head} {_arrow(rows.iloc[0])}" for head, rows in columns.items()), *own]
    yield f"| | {' | '.join(shown)} |"
    yield f"|---|{'---:|' * len(shown)}"
    by_model = {head: rows.set_index("model").to_dict("index") for head, rows in columns.items()}
    for group, members in (plan.table.groups or {"": list(dict.fromkeys(frame["model"]))}).items():
        yield from [f"| *{group}* |{' |' * len(shown)}"] if group else []
        for model in members:
            cells = [_figure(rows.get(model)) for rows in by_model.values()]
            cells += [_number(levels.get(model)) for levels in own.values()]
            yield f"| {_label(model)} | {' | '.join(cells)} |"
    firsts = [rows.iloc[0] for rows in columns.values()]
    rest = " |" * len(own)
    yield f"| *chance* | {' | '.join(_number(row['chance']) for row in firsts)} |{rest}"
    rules = [f"{_number(row['best_rule_value'])} ({row['best_rule']})" for row in firsts]
    yield f"| *best simple rule* | {' | '.join('' if rule.startswith(' ') else rule for rule in rules)} |{rest}"
    if frame["perfect_reader"].notna().any():
        yield f"| *perfect reader* | {' | '.join(_number(row['perfect_reader']) for row in firsts)} |{rest}"
    judged = [head for head, rows in columns.items() if rows["best"].any()]
    bold = f"bold (judged for {' and '.join(judged)} alone)" if len(columns) > 1 else "bold"
    yield from _foot(folder, frame, bold=bold if judged else "")


def _label(model: str) -> str:
    return f"`{model}`" + (f" ({ROWS[model]})" if model in ROWS else "")


def _foot(folder: str, frame: pd.DataFrame, *, bold: str) -> Iterator[str]:
    """The line below a block; `bold` is how it begins to explain bold figures, empty where there are none."""
    seeds = "/".join(str(n) for n in sorted(set(frame["n_launched"])))
    yield ""
    marked = " `!`: off budget." * (not frame["on_budget"].all())
    word = f"; {bold}: significantly better than every other model" if bold else ""
    yield f"Test, mean ± 95 % interval, {seeds} seeds{word}.{marked} From `results/reference/{folder}`."


def _arrow(row: pd.Series) -> str:
    return "↑" if row["higher_is_better"] else "↓"


def _figure(row: dict[str, object] | None) -> str:
    if row is None or pd.isna(row["mean"]):
        return ""
    text = _number(row["mean"])
    if not pd.isna(row["low"]):
        text += f" ± {_number((row['high'] - row['low']) / 2)}"
    text += "" if row["on_budget"] else " !"
    return f"**{text}**" if row["best"] else text


def _span(values: list[float]) -> str:
    """The levels of rows that read different amounts: the least and the largest."""
    ends = dict.fromkeys(_number(value) for value in (min(values), max(values))) if values else {}
    return " to ".join(ends)


def _number(value: float | None) -> str:
    return "" if value is None or pd.isna(value) else f"{value:.3f}"


def main() -> int:
    """Write the pages, or say which would change."""
    changed = 0
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text()
        if (new := filled(text)) != text:
            changed += 1
            print(page.relative_to(ROOT))
            if "--check" not in sys.argv[1:]:
                page.write_text(new)
    return int("--check" in sys.argv[1:] and changed > 0)


if __name__ == "__main__":
    sys.exit(main())
