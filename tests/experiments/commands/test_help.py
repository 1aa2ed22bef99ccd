"""The pages of help: a sentence for every option, examples that parse, docs that are current."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.__main__ import VERBS, overview, parser_of, program
from experiments.commands.parser import PROGRAM, WIDTH
from experiments.errors import UserError

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "experiments" / "commands"
SLOW = ("hydra", "lightning", "matplotlib", "numpy", "omegaconf", "pandas", "pydantic", "rich", "scipy", "torch")


def test_every_file_is_a_verb_and_every_verb_a_file() -> None:
    files = {path.stem.replace("_", "-") for path in FOLDER.glob("*.py")} - {"--init--", "parser"}
    assert files == set(VERBS)


def test_the_program_has_a_line_for_each_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert program(["--help"]) == program(["-h"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for verb in VERBS:
        assert sum(line.startswith(f"  {verb} ") for line in lines) == 2
    assert max(map(len, lines)) <= WIDTH
    verbs = lines[lines.index("verbs:") + 1 : lines.index("", lines.index("verbs:"))]
    assert len(verbs) == len(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_the_page_of_a_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        program([verb, "results_dir=x", "--help"] if verb not in ("cost", "check", "budget", "tasks") else [verb, "-h"])
        == 0
    )
    page = capsys.readouterr().out
    assert page.startswith(f"usage: {PROGRAM} {verb} ") and max(map(len, page.splitlines())) <= 2 * WIDTH
    assert ".lock" not in page
    parser = parser_of(verb)
    sentences = [str(action.help) for action in parser._actions] + [help for _, help in parser.names]
    sentences += [value.partition("\0")[2] for value in parser.keys.values()]
    sentences += [parser.overrides] if parser.overrides else []
    assert len(sentences) >= 2 and parser.summary.endswith(".")
    for sentence in sentences:
        assert sentence[0].isalpha() and sentence[-1] == "." and " " in sentence, sentence
    for action in parser._actions:
        assert all(flag in page for flag in action.option_strings)


@pytest.mark.parametrize("verb", VERBS)
def test_the_examples_of_a_verb_parse(verb: str) -> None:
    parser = parser_of(verb)
    assert parser.examples
    for example in parser.examples:
        words = shlex.split(example)
        assert words[:4] == [*PROGRAM.split(), verb], example
        parser_of(verb).read(words[4:])


@pytest.mark.parametrize("verb", VERBS)
def test_a_typo_in_an_option_is_one_line_with_the_nearest(verb: str) -> None:
    flag = [flag for action in parser_of(verb)._actions for flag in action.option_strings if len(flag) > 4][-1]
    wrong = flag[:-2] + flag[-1] + flag[-2]
    with pytest.raises(UserError) as caught:
        program([verb, wrong])
    assert f"unknown option of {verb} '{wrong}' (did you mean {flag}?)" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if not parser_of(verb).overrides])
def test_a_typo_in_a_key_of_a_verb_that_takes_few_is_one_line(verb: str) -> None:
    if verb == "budget":
        return
    with pytest.raises(UserError, match=rf"unknown argument of {verb} 'results_dri' .did you mean results_dir"):
        program([verb, "results_dri=x"])


def test_the_page_of_the_program_and_a_verb_that_is_not_there_load_nothing_slow() -> None:
    source = (
        "import sys\nfrom experiments.__main__ import program\n"
        "program(['--help'])\n"
        "try: program(['sweap'])\nexcept Exception as error: print(error)\n"
        f"print('LOADED', [name for name in {SLOW} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[-1] == "LOADED []" and "did you mean sweep" in lines[-2]


def test_status_loads_neither_torch_nor_lightning(tmp_path: Path) -> None:
    source = (
        "import sys\nfrom experiments.__main__ import program\n"
        f"program(['status', 'results_dir={tmp_path}'])\n"
        "print('LOADED', [name for name in ('torch', 'lightning') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_the_page_of_all_verbs_is_current() -> None:
    """docs/commands.md is what `python tools/commands.py` writes."""
    done = subprocess.run([sys.executable, "tools/commands.py"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (ROOT / "docs" / "commands.md").read_text() == done.stdout, "python tools/commands.py > docs/commands.md"
    assert overview() in done.stdout


def test_words_and_options_mean_the_same() -> None:
    def read(*words: str) -> dict[str, object]:
        return vars(parser_of("check-claims").read(words))

    assert read("claims=[C1,R2]", "results_dir=a b") == read("--claims", "C1,R2", "--results-dir=a b")
    assert parser_of("sweep").read(["trials=8"]).overrides == parser_of("sweep").read(["--trials", "8"]).overrides


@pytest.mark.parametrize("folder", ["a,b", "a=b", "é (1)", "[x]", "{y}", "it's", "#1"])
def test_a_folder_of_any_name_reaches_hydra_as_it_is(folder: str) -> None:
    from experiments.studies.named_plan import results_dir  # a second, which the pages do without

    for words in (["--results-dir", folder], [f"results_dir={folder}"]):
        assert results_dir(parser_of("spent").read(words).overrides) == Path(folder).absolute()


@pytest.mark.parametrize("words", ["--results-dir=", "results_dir=null", "--results-dir"])
def test_a_folder_has_a_name(words: str) -> None:
    with pytest.raises(UserError, match=r"--results-dir (takes a folder|needs a value)"):
        parser_of("spent").read([words])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("sweep --trials 0", "--trials takes a whole number of 1 or more, got '0'"),
        ("sweep trials=many", "--trials takes a whole number"),
        ("plan --gpu-flops -1", "--gpu-flops takes a number above 0"),
        ("plan --gpu-step-ms inf", "--gpu-step-ms takes a number above 0"),
        ("plan --gpu-step-ms", "--gpu-step-ms needs a value"),
        ("report --figures maybe", "--figures unknown value 'maybe'; available: false, true"),
        ("check --lengths 5,x", "--lengths takes a whole number of 1 or more, got 'x'"),
        ("check --seed=-1", "--seed takes a whole number of 0 or more"),
        ("train --cfg jab", "--cfg unknown value 'jab' .did you mean job"),
        ("check-claims --claims ,", "--claims takes names between commas"),
        ("reproduce quick", "reproduce cannot read 'quick': no option and not key=value; e.g. .*table=quick"),
        ("why a b c d", "why cannot read 'd'"),
        ("status --watch=1", "--watch ignored explicit argument '1'"),
    ],
)
def test_values_are_typed(words: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        program(words.split())
    assert "\n" not in str(caught.value)
