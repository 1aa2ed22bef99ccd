"""Groups of documents that repeat each other, so that splits can be dealt without a text standing in two of them.

Two documents are near-duplicates if they are the same, or share SHARED runs of RUN lines, or a tenth of the smaller
one's runs (but FEWEST at least, or all that it has). Lines are compared without their indents and blank ones are left
out; a run of fewer than LONG characters is a commonplace, and so is one that stands in more than COMMON documents, such
as the head of a licence. Groups are the connected parts, so that a chain of copies stays together.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import combinations

RUN = 4
LONG = 100
SHARED = 20
SHARE = 0.1
FEWEST = 4
COMMON = 100


def runs_of(text: str) -> Iterator[bytes]:
    """Hashes of the runs of lines that are long enough."""
    lines = [words for line in text.split("\n") if (words := " ".join(line.split()))]
    for start in range(len(lines) - RUN + 1):
        run = "\n".join(lines[start : start + RUN])
        if len(run) >= LONG:
            yield hashlib.blake2b(run.encode(), digest_size=8).digest()


def near_duplicates(documents: Mapping[str, str]) -> list[list[str]]:
    """Names of documents in groups, each sorted, the groups in the order of their first names."""
    runs = {name: set(runs_of(documents[name])) for name in sorted(documents)}
    holders: dict[bytes, list[str]] = defaultdict(list)
    for name, found in runs.items():
        for run in found:
            holders[run].append(name)
    shared = Counter(pair for names in holders.values() if len(names) <= COMMON for pair in combinations(names, 2))
    first: dict[str, str] = {}
    pairs = [(first.setdefault(documents[name], name), name) for name in runs]
    pairs += [pair for pair, count in shared.items() if count >= _least(*(len(runs[name]) for name in pair))]
    group = {name: [name] for name in runs}
    for one, other in pairs:
        if group[one] is not group[other]:
            group[one] += group[other]
            for member in group[other]:
                group[member] = group[one]
    return sorted({id(names): sorted(names) for names in group.values()}.values())


def _least(one: int, other: int) -> float:
    """Shared runs from which documents with so many different ones are near-duplicates."""
    smaller = min(one, other)
    return min(SHARED, max(min(FEWEST, smaller), SHARE * smaller))
