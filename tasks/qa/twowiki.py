"""2WikiMultihopQA (Ho et al., arXiv 2011.01060), in the layout of HotpotQA, with its evidence triples.

There is no official copy on the hub, and mirrors differ: bring a folder with train and validation (dev) in the original
JSON, or in the hub's HotpotQA columns.
"""

from __future__ import annotations

from dataclasses import dataclass

from tasks.hub.passages import PassagesConfig
from tasks.hub.source import Source
from tasks.qa.hotpotqa import HotpotQA, looks_of


@dataclass(frozen=True, kw_only=True)
class TwoWikiConfig(PassagesConfig):
    """See `PassagesConfig`."""


class TwoWiki(HotpotQA):
    """The task `qa/twowiki`, see the module. Keyword arguments: the fields of `TwoWikiConfig`."""

    name = "twowiki"
    Config = TwoWikiConfig
    source = Source(
        hub="",
        folder="2wikimultihopqa",
        columns=HotpotQA.source.columns,
        splits=("train", "validation"),
        home="https://github.com/Alab-NII/2wikimultihop",
        stand_in="chain",
        nested=HotpotQA.source.nested,
        looks=looks_of("2WikiMultihopQA", ("compositional", "comparison", "bridge_comparison", "inference")),
    )
    subsets = ()
    about = HotpotQA.about | {
        "summary": "Write the answer to a question over Wikipedia passages, two to four needed: 2WikiMultihopQA",
        "licence": "Apache-2.0; the passages are Wikipedia text, CC BY-SA",
        "citation": "Ho et al., 2WikiMultihopQA, arXiv 2011.01060",
    }
