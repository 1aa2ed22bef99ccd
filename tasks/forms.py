"""What two items that differ in names only have in common: their form.

A class of words may be exchanged for each other anywhere in an item; a word is the tokens that stand for it, such as an
opening and a closing bracket. Numbered by first mention, all namings of an item become the same text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Classes = Sequence[Sequence[tuple[int, ...]]]


class FirstMention:
    """Numbers words by first mention, each class by itself; tokens of no class stay what they are."""

    def __init__(self, classes: Classes) -> None:
        self._word_of = {
            token: (kind, word, slot)
            for kind, words in enumerate(classes)
            for word, tokens in enumerate(words)
            for slot, token in enumerate(tokens)
        }

    def form(self, tokens: Iterable[int]) -> str:
        """The same text for two sequences if, and only if, a renaming turns one into the other."""
        seen: dict[tuple[int, int], int] = {}
        counts: dict[int, int] = {}
        out: list[str] = []
        for token in tokens:
            found = self._word_of.get(token)
            if found is None:
                out.append(str(token))
                continue
            kind, word, slot = found
            if (kind, word) not in seen:
                seen[kind, word] = counts[kind] = counts.get(kind, -1) + 1
            out.append(f"{chr(97 + kind)}{seen[kind, word]}.{slot}")
        return " ".join(out)
