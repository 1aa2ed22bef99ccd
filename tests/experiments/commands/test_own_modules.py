"""A class of the user's own, from a file, a package or a folder of configs; what is wrong with it is one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

import experiments
from experiments.__main__ import program
from experiments.errors import FULL, UserError, main
from experiments.planning.hydra_config import composed, composer
from experiments.planning.instantiate import build_task
from experiments.planning.plan import make_plan, read_request, run_spec
from experiments.planning.run_spec import Pricer
from experiments.planning.task_data import CannotBegin, require_as_planned
from experiments.reporting.table import from_records, markdown
from experiments.store.records import RunSpec

MODULES = """
import torch
from torch import nn


class Average(nn.Module):
    def __init__(self, d_model, scale=1.0):
        super().__init__()
        self.out, self.scale = nn.Linear(d_model, d_model), scale

    def forward(self, x):
        count = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=x.dtype)
        return self.out(x.cumsum(1) / count[:, None]) * self.scale


class Narrow(Average):
    def forward(self, x):
        return super().forward(x)[..., :-1]


class Pair(Average):
    def forward(self, x):
        return super().forward(x), x


class Future(Average):
    def forward(self, x):
        return self.out(x).mean(1, keepdim=True).expand_as(x)


class Rows(Average):
    def forward(self, x):
        return super().forward(x) + x.mean(0, keepdim=True)


class Broken(Average):
    def forward(self, x):
        raise RuntimeError("no kernel\\nhere")


class Solver(Average):
    def forward(self, x):
        return super().forward(x) + torch.linalg.matrix_exp(x.new_zeros(2, 2)).sum()


class Needy(nn.Module):
    def __init__(self, d_model, kernel):
        super().__init__()


class Wide(nn.Module):
    def __init__(self, width):
        super().__init__()


class Refuses(nn.Module):
    def __init__(self, d_model):
        super().__init__()
        raise KeyError("gone")


class Decoder(nn.Module):
    def __init__(self, vocab_size, width=16):
        super().__init__()
        self.embedding, self.head = nn.Embedding(vocab_size, width), nn.Linear(width, vocab_size)

    def forward(self, ids):
        return self.head(self.embedding(ids).cumsum(1))


class Headless(Decoder):
    def forward(self, ids):
        return self.embedding(ids)


class Blind(Decoder):
    def __init__(self, vocab_size):
        super().__init__(vocab_size + 1)


