"""How long a launch still takes: by the FLOPs that are left and the pace of the runs that are at work here.

A run is a start (imports, data, weights), FLOPs of training with validation, and FLOPs of the tests. The pace is that
of one run beside the others, so cores that are shared are in it. Models differ in FLOPs per second: each has its own
pace as soon as one of its runs has moved, and until then that of all.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from experiments.store.records import RunSpec
from experiments.store.store import Progress

ENOUGH = 1.0  # seconds of work, in which a heartbeat comes at least once


def work(spec: RunSpec) -> tuple[float, float]:
    """FLOPs of training with its validations, and of the tests after it."""
    cost, sizes = spec.cost, spec.task_info.sizes
    each = cost.flops_eval or cost.flops_forward
    validations = math.ceil(spec.steps / max(1, int(spec.config["trainer"].get("val_every", 100))))
    items = {split: size.items for split, size in sizes.items()}
    tests = sum(count for split, count in items.items() if split != "validation")
    return cost.flops_train + validations * items.get("validation", 0) * each, tests * each


@dataclass
class Seen:
    """One run at work, as far as it was watched."""

    spec: RunSpec
    began: float
    last: float  # when it was looked at
    start: float | None = None  # seconds until its first step, where that was watched
    done: float | None = None  # FLOPs at the last look
    at_first: float = 0.0
    seconds: float = 0.0  # at work from its first heartbeat to its last step
    since: float = 0.0  # seconds since that step

    @property
    def flops(self) -> float:
        """Done while it was watched."""
        return 0.0 if self.done is None else self.done - self.at_first


class TimeLeft:
    """What is left of the runs of a launch, from looks at them; all times are of one clock, in seconds."""

    def __init__(self, runs: Iterable[RunSpec], known: Mapping[str, float] | None = None, at_a_time: int = 1) -> None:
        """
        Args:
            runs: each once.
            known: seconds of a run by id, from records or timings of before; used until there is a pace.
            at_a_time: runs that are at work together; the most that were seen, if those are more.
        """
        self._runs = {spec.id: spec for spec in runs}
        self._work = {spec.id: work(spec) for spec in self._runs.values()}
        self._known, self._at_a_time = dict(known or {}), at_a_time
        self._seen: dict[str, Seen] = {}
        self._over: set[str] = set()
        self._before: set[str] = set()  # at work when it was looked last

    def look(self, now: float, over: Iterable[str], working: Mapping[str, Progress | None]) -> None:
        """Note which runs are over and how far those at work are; None is a run without a heartbeat yet."""
        self._at_a_time = max(self._at_a_time, len(working))
        for run, progress in working.items():
            seen = self._seen.setdefault(run, Seen(self._runs[run], now, now))
            if run not in self._before:  # it was away meanwhile
                seen.last = now
            if progress is not None:
                self._move(seen, now, progress)
            seen.last = now
        for run in set(over) - self._over:
            ended = self._seen.get(run)
            if ended is not None and ended.done is not None:
                ended.seconds += ended.since + now - ended.last
                ended.done = sum(self._work[run])
        self._over |= set(over)
        self._before = set(working)

    def _move(self, seen: Seen, now: float, progress: Progress) -> None:
        done = self._work[seen.spec.id][0] * progress.step / max(1, progress.total)
        if seen.done is None:
            seen.done = seen.at_first = done
            return
        if seen.start is None and seen.at_first == 0.0 and done > 0:
            seen.start = seen.last - seen.began
        seen.since += now - seen.last
        if done > seen.done:
            seen.seconds, seen.since, seen.done = seen.seconds + seen.since, 0.0, done

    def share(self) -> float:
        """Of all FLOPs, those that are done."""
        total = sum(map(sum, self._work.values()))
        done = sum(sum(self._work[run]) for run in self._over if run in self._work)
        done += sum(seen.done or 0.0 for run, seen in self._seen.items() if run not in self._over)
        return done / total if total else 1.0

    def seconds(self) -> float | None:
        """Until all is done; None while nothing is known."""
        paces, start = self._paces(), self._start()
        left = []
        for run, spec in self._runs.items():
            if run not in self._over:
                seconds = self._of(run, spec, paces, start)
                if seconds is None:
                    return None
                left.append(seconds)
        workers = max(1, min(self._at_a_time, len(left)))
        # The longest go first, so that the end is ragged by one run at most.
        return max(sum(left) / workers, max(left, default=0.0))

    def _of(self, run: str, spec: RunSpec, paces: Mapping[str, float], start: float) -> float | None:
        seen = self._seen.get(run)
        done = seen.done or 0.0 if seen is not None else 0.0
        pace = paces.get(spec.model) or (None if run in self._known else paces.get(""))
        if pace:
            rest = (sum(self._work[run]) - done) / pace
            return start + rest if seen is None or seen.done is None else max(0.0, rest - seen.since)
        if run in self._known:
            return self._known[run] * (1 - done / sum(self._work[run]))
        return None

    def _paces(self) -> dict[str, float]:
        """FLOPs per second of a run, by model; of all under the empty name."""
        flops: dict[str, float] = {}
        seconds: dict[str, float] = {}
        for seen in self._seen.values():
            for name in (seen.spec.model, ""):
                flops[name] = flops.get(name, 0.0) + seen.flops
                seconds[name] = seconds.get(name, 0.0) + seen.seconds
        return {name: flops[name] / seconds[name] for name in flops if seconds[name] >= ENOUGH and flops[name] > 0}

    def _start(self) -> float:
        starts = [seen.start for seen in self._seen.values() if seen.start is not None]
        return statistics.median(starts) if starts else 0.0


def in_words(seconds: float | None) -> str:
    """`4 s`, `3 min 20 s`, `2 h 05 min`, `3 d 4 h` left, or that nobody knows."""
    if seconds is None:
        return "time left not known yet"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s left"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s left"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min left"
    return f"{whole // 86400} d {whole % 86400 // 3600} h left"
