"""Two encodings of a set of facts: a sequence of words, or an unordered set of one token per fact.

    sequence    EDGE u v  EDGE v w  ASK u w       a marker, then a token per argument; order carries the structure
    set         <edge u v>  <edge v w>  <ask u w>  one token per fact: a bag of tokens loses nothing

The set is what a model without positions needs to read facts at all: as a bag of words, "EDGE u v" and "EDGE v u"
are the same. Its vocabulary grows with the product of the argument ranges, so it is meant for small ranges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

Fact = tuple[str, tuple[int, ...]]  # kind, arguments

LARGEST = 32_768  # tokens in a vocabulary


class Codec:
    """Tokens of facts. 0 pads. The tokens of the alphabets stand in both encodings: they are the answers.

    Args:
        alphabets: name -> number of its symbols.
        kinds: kind of fact -> the alphabets of its arguments.
        order_free: one token per fact.

    Raises ValueError when the vocabulary would have more than LARGEST tokens.
    """

    def __init__(self, alphabets: Mapping[str, int], kinds: Mapping[str, Sequence[str]], order_free: bool) -> None:
        self.alphabets, self.kinds, self.order_free = dict(alphabets), dict(kinds), order_free
        self.first: dict[str, int] = {}
        self.kind_first: dict[str, int] = {}
        self._radix = {kind: [self.alphabets[name] for name in names] for kind, names in self.kinds.items()}
        size = 1
        for name, count in self.alphabets.items():
            self.first[name] = size
            size += count
        self._firsts = {kind: [self.first[name] for name in names] for kind, names in self.kinds.items()}
        for kind in self.kinds:
            self.kind_first[kind] = size
            size += math.prod(self._radix[kind]) if order_free else 1
        self.size = size
        if size > LARGEST:
            raise ValueError(
                f"order_free=true needs {size} tokens, one per possible fact, and {LARGEST} is the most: "
                "use fewer names, relations or values"
            )

    def token(self, alphabet: str, symbol: int) -> int:
        """The token of a symbol."""
        return self.first[alphabet] + symbol

    def word(self, token: int, symbol: Callable[[str, int], str]) -> str:
        """A token for a reader: a symbol as `symbol(alphabet, index)` spells it, or the mark of a fact; of a set, all.

        No two tokens have one word: alphabets with one initial are written out. Nothing for what pads.
        """
        initials = [name[0] for name in self.alphabets]

        def spelled(name: str, index: int) -> str:
            short = symbol(name, index)
            return f"{name}{index}" if short == f"{name[0]}{index}" and initials.count(name[0]) > 1 else short

        for name, first in self.first.items():
            if first <= token < first + self.alphabets[name]:
                return spelled(name, token - first)
        if not 0 < token < self.size:
            return ""
        if not self.order_free:
            return self._kind(token)
        kind, arguments = self.read([token])[0]
        return ":".join([kind, *(spelled(n, a) for n, a in zip(self.kinds[kind], arguments, strict=True))])

    def width(self, kind: str) -> int:
        """Tokens per fact of a kind."""
        return 1 if self.order_free else 1 + len(self.kinds[kind])

    def write(self, facts: Iterable[Fact]) -> list[int]:
        """Tokens of facts in the order given."""
        tokens: list[int] = []
        for kind, arguments in facts:
            if self.order_free:
                code = 0
                for radix, argument in zip(self._radix[kind], arguments, strict=True):
                    code = code * radix + argument
                tokens.append(self.kind_first[kind] + code)
            else:
                tokens.append(self.kind_first[kind])
                tokens += [first + argument for first, argument in zip(self._firsts[kind], arguments, strict=True)]
        return tokens

    def read(self, tokens: Sequence[int]) -> list[Fact]:
        """Facts from tokens. Raises ValueError where a fact is cut off or a token has no place."""
        facts: list[Fact] = []
        place = 0
        while place < len(tokens):
            kind = self._kind(int(tokens[place]))
            if self.order_free:
                code, arguments = int(tokens[place]) - self.kind_first[kind], []
                for radix in reversed(self._radix[kind]):
                    code, symbol = divmod(code, radix)
                    arguments.append(symbol)
                arguments.reverse()
            else:
                words = tokens[place + 1 : place + self.width(kind)]
                arguments = [int(word) - self.first[name] for word, name in zip(words, self.kinds[kind], strict=True)]
            facts.append((kind, tuple(arguments)))
            place += self.width(kind)
        return facts

    def _kind(self, token: int) -> str:
        found = [kind for kind, first in self.kind_first.items() if first <= token]
        if not found or token >= self.size:
            raise ValueError(f"token {token} begins no fact")
        return found[-1]

    def legible(self, facts: Sequence[Fact], tokens: Sequence[int], asked: Collection[str]) -> list[Fact]:
        """The facts that can still be read where `facts` stood before noise; `asked` are kinds that are no facts."""
        kinds = [name for name in self.kinds if name not in asked]
        found, place = [], 0
        for kind, _ in facts:
            width = self.width(kind)
            piece = list(tokens[place : place + width])
            place += width
            if self.order_free:
                found += [fact for fact in self.read(piece) if fact[0] in kinds]
                continue
            fits = [name for name in kinds if self.width(name) == width]
            name = next((name for name in fits if self.kind_first[name] == piece[0]), None)
            name = fits[0] if len(fits) == 1 else name  # what must be of this kind needs no mark of it
            if name is None:
                continue
            names = self.kinds[name]
            symbols = [token - self.first[alphabet] for token, alphabet in zip(piece[1:], names, strict=True)]
            if all(0 <= symbol < self.alphabets[alphabet] for symbol, alphabet in zip(symbols, names, strict=True)):
                found.append((name, tuple(symbols)))
        return found