number = 3
"""
SMALL = ["task=mqar", "budget=off", "task.length=24", "task.pairs_max=3", "task.n_questions=3", "task.ood_length=40"]
SHELL = ["model.d_model=16", "model.n_heads=2", "model.n_layers=1", "model.d_ff=16"]
MIXER = ["model=mixer", *SHELL, *SMALL]
DECODER = ["model=decoder", *SMALL]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, with their file in it."""
    (tmp_path / "my.py").write_text(MODULES)
    (tmp_path / "wrong.py").write_text("class Mixer(:\n")
    (tmp_path / "lost.py").write_text("import no_such_package_here\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv(FULL, raising=False)
    return tmp_path


BAD = {
    "model.mixer=my.py:Narrow": ["Narrow returns a tensor [2, 24, 15], and must return one tensor [2, 24, 16]"],
    "model.mixer=my.py:Pair": ["Pair returns a tuple, and must return one tensor [2, 24, 16]"],
    "model.mixer=my.py:Avarage": ["my.py has no class Avarage (did you mean Average?)", "Needy"],
    "model.mixer=my.py:number": ["number of my.py is no torch.nn.Module, but int"],
    "model.mixer=none.py:Average": ["model.mixer.file=none.py cannot be read: No such file or directory (looked in "],
    "model.mixer=wrong.py:Mixer": ["model.mixer.file=wrong.py does not import: SyntaxError", "line 1"],
    "model.mixer=lost.py:Mixer": ["lost.py does not import: ModuleNotFoundError", "'no_such_package_here'"],
    "model.mixer=leaves.py:Mixer": ["leaves.py does not import: SystemExit: 3"],
    "model.mixer=no_such_package:Mixer": ["model.mixer._target_=no_such_package.Mixer cannot be loaded", "No module"],
    "model.mixer=os:system": ["system of os is no torch.nn.Module"],
    "model.mixer=my.py:Future": ["model mixer fails preflight on task mqar: future: a later token changes earlier"],
    "model.mixer=my.py:Rows": ["model mixer fails preflight on task mqar: batch: other rows of the batch change"],
    "model.mixer=my.py:Broken": ["model mixer on 24 tokens of width 16: RuntimeError: no kernel here"],
    "model.mixer=my.py:Solver": ["no FLOP rule for aten.linalg_matrix_exp"],
    "model.mixer=my.py:Refuses": ["Refuses(d_model=16) cannot be built: KeyError: 'gone'"],
    "model.mixer=my.py:Needy": ["Needy needs kernel: give model.mixer.kernel=VALUE"],
    "model.mixer=my.py:Wide": ["Wide must take an argument d_model", "it takes width"],
    "model.mixer._target_=my.py:Average model.mixer.scael=2": ["takes no scael (did you mean scale?)"],
    "model.mixer._target_=my.py:Average model.mixer.d_model=2": ["model.mixer.d_model is handed in", "model.d_model"],
    "model.mixer.file=my.py": ["which class of my.py? Give model.mixer._target_=NAME", "Average"],
    "model.mixer.scale=2": ["model.mixer names no class", "model.mixer=./my.py:MyClass"],
    "model.mixer=my.py:Average model.positions=rotary": ["positions=none or learned"],
}
BAD_DECODERS = {
    "model.decoder=my.py:Decoder budget=tiny": ["model decoder has fixed sizes", "budget=off", "marked"],
    "model.decoder=my.py:Headless": ["Headless returns a tensor [2, 24, 16], and must return one tensor [2, 24, "],
    "model.decoder=my.py:Blind": ["Blind has no nn.Embedding of vocab_size="],
    "model.decoder=my.py:Decoder model.d_model=8": ["d_model is no dial of a whole decoder", "model.decoder.NAME"],
    "": ["model.decoder names no class"],
}


@pytest.mark.parametrize(
    ("base", "words", "parts"),
    [*((MIXER, *case) for case in BAD.items()), *((DECODER, *case) for case in BAD_DECODERS.items())],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_train_says_in_one_line_what_is_wrong(
    base: list[str], words: str, parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(lambda: program(["train", *base, *words.split(), "results_dir=results"]))
    said = [line for line in capsys.readouterr().err.strip().splitlines() if not line.startswith("preflight:")]
    assert left.value.code == 2 and len(said) == 1, said
    assert all(part in said[0] for part in parts), said[0]
    assert not list(Path("results").glob("runs/*/record.json"))


PRICER = Pricer()  # a task is made once


def planned(*words: str, base: list[str] = MIXER) -> RunSpec:
    with composer():
        return run_spec(composed([*base, *words]), "mine", "mqar", 0, PRICER)


def test_the_source_is_in_the_name_and_the_place_is_not(folder: Path) -> None:
    short = planned("model.mixer=my.py:Average")
    assert short.cost.basis == "counted" and set(short.foreign_sources) == {"my"}
    assert short.sizes["mixer"] == {"_target_": "Average", "file": "my.py"}
    (folder / "sub").mkdir()
    (folder / "my.py").rename(folder / "sub" / "my.py")
    moved = planned("model.mixer.file=sub/my.py", "model.mixer._target_=Average")
    assert moved.id == short.id
    assert planned("model.mixer._target_=sub/my.py:Average", "model.mixer.scale=2").id != short.id
    (folder / "sub" / "my.py").write_text(MODULES + "\n# another\n")
    with pytest.raises(CannotBegin, match="other sources of my than are here"):
        require_as_planned(moved, build_task(moved.config["task"]))
    assert planned("model.mixer=sub/my.py:Average").id != short.id
    (folder / "sub" / "my.py").unlink()
    with pytest.raises(CannotBegin, match=r"sub/my\.py cannot be read"):
        require_as_planned(moved, build_task(moved.config["task"]))


def test_a_package_in_the_users_folder(folder: Path) -> None:
    (folder / "mine_of_test").mkdir()
    (folder / "mine_of_test" / "__init__.py").write_text("from mine_of_test.part import Average\n")
    (folder / "mine_of_test" / "part.py").write_text(MODULES)
    spec = planned("model.mixer._target_=mine_of_test.Average", "model.mixer.scale=2.0")
    assert {"mine_of_test", "mine_of_test.part"} <= set(spec.foreign_sources)
    assert spec.sizes["mixer"] == {"_target_": "mine_of_test.Average", "scale": 2.0}


def test_a_solver_sizes_it_and_the_table_says_counted(folder: Path) -> None:
    """A model on `hydra.searchpath`, whose file lies there, too, beside one of ours."""
    (folder / "of_mine" / "model").mkdir(parents=True)
    (folder / "of_mine" / "there.py").write_text(MODULES)
    text = "_target_: ressformer.models.mixer.MixerConfig\nmixer: {file: there.py, _target_: Average}\n"
    (folder / "of_mine" / "model" / "mine.yaml").write_text(text)
    words = ["table=quick", "table.models=[mine,transformer]", "table.tasks=[mqar]", "table.seeds=[0]"]
    where = f"hydra.searchpath=[file://{folder}/of_mine]"
    plan = make_plan(read_request([*words, where, "allow_small_test=[mqar]"]))
    mine, ours = plan.runs
    assert mine.budget.on_budget and mine.cost.basis == "counted" and ours.cost.basis == "closed form"
    assert abs(mine.cost.params_non_embedding / ours.cost.params_non_embedding - 1) < 0.02
    assert "basis" not in ours.cost.model_dump() and ours.sizes.keys() >= {"d_ff"}
    text = markdown(from_records(plan, {}), "t")
    assert "Counted: FLOPs of mine are torch's count" in text and "| mine (counted) |" in text
    with pytest.raises(UserError, match="unknown model 'mine'"):
        make_plan(read_request(words))


def test_a_whole_decoder_is_off_budget_and_counted() -> None:
    spec = planned("model.decoder=my.py:Decoder", base=DECODER)
    vocab, n = spec.task_info.vocab_size, spec.task_info.length
    assert not spec.budget.on_budget and spec.cost.basis == "counted"
    assert spec.cost.flops_forward == 2 * n * 16 * vocab + n * 16  # the head, and the running sum
    assert spec.cost.params_total == 2 * 16 * vocab + vocab and spec.cost.params_non_embedding == vocab
    assert planned("model.decoder._target_=my.py:Decoder", "model.decoder.width=8", base=DECODER).id != spec.id


@pytest.mark.timeout(600)
def test_compare_trains_a_file_in_processes_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    small = [word for word in SMALL if word.startswith("task.")]
    cheap = ["budget.train_flops=1e9", "budget.tolerance_flops=0.5", "launcher=basic", "trainer.val_every=5"]
    sizes = ["task.n_validation=16", "task.n_test=16", "task.batch_size=4"]
    words = [*small, *cheap, *sizes]
    frame = experiments.compare({"mine": "my.py:Average"}, ["transformer"], ["mqar"], seeds=1, overrides=words)
    assert isinstance(frame, pd.DataFrame) and list(frame["a"]) == ["mine"] and list(frame["b"]) == ["transformer"]
    assert frame["seeds"].tolist() == [1] and frame["gain"].notna().all() and frame["winner"].tolist() == [""]
    out = capsys.readouterr().out
    assert "- mqar: " in out and "Counted: FLOPs of mine" in out
    for models, said in (
        ({"mine": 3}, "name a class"),
        ({}, "needs a model"),
        ({"m": "my.py:Nix"}, "has no class Nix"),
    ):
        with pytest.raises(UserError, match=said):
            experiments.compare(models, ["transformer"], ["mqar"], seeds=1, overrides=words)
