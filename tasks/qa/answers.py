"""How answers are compared: the normalisation, exact match and F1 of SQuAD, and HotpotQA's and MuSiQue's use of them.

Sources: Rajpurkar et al., arXiv 1606.05250 (normalisation, F1); Yang et al., arXiv 1809.09600 (yes and no, supporting
facts, joint scores); Trivedi et al., arXiv 2108.00573 (aliases).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Collection, Iterable

CLOSED_ANSWERS = ("yes", "no", "noanswer")  # share no token with another answer, as HotpotQA counts
Fact = tuple[str, int]  # title of a passage, number of a sentence in it


def normalize(answer: str) -> str:
    """Lower case, without ASCII punctuation and the articles a, an, the, blanks single."""
    bare = "".join(char for char in answer.lower() if char not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def exact_match(answer: str, golds: Iterable[str]) -> float:
    """1 if the answer equals one of the golds after normalisation, else 0."""
    return float(any(normalize(answer) == normalize(gold) for gold in golds))


def f1(answer: str, golds: Iterable[str], closed: bool = True) -> float:
    """The best F1 of the answer's normalised tokens, as bags, with one of the golds.

    closed: yes, no and noanswer match only themselves (HotpotQA, 2WikiMultihopQA; not SQuAD, MuSiQue).
    """
    return max((_f1(normalize(answer), normalize(gold), closed) for gold in golds), default=0.0)


def _f1(answer: str, gold: str, closed: bool) -> float:
    if closed and answer != gold and (answer in CLOSED_ANSWERS or gold in CLOSED_ANSWERS):
        return 0.0
    said, wanted = answer.split(), gold.split()
    if not said or not wanted:
        # Only an empty answer matches an empty gold.
        return float(said == wanted and not closed)
    return harmonic(sum((Counter(said) & Counter(wanted)).values()), len(said), len(wanted))


def harmonic(common: int, said: int, wanted: int) -> float:
    """F1 of `common` hits among `said` and `wanted` things; 0 where there is no hit."""
    return 2 * common / (said + wanted) if common else 0.0


def supporting_facts(said: Collection[Fact], golds: Collection[Fact]) -> dict[str, float]:
    """sp_em, sp_f1, sp_precision, sp_recall of a set of facts, as in HotpotQA's evaluation."""
    one, other = set(said), set(golds)
    common = len(one & other)
    return {
        "sp_em": float(one == other),
        "sp_f1": harmonic(common, len(one), len(other)),
        "sp_precision": common / len(one) if one else 0.0,
        "sp_recall": common / len(other) if other else 0.0,
    }


def joint(answer: str, gold: str, said: Collection[Fact], golds: Collection[Fact]) -> dict[str, float]:
    """joint_em and joint_f1: products of precision and recall of answer and facts (arXiv 1809.09600, section 5.1)."""
    facts = supporting_facts(said, golds)
    precision, recall = (a * b for a, b in zip(_precision_recall(answer, gold), _pr(facts), strict=True))
    total = precision + recall
    return {
        "joint_em": exact_match(answer, [gold]) * facts["sp_em"],
        "joint_f1": 2 * precision * recall / total if total else 0.0,
    }


def _pr(facts: dict[str, float]) -> tuple[float, float]:
    return facts["sp_precision"], facts["sp_recall"]


def _precision_recall(answer: str, gold: str) -> tuple[float, float]:
    if not f1(answer, [gold]):
        return 0.0, 0.0
    said, wanted = normalize(answer).split(), normalize(gold).split()
    common = sum((Counter(said) & Counter(wanted)).values())
    return common / len(said), common / len(wanted)
