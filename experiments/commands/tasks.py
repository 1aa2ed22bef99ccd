"""List, show or check the tasks, those of other packages included.

    python -m experiments tasks list
    python -m experiments tasks show chain facts_max=6
    python -m experiments tasks check chain mqar --items 1000
    python -m experiments tasks pack-text pycode --to pycode.jsonl.gz
    python -m experiments tasks show mine 'allow_targets=[mine]' 'hydra.searchpath=[file://conf_of_mine]'

show prints the card with measured levels and item 0 of each split. check draws items with a seed of its own and counts
how often the task's second method agrees with the labels; it exits with 1 if not always. table prints the generated
tasks as Markdown, sizes how many different items their splits have. pack-text writes the text of pycode into one file,
which a machine with other packages reads with task.path=FILE.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser, whole_number
from experiments.errors import UserError, unknown
from experiments.studies import task_cards


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.takes("list|show|check|table|sizes|pack-text", "What to do.")
    parser.takes(
        "[TASK ...]",
        "Names in conf/task: one for show and pack-text, any for check and sizes (default: all generated ones).",
        most=99,
    )
    parser.option(
        "--items", "Items to check per task (default: 10000).", metavar="N", type=whole_number(1), default=10000
    )
    parser.option("--to", "pack-text: the file to write, NAME.jsonl.gz.", word="to", metavar="FILE", default="")
    parser.takes_overrides(
        "show, check, sizes: keys of the task. Tasks of your own: hydra.searchpath=[file://FOLDER] is where "
        "task/NAME.yaml lies, allow_targets=[PACKAGE] lets its class be loaded."
    )


def run(given: Given) -> int:
    """Do what the first word says; 1 if a check fails."""

    action, *names = given.names or [""]
    if action == "pack-text":
        return task_cards.pack_text(names, given.overrides, given.to)
    if given.to:
        raise UserError("--to belongs to tasks pack-text")
    if action not in task_cards.ACTIONS:
        raise UserError(unknown("action of tasks", action, [*task_cards.ACTIONS, "pack-text"]))
    return task_cards.ACTIONS[action](names, given.overrides, given.items)
