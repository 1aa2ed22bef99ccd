"""Have the model of a finished run continue a prompt, or answer an item of its task.

    python -m experiments sample run=r0123456789abcde prompt='The for statement'
    python -m experiments sample run=r0123456789abcde prompt='The for statement' temperature=0.8 seed=1 tokens=300
    python -m experiments sample run=r0123456789abcde item=0

Text is continued character by character; of the other tasks a prompt is words, as item=0 shows them. The run must
have kept its checkpoint (trainer.keep_checkpoint=true). The same seed gives the same text. Writes nothing.
"""

from __future__ import annotations

from experiments.commands.parser import Given, Parser, number_above_zero, whole_number
from experiments.errors import UserError
from experiments.planning.hydra_config import values_of
from experiments.store.store import Store
from experiments.studies.kept_run import Asked, sample_run
from experiments.studies.named_plan import results_there


def add_arguments(parser: Parser) -> None:
    """What the verb takes."""
    parser.key("run", "ID", "The run, or the first digits of its id.")
    parser.option("--prompt", "What the model reads first.", word="prompt", metavar="TEXT")
    parser.option("--item", "Item N of test/id instead of a prompt.", word="item", metavar="N", type=whole_number(0))
    parser.option(
        "--tokens",
        "Tokens to write at most (default: 200 of text, else one answer).",
        word="tokens",
        metavar="N",
        type=whole_number(1),
    )
    parser.option(
        "--temperature",
        "Draw from the softmax of logits / T (default: take the most probable token).",
        word="temperature",
        metavar="T",
        type=number_above_zero("0.8"),
        default=0.0,
    )
    parser.option(
        "--seed", "Seed of the draws (default: 0).", word="seed", metavar="N", type=whole_number(0), default=0
    )
    parser.results_dir()


def run(given: Given) -> int:
    """Print what the model writes."""
    runs = values_of("run", given.overrides)
    if len(runs) != 1 or (given.prompt is None) == (given.item is None):
        raise UserError("sample takes a run and either a prompt or an item: run=ID prompt=TEXT, or run=ID item=0")
    asked = Asked(
        prompt=given.prompt or "",
        item=given.item,
        tokens=given.tokens,
        temperature=given.temperature,
        seed=given.seed,
    )
    return sample_run(Store(results_there(given.overrides), write=False), runs[0], asked)
