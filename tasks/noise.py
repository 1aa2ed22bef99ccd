"""What a perfect reader of a noised context scores: the ceiling of the noise probes.

Noise replaces tokens of the facts, while the answers stay those of the clean item. The reader knows where each fact
stands and what could stand there. On `chain` it weighs every token by the chance that noise has put it there
(`walk_reader`). On other tasks it drops facts that noise has made unreadable, believes the others, draws where they
give several answers, and guesses the commonest answer where they give none.

F facts, V words, R relations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from tasks.facts import FactTask
from tasks.item import Ints, Item
from tasks.shortcuts import Floats, hits

SURE = 1 - 1e-12  # odds stay finite


@runtime_checkable
class ReadsNoise(Protocol):
    """A task that reads its noised items itself."""

    def read_noised(self, clean: Item, noised: Item) -> Floats:
        """Expected hits [scored positions] of the reader."""
        ...


def perfect_reader(task: object, clean: Item, noised: Item) -> Floats | None:
    """Expected hits [scored positions] of the reader on a noised item; None where the task has no facts to read."""
    if isinstance(task, ReadsNoise):
        return task.read_noised(clean, noised)
    if not isinstance(task, FactTask):
        return None
    facts, questions = task.parts(clean)
    left = task.legible(facts, noised.input_ids[: task.space(facts)].tolist())
    found = []
    guesses = np.broadcast_to(task.all_rules["majority"](noised), len(questions))
    for (kind, arguments, place), guess in zip(questions, guesses, strict=True):
        options = task.options(left, (kind, arguments))
        answer = int(clean.labels[place]) - task.codec.first[task.answers[kind]]
        found.append(options.count(answer) / len(options) if options else float(guess))
    return hits(found)


def walk_reader(clean_F3: Ints, seen_F3: Ints, paths: Sequence[Sequence[int]], answers: Ints) -> Floats:
    """Hits [questions] of a reader who follows relations through noised facts (relation, head, tail).

    For a place that shows t, the word c stood there with weight (1 - q) if t = c, else q f(t) / (1 - f(c)): q is the
    share of words that changed, which the reader is told, f their shares. A fact is about (relation, head) with
    probability B, and one fact is: so the i-th is with weight B_i / (1 - B_i), exact for facts that are independent
    of one another. The answer is the word of the largest weight; equal ones share.

    Args:
        clean_F3: the facts before noise; only how many words changed is used.
        seen_F3: the facts as they are seen.
        paths: of each question its start, then the relations in the order they are followed.
        answers: the right words.
    """
    changed = float(np.mean(clean_F3 != seen_F3))
    asked = {word for path in paths for word in path[1:]}
    relations = np.array(sorted(asked | set(clean_F3[:, 0].tolist())))
    entities = np.setdiff1d(np.unique([*seen_F3.reshape(-1), *(path[0] for path in paths)]), relations)
    shares = {word: float(np.mean(seen_F3 == word)) for word in [*relations.tolist(), *entities.tolist()]}
    relation_FR, head_FE, tail_FE = (
        _posterior(seen_F3[:, column], words, shares, changed)
        for column, words in enumerate((relations, entities, entities))
    )
    steps = {}
    for number, relation in enumerate(relations.tolist()):
        belief_FE = np.minimum(relation_FR[:, number, None] * head_FE, SURE)
        odds_FE = belief_FE / (1 - belief_FE)
        which_FE = odds_FE / np.maximum(odds_FE.sum(0), 1e-300)
        value_FEE = np.repeat(tail_FE[:, None], len(entities), axis=1)  # given the head, which is no value of itself
        value_FEE[:, range(len(entities)), range(len(entities))] = 0
        value_FEE /= np.maximum(value_FEE.sum(2, keepdims=True), 1e-300)
        steps[relation] = np.einsum("fe,fev->ev", which_FE, value_FEE)
    found = []
    for (start, *path), answer in zip(paths, answers.tolist(), strict=True):
        reached_E = (entities == start).astype(np.float64)
        for relation in path:
            reached_E = reached_E @ steps[relation]
        best_E = np.isclose(reached_E, reached_E.max(), rtol=1e-9, atol=0) & (reached_E > 0)
        found.append(float(best_E[entities == answer].any()) / max(1, int(best_E.sum())))
    return hits(found)


def _posterior(seen_F: Ints, words_W: Ints, shares: dict[int, float], changed: float) -> Floats:
    """For each place the probability [F, W] that each of `words_W` stood there before noise."""
    share_W = np.array([shares[word] for word in words_W.tolist()])
    prior_W = (share_W + 1e-3) / (share_W + 1e-3).sum()
    other_FW = np.array([[shares[word]] for word in seen_F.tolist()]) * changed / np.maximum(1 - share_W, 1e-9)
    weight_FW = prior_W * np.where(seen_F[:, None] == words_W, 1 - changed, other_FW)
    total_F1 = weight_FW.sum(1, keepdims=True)
    return np.asarray(np.where(total_F1 > 0, weight_FW / np.maximum(total_F1, 1e-300), prior_W))
