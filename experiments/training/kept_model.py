"""The model of a finished run from the checkpoint that it kept, as it was evaluated: the selected weights."""

from __future__ import annotations

from pathlib import Path

import torch

from experiments.errors import UserError
from experiments.planning.instantiate import build_model_config
from experiments.planning.settings import TrainerSettings
from experiments.store.records import Record
from experiments.training.callbacks import seed_all
from experiments.training.checkpoint import require_sound
from experiments.training.evaluate import evaluating
from ressformer.decoder import Decoder
from ressformer.module import OptimConfig, SequenceModule
from tasks.base import Task

FILE = "checkpoint.ckpt"


def kept_module(record: Record, checkpoint: Path, task: Task, longest: int) -> SequenceModule:
    """The trained model, ready for evaluation, on the kind of device that it was trained on, where that is here.

    Args:
        record: of the run.
        checkpoint: that it kept.
        task: that it was trained on.
        longest: tokens of the longest sequence that it will read.

    Raises:
        UserError: the checkpoint cannot be read, or its model cannot read so many tokens.
    """
    spec = record.spec
    settings = TrainerSettings.model_validate(spec.config["trainer"])
    torch.set_num_threads(record.provenance.threads)
    seed_all(spec.model_seed)
    try:
        require_sound(checkpoint)
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        weights = next(each["weights"] for key, each in state["callbacks"].items() if "Selector" in key)
    except Exception as error:
        raise UserError(f"the checkpoint of run {spec.id} cannot be read: {error}") from None
    decoder = Decoder(
        build_model_config(spec.sizes, spec.allow_targets),
        vocab_size=task.vocab_size,
        length=task.length,
        max_length=max(task.max_length, longest),
        causal=task.causal,
    )
    if settings.compile:
        decoder.compile()
    module = SequenceModule(decoder, OptimConfig(**settings.optim.model_dump()), spec.steps)
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        if longest <= task.max_length:
            raise UserError(f"the checkpoint of run {spec.id} does not fit its model: {error}") from None
        most = f"{spec.model} has positions for {task.max_length} tokens and cannot read {longest}"
        raise UserError(f"{most}; choose a length of at most {task.max_length}") from None
    on_gpu = record.provenance.accelerator != "cpu" and torch.cuda.is_available()
    return module.to("cuda" if on_gpu else "cpu").eval()


def continued(
    module: SequenceModule, prompt: list[int], count: int, *, temperature: float, seed: int, end: int | None
) -> list[int]:
    """Up to `count` tokens that the model writes behind the prompt, one by one.

    Each is the most probable one at temperature 0, else drawn by `seed` from the softmax of logits / temperature. The
    model reads as much of what stands before as it can; `end` ends the text and is not handed back.
    """
    draws = torch.Generator().manual_seed(seed)
    written: list[int] = []
    with evaluating(module):
        for _ in range(count):
            ids_1n = torch.tensor([[*prompt, *written][-module.model.max_length :]], device=module.device)
            logits_V = module.model(ids_1n).logits_BnV[0, -1].float().cpu()
            if temperature:
                token = int(torch.multinomial(torch.softmax(logits_V / temperature, dim=0), 1, generator=draws))
            else:
                token = int(logits_V.argmax())
            if token == end:
                break
            written.append(token)
    return written
