"""Does a model cost what it declares: weights to the unit, executed FLOPs within a tolerance, operators by name.

Shapes: B batch, n length.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from ressformer.checks.operators import Operators, counting
from ressformer.checks.report import Finding, Number
from ressformer.checks.subject import Subject, build, seed_all
from ressformer.cost import Cost, Shape, model_cost
from ressformer.decoder import Decoder, ModelConfig

FLOPS_TOLERANCE = 0.005  # Closed forms leave out a product a segment or two; those of most families are exact.
SUMMED_FREE = (
    0.03  # Of the counted FLOPs: norms, gates and entmax written out multiply and sum, too (0.021 at width 32).
)
RETRIES = 16  # Sparse attention may give a part no weight at all under one set of weights.
SMALL = 3e8  # Weights times tokens of a run; more runs on the meta device, where nothing is computed.
ELEMENTWISE_FREE = 0.25  # Of the counted FLOPs, in multiplications: 0.03 is the most in a usual model.


@dataclass(frozen=True)
class Charge:
    """What a run costs, per sequence: by formula, products and sums in disguise, multiplications elementwise, scans."""

    counted: float
    disguised: float
    multiplied: float
    refused: tuple[str, ...]
    scanned: float = 0.0
    added: float = 0.0

    @property
    def band(self) -> tuple[float, float]:
        """The least and the most that a closed form may say, tolerance apart."""
        low, high = self.counted, self.counted + self.disguised
        if self.disguised > SUMMED_FREE * self.counted:
            low = high
        plain = max(0.0, self.multiplied - self.disguised / 2)
        if plain > ELEMENTWISE_FREE * self.counted:
            low, high = low + plain, high + 2 * plain
        return low, high + self.scanned

    def holds(self, declared: float, *, bound: bool, counted: bool = False) -> bool:
        """Whether the declared FLOPs are within `FLOPS_TOLERANCE` of the band; as a bound, they may be more.

        What was `counted` of the mixer alone may hold elementwise arithmetic that is a small share of the whole.
        """
        low, high = self.band
        high = (
            max(high, self.counted + self.disguised + self.multiplied + self.scanned + self.added) if counted else high
        )
        return low * (1 - FLOPS_TOLERANCE) <= declared and (bound or declared <= high * (1 + FLOPS_TOLERANCE))


def charge(model: Decoder, shape: Shape, *, train: bool, backward: bool) -> Charge:
    """Run the model once on its own device and add up what it does."""
    ids_Bn = torch.zeros(shape.batch, shape.length, dtype=torch.long, device=model.embedding.weight.device)
    seed_all(0)
    seen = Operators()
    with counting(), seen, torch.set_grad_enabled(backward):
        out = model.train(train)(ids_Bn)
        if backward:
            (out.logits_BnV.sum() + sum(out.aux_losses.values(), out.logits_BnV.new_zeros(()))).backward()
    model.zero_grad(set_to_none=True)
    found = (x / shape.batch for x in (seen.flops, seen.disguised, seen.multiplied, seen.scanned, seen.added))
    counted, disguised, multiplied, scanned, added = found
    return Charge(counted, disguised, multiplied, tuple(sorted(seen.refused)), scanned, added)


def declared_cost(config: ModelConfig, shape: Shape) -> Cost | None:
    """The closed form; None where the family has none (`core_cost` raises NotImplementedError)."""
    try:
        return model_cost(config, shape)
    except NotImplementedError:
        return None


def declared_in_eval(config: ModelConfig, shape: Shape) -> Cost | None:
    """The closed form of a model that runs deeper or less deep at evaluation; None where it does not say."""
    if config.eval_depth == config.depth:
        return declared_cost(config, shape)
    deeper = config.at_depth(config.eval_depth)
    return declared_cost(deeper, shape) if deeper is not None else None


@dataclass(frozen=True)
class Bill:
    """One comparison: where, what the closed form says (None = nothing) and what was charged.

    On real tensors how much is executed may depend on the data (buckets that stay empty): the closed form is a `bound`.
    """

    where: str
    declared: float | None
    charge: Charge
    bound: bool = False
    counted: bool = False

    def trouble(self) -> str:
        """What is wrong, in words; empty where nothing is."""
        if self.charge.refused:
            return f"no FLOP rule for {', '.join(self.charge.refused)} ({self.where})"
        if self.declared is None or self.charge.holds(self.declared, bound=self.bound, counted=self.counted):
            return ""
        low, high = self.charge.band
        found = f"{low:.4g}" if high <= low * (1 + FLOPS_TOLERANCE) else f"{low:.4g} to {high:.4g}"
        return f"{self.declared:.4g} FLOPs declared, {found} executed ({self.where})"


def cost(subject: Subject) -> Finding:
    """Executed FLOPs declared = counted: training at the training length, forward at all lengths."""
    bills = _bills(subject)
    main = bills[0].charge
    numbers: dict[str, Number] = {"counted": main.counted, "disguised": main.disguised, "multiplied": main.multiplied}
    declared = bills[0].declared
    numbers["basis"] = "counted" if declared is None or subject.config.counted else "declared"
    if declared is not None:
        gaps = [abs(bill.declared / bill.charge.band[0] - 1) for bill in bills if bill.declared and not bill.bound]
        numbers |= {"declared": declared, "gap": max(gaps)}
    if troubles := [bill.trouble() for bill in bills if bill.trouble()]:
        return Finding(False, troubles[0], numbers)
    if declared is None:
        return Finding(True, f"no closed form: {main.counted:.4g} FLOPs a training step counted", numbers)
    if subject.config.counted:
        off = 100 * float(numbers["gap"])
        return Finding(
            True, f"no closed form: the count of the mixer agrees with that of the whole to {off:.2f} %", numbers
        )
    return Finding(True, f"executed FLOPs are declared to {100 * float(numbers['gap']):.2f} %", numbers)


def _bills(subject: Subject) -> list[Bill]:
    """Training at the training length on the meta device first; forward passes on real tensors where that is cheap."""
    shape, config, bills = replace(subject.shape, batch=subject.rows), subject.config, list[Bill]()
    for length in dict.fromkeys((shape.length, *subject.lengths)):
        at = replace(shape, length=length, max_length=shape.positions)
        full = declared_cost(config, at)
        modes = {"train": _executed(full), "eval": _executed(declared_in_eval(config, at))}
        real = _small(subject, length) or length == subject.lengths[0]
        model = _built(config, at, real=real)
        if length == shape.length:
            say = full.flops_train_executed if full is not None else None
            bills.append(Bill(f"training, length {length}", say, _training(config, at), counted=config.counted))
        for mode, say in modes.items():
            charged = charge(model, at, train=mode == "train", backward=False)
            where = f"forward, {mode} mode, length {length}"
            bills.append(Bill(where, say, charged, bound=real, counted=config.counted))
    return bills


def _training(config: ModelConfig, shape: Shape) -> Charge:
    """On the meta device, for which closed forms are written; on CPU where the model looks at its values."""
    try:
        return charge(_built(config, shape, real=False), shape, train=True, backward=True)
    except (NotImplementedError, RuntimeError, ValueError):
        return charge(_built(config, shape, real=True), shape, train=True, backward=True)


def _small(subject: Subject, length: int) -> bool:
    """Whether running it costs less than going through its shapes on the meta device."""
    return length * subject.rows * sum(weight.numel() for weight in subject.model.parameters()) < SMALL


def _built(config: ModelConfig, shape: Shape, *, real: bool) -> Decoder:
    with torch.device("cpu" if real else "meta"):
        return build(config, shape)


def _executed(cost: Cost | None) -> float | None:
    return cost.flops_forward_executed if cost is not None else None


def weights(subject: Subject) -> Finding:
    """Live weights = declared, shared ones once; tables by the convention of `ressformer.cost`; none made later."""
    model = subject.model
    before = {name for name, _ in model.named_parameters()}
    for length in subject.lengths:
        subject.run(model, subject.tokens(length), "train")
        subject.run(model, subject.tokens(length), "eval")
    late = [name for name, _ in model.named_parameters() if name not in before]
    live, core = _live(model)
    numbers: dict[str, Number] = {"live": live, "live_non_embedding": core}
    if late:
        return Finding(False, f"the first call makes weights: {', '.join(late[:3])}", numbers)
    declared = declared_cost(subject.config, subject.shape)
    if declared is None:
        return Finding(True, f"no closed form: {live} weights counted", {**numbers, "basis": "counted"})
    numbers |= {"declared": declared.params_total, "declared_non_embedding": declared.params_non_embedding}
    if live != declared.params_total:
        return Finding(False, f"{declared.params_total} weights declared, {live} live", numbers)
    if core != declared.params_non_embedding:
        said = declared.params_non_embedding
        return Finding(False, f"{said} weights declared beside tables and head, {core} live", numbers)
    return Finding(True, f"{live} weights, as declared", numbers)


def _live(model: Decoder) -> tuple[int, int]:
    """(weights, weights beside tables and an untied head); one piece of memory counts once, whoever holds it."""

    def place(weight: Tensor) -> tuple[int, int, int]:
        return weight.untyped_storage().data_ptr(), int(weight.storage_offset()), weight.numel()

    held = {place(weight) for weight in model.parameters()}
    tables = {place(w) for m in model.modules() if isinstance(m, torch.nn.Embedding) for w in m.parameters()}
    tables.add(place(model.head.weight))
    return sum(size for *_, size in held), sum(size for *_, size in held - tables)


def gradients(subject: Subject) -> Finding:
    """Every weight gets a gradient, finite at each length; where it is 0 at all, other initial weights are tried."""
    largest: dict[str, float] = {}
    first = subject
    for again in range(RETRIES):
        if again:
            subject = Subject(first.config, first.shape, first.lengths, first.seed + again)
        if (trouble := _slopes(subject, largest)) is not None:
            return trouble
        missing = sorted(
            name for name, w in subject.model.named_parameters() if w.requires_grad and name not in largest
        )
        idle = missing + sorted(name for name, size in largest.items() if size == 0)
        if missing or not idle:
            break
    numbers: dict[str, Number] = {"weights": len(largest) + len(missing), "idle": len(idle)}
    if idle:
        more = f" (and {len(idle) - 1} more)" if len(idle) > 1 else ""
        if missing:
            return Finding(False, f"{idle[0]} has no gradient{more}", numbers)
        tried = f"at {', '.join(map(str, first.lengths))} tokens and under {RETRIES} sets of weights"
        return Finding(False, f"{idle[0]} has a gradient of zero {tried}{more}; {_way_out(idle[0], first)}", numbers)
    return Finding(True, f"gradients of all {len(largest)} weights are finite and there", numbers)


def _way_out(name: str, subject: Subject) -> str:
    """What to do about a weight that is never used: longer inputs, or the settings that bear the name of its part."""
    parts = name.split(".")
    found = [f.name for f in fields(subject.config) if any(f.name.startswith(f"{part}_") for part in parts)]
    dials = ", ".join(f"model.{field}" for field in found) or "the part"
    return f"if only longer inputs use it, take a longer task, or change {dials}"


def _slopes(subject: Subject, largest: dict[str, float]) -> Finding | None:
    """Notes the largest gradient of each weight that has one, over the lengths; a finding where one is not finite."""
    model = subject.model
    for index, length in enumerate(subject.lengths * 2):
        ids_Bn, labels_Bn = subject.tokens(length, 40 + index), subject.tokens(length, 50 + index)
        padded = index >= len(subject.lengths)
        mask_Bn = torch.arange(length).expand(ids_Bn.shape) < max(1, length - 1) if padded else None
        seed_all(subject.seed + index)
        out = model.train()(ids_Bn, mask_Bn)
        loss = torch.nn.functional.cross_entropy(out.logits_BnV.flatten(0, 1), labels_Bn.flatten())
        total = loss + sum(out.aux_losses.values(), loss.new_zeros(()))
        model.zero_grad(set_to_none=True)
        total.backward()
        found = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
        bad = [name for name, grad in found.items() if not bool(grad.isfinite().all())]
        model.zero_grad(set_to_none=True)
        if bad or not bool(total.isfinite()):
            what = f"the gradient of {bad[0]}" if bad else "the loss"
            return Finding(False, f"{what} is not finite (length {length})", {"length": length, "bad": len(bad)})
        for name, grad in found.items():
            largest[name] = max(largest.get(name, 0.0), float(grad.abs().max()))
    return None
