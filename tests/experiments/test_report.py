"""The page: self-contained, escaped, and in a real browser a press on a cell shows its runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from toy import make_record, make_spec

from experiments import atomic
from experiments.curves import distance, learning, point_curves
from experiments.figures import front
from experiments.plan import Plan
from experiments.report import embedded, write_html
from experiments.runs import Store
from experiments.settings import TableSettings

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((found for name in NAMES if (found := shutil.which(name))), None)
HOSTILE = "</script><img src=x onerror=alert(1)>"


@pytest.fixture
def plan(store: Store) -> Plan:
    """Two models, three seeds, hops and lengths; a run of `b` failed with a hostile message."""
    runs = [make_spec(model=m, seed=s, labelled=m) for m in ("a", "b") for s in (0, 1, 2)]
    for spec in runs:
        value = 0.5 + 0.01 * spec.seed + (0.3 if spec.model == "a" else 0.0)
        metrics = {
            "test/id": {"accuracy": value, "accuracy/hops1": value, "accuracy/hops2": value / 2},
            "test/ood_far": {"accuracy": 0.1},
            "test/length_128": {"accuracy": value},
            "test/length_256": {"accuracy": value / 4},
        }
        record = make_record(spec, value, metrics=metrics)
        if (spec.model, spec.seed) == ("b", 2):
            record = make_record(spec, None)
            assert record.error is not None
            record = record.model_copy(update={"error": record.error.model_copy(update={"message": HOSTILE})})
        store.write_record(record)
        lines = [{"step": step, "val/accuracy": step / 12, "train/support/1": 3.0} for step in (4, 8, 12)]
        atomic.write_text(store.folder(spec.id) / "metrics.jsonl", "\n".join(map(json.dumps, lines)))
    table = {"name": "toy", "models": ["a", "b"], "tasks": ["chain"], "seeds": [0, 1, 2], "budget": "toy"}
    return Plan(table=TableSettings.model_validate(table), code_fingerprint="code", runs=runs)


@pytest.fixture
def page(plan: Plan, store: Store) -> Path:
    return write_html(plan, store)


def test_the_page_needs_nothing_from_outside(page: Path) -> None:
    text = page.read_text()
    assert not re.search(r"https?:|@import|src=[\"']|<link|url\((?!#)", text)
    assert len(re.findall(r'<svg role="img" aria-label="[^"]+"', text)) == text.count("<svg") >= 6
    ids = re.findall(r'\sid="([^"]+)"', re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL))
    assert len(ids) == len(set(ids))


def test_what_comes_from_records_is_escaped(page: Path) -> None:
    text = page.read_text()
    assert HOSTILE not in text and "&lt;/script&gt;&lt;img" in text
    assert "</" not in embedded({"x": HOSTILE}) and json.loads(embedded({"x": HOSTILE})) == {"x": HOSTILE}


def test_every_cell_names_its_runs(page: Path, plan: Plan) -> None:
    found = re.search(r'id="data">(.*?)</script>', page.read_text(), flags=re.DOTALL)
    assert found is not None
    cells = json.loads(found[1])["cells"]
    assert set(cells) == {"a|chain|test/id|accuracy", "b|chain|test/id|accuracy"}
    mine = cells["b|chain|test/id|accuracy"]
    assert [row[0] for row in mine["runs"]] == [spec.id for spec in plan.runs if spec.model == "b"]
    assert [row[3] for row in mine["runs"]] == ["done", "done", "failed"]
    assert mine["command"] == "python -m experiments.why toy b chain"


def test_figures_as_png_and_pdf(plan: Plan, store: Store) -> None:
    write_html(plan, store, figures=True)
    names = {path.name for path in (store.root / "exports" / "figures" / "toy").iterdir()}
    assert {"learning-chain.png", "learning-chain.pdf", "growth.pdf"} <= names
    for path in (store.root / "exports" / "figures" / "toy").iterdir():
        assert path.read_bytes()[:4] in (b"\x89PNG", b"%PDF")


def test_curves_by_hand(plan: Plan, store: Store) -> None:
    runs = [(spec, store.record(spec.id)) for spec in plan.runs]
    points = point_curves(runs)
    a = points[(points["model"] == "a") & (points["axis"] == "hops")]
    assert a["x"].tolist() == [1, 2] and a["mean"].tolist() == pytest.approx([0.81, 0.405])
    assert set(points["axis"]) == {"hops", "length"}
    assert distance(runs).groupby("model")["split"].agg(list)["a"] == ["test/id", "test/ood_far"]
    curve = learning(runs, store)
    # Step 4 of 12 is a third of 1e9 FLOPs.
    assert curve["flops"].iloc[0] == pytest.approx(1e9 / 3) and curve["mean"].iloc[0] == pytest.approx(1 / 3)
    assert pd.isna(curve[curve["n"] < 3]["low"]).all()


def test_front_by_hand() -> None:
    points = [(1.0, 0.5), (2.0, 0.4), (3.0, 0.9), (3.0, 0.8)]
    assert front(points, True) == [(1.0, 0.5), (3.0, 0.9)]
    assert front(points, False) == [(1.0, 0.5), (2.0, 0.4)]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium")
def test_a_press_on_a_cell_shows_its_runs_in_a_browser(page: Path, plan: Plan, tmp_path: Path) -> None:
    """A copy of the page with a script at its end that presses the cell; the browser prints what came of it."""
    press = """<script>
      addEventListener("load", () => {
        document.querySelector('[data-cell="b|chain|test/id|accuracy"]').click();
        document.querySelector('[data-series="series-1"]').click();
        const rows = [...document.querySelectorAll("#why tr[data-run]")].map((r) => r.dataset.run);
        const out = {open: document.getElementById("why").open, rows, errors,
          dim: document.body.classList.contains("dim"), lit: document.querySelectorAll(".series.on").length,
          unnamed: [...document.querySelectorAll("button")].filter((b) => !b.textContent.trim()).length,
          wide: document.documentElement.scrollWidth > innerWidth};
        document.documentElement.innerHTML = "";
        document.body.textContent = "FOUND" + JSON.stringify(out) + "END";
      });</script>"""
    early = '<script>const errors = []; addEventListener("error", (e) => errors.push(e.message));</script><style>'
    copy = tmp_path / "copy.html"
    copy.write_text(page.read_text().replace("<style>", early, 1).replace("</body>", press + "</body>"))
    command = [str(BROWSER), "--headless=new", "--no-sandbox", "--disable-gpu"]
    command += [f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--window-size=400,900", "--virtual-time-budget=5000", "--dump-dom", copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    answer = re.search(r"FOUND(.*)END", done.stdout)
    assert answer is not None, done.stderr[-2000:]
    found = json.loads(answer[1].replace("&gt;", ">").replace("&amp;", "&"))
    assert found["rows"] == [spec.id for spec in plan.runs if spec.model == "b"]
    assert found["open"] and found["dim"] and found["lit"] > 0
    assert found["errors"] == [] and found["unnamed"] == 0 and not found["wide"]
