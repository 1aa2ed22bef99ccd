"""COGS (Kim and Linzen, arXiv 2010.05465), the real files: sentence to logical form.

    A rose was helped . SEP rose ( x _ 1 ) AND help . theme ( x _ 3 , x _ 1 ) END

Columns sentence, logical_form, distribution; the original files train.tsv, dev.tsv, test.tsv and gen.tsv have no
header. The generalisation part is two splits: 18 lexical cases, and the three structural ones, which are hard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.hub.examples import ExampleTask
from tasks.hub.files import DataError, Row
from tasks.hub.rows import Example, ExamplesConfig
from tasks.hub.source import Source

COLUMNS = ("sentence", "logical_form", "distribution")
STRUCTURAL = ("cp_recursion", "pp_recursion", "obj_pp_to_subj_pp")


@dataclass(frozen=True, kw_only=True)
class CogsRealConfig(ExamplesConfig):
    """See `ExamplesConfig`."""

    length: int = 192
    ood_length: int = 512


def looks(subset: str, split: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether most forms name variables as `x _ 1`, and cases of generalisation are in `gen` and only there."""
    forms = [str(row["logical_form"]) for row in rows]
    if 2 * sum("x _ " in form or "LAMBDA" in form for form in forms) < len(forms):
        return f"logical forms must have variables such as x _ 1, found {forms[0]!r:.60}"
    for row in rows:
        kind = str(row["distribution"])
        taught = kind in ("in_distribution", "primitive") or kind.startswith("exposure_example")
        if taught is (split == "gen"):
            return f"the split '{split}' cannot have the distribution {kind!r:.40}"
    return ""


class CogsReal(ExampleTask):
    """The task `structure/cogs_real`, see the module. Keyword arguments: the fields of `CogsRealConfig`."""

    name = "cogs_real"
    Config = CogsRealConfig
    source = Source(
        hub="",
        folder="cogs",
        columns=COLUMNS,
        splits=("train", "validation", "test", "gen"),
        home="https://github.com/najoungkim/COGS (folder data)",
        stand_in="listops",
        header=COLUMNS,
        looks=looks,
    )
    outside = {  # noqa: RUF012
        "test/ood_lexical": "the generalisation part: known structures with words in new roles (18 cases)",
        "test/ood_structural": "the generalisation part: deeper recursion, and modified subjects (3 cases)",
    }
    about = {  # noqa: RUF012
        "summary": "Sentence to logical form, the real COGS files",
        "family": "structure",
        "looping": "may help where recursion gets deeper (test/ood_structural)",
        "licence": "MIT",
        "citation": "Kim and Linzen, COGS, arXiv 2010.05465",
    }

    @property
    def roles(self) -> dict[str, str]:
        """See `ExampleTask.roles`."""
        return super().roles | {"test/ood_lexical": "gen"}

    def examples(self, row: Row) -> Iterator[Example]:
        """One example a row."""
        sentence, form = row.need("sentence", str), row.need("logical_form", str)
        if not sentence.split() or not form.split():
            raise DataError(f"{row.place}: sentence and logical_form must not be empty")
        structural = row.need("distribution", str) in STRUCTURAL
        yield Example(
            prompt=sentence,
            answer=form,
            key=" ".join(sentence.split()),
            place=row.place,
            part="test/ood_structural" if structural else "",
            difficulty={"form": len(form.split())},
        )
