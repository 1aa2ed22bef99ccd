"""The page: self-contained, escaped, and in a real browser a press on a cell shows its runs."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from toy import make_record, make_spec

from experiments.analysis.curves import distance, learning, point_curves
from experiments.planning.plan import Plan
from experiments.planning.settings import TableSettings
from experiments.reporting.figures import front
from experiments.reporting.html_page import STYLE, embedded, write_html
from experiments.store import atomic_files as atomic
from experiments.store.records import DepthPoint
from experiments.store.store import Store

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
    figures = re.findall(r"<figure.*?</figure>", text, flags=re.DOTALL)
    assert len(figures) >= 6 and all(re.search(r'<svg role="img" aria-label="[^"]+"', figure) for figure in figures)
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
    assert [row[4] for row in mine["runs"]] == ["done", "done", "failed"]
    assert mine["command"] == "python -m experiments why toy b chain"


def test_a_row_that_lacks_a_task_has_an_empty_cell_there(plan: Plan, store: Store) -> None:
    """And not one that says that there is no result, with nothing behind it."""
    other = make_spec(model="a", task="listops", labelled="a")
    store.write_record(make_record(other, 0.5))
    rows = ["a", {"label": "b", "model": "b", "tasks": ["chain"]}]
    table = TableSettings.model_validate(plan.table.model_dump() | {"models": rows, "tasks": ["chain", "listops"]})
    text = write_html(plan.model_copy(update={"table": table, "runs": [*plan.runs, other]}), store).read_text()
    assert 'data-cell="a|listops|test/id|accuracy"' in text
    assert "b|listops" not in text and "no result" not in text


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


def test_sections_without_data_say_how_to_make_them(page: Path) -> None:
    text = page.read_text()
    assert "No curve over noise in this table: <code>make reproduce-table TABLE=cpu</code>" in text
    assert "No curve over depth in this table: <code>python -m experiments depth-curves table=iterations</code>" in text
    assert 'id="graph">The graph it induces' in text and "Nothing to draw yet: <code>make" in text


def test_the_noise_axis_begins_at_the_clean_input_and_depths_are_a_curve() -> None:
    spec = make_spec(model="a", seed=0, labelled="a")
    splits = ("test/id", "probe/noise10", "test/len_half", "test/len_4x")
    metrics = {split: {"accuracy": value} for split, value in zip(splits, (0.9, 0.8, 0.7, 0.6), strict=True)}
    depths = [DepthPoint(depth=k, flops_forward=1.0, metrics={"test/id": {"accuracy": k / 10}}) for k in (2, 4)]
    points = point_curves([(spec, make_record(spec, 0.9, metrics=metrics).model_copy(update={"depths": depths}))])
    found = {axis: part.set_index("x")["mean"].to_dict() for axis, part in points.groupby("axis")}
    assert found == {
        "noise": {0: 0.9, 10: 0.8},
        "length": {0.5: 0.7, 1: 0.9, 4: 0.6},
        "depth": {2: 0.2, 4: 0.4},
    }


def luminance(colour: str) -> float:
    """WCAG's relative luminance."""
    digits = colour * 2 if len(colour) == 3 else colour
    channels = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [r":root\{(.*?)\}", r":root\[data-theme=dark\]\{(.*?)\}"])
def test_text_and_lines_have_contrast(theme: str) -> None:
    block = re.search(theme, STYLE.read_text(), flags=re.DOTALL)
    assert block is not None
    colours = {name: luminance(value) for name, value in re.findall(r"--(\w+):#([0-9a-f]{3,6})\b", block[1])}

    def contrast(one: str, other: str) -> float:
        low, high = sorted((colours[one], colours[other]))
        return (high + 0.05) / (low + 0.05)

    for ground in ("card", "paper"):
        for text in ("ink", "muted", "accent", "good", "bad", "warn"):
            assert contrast(text, ground) >= 4.5, (text, ground)
        for line in (f"c{n}" for n in range(8)):
            assert contrast(line, ground) >= 3, (line, ground)


def test_a_cell_shows_seeds_and_levels_in_table_and_list(page: Path) -> None:
    """On a wide screen the cell stands in the table, on a phone in the list of its task; each has a dot per seed."""
    text = page.read_text()
    cells = re.findall(
        r'data-cell="a\|chain\|test/id\|accuracy".*?<span class="strip"(.*?)</span>', text, flags=re.DOTALL
    )
    assert len(cells) == 2
    assert all(cell.count("<s ") == 3 and cell.count("<b ") == 1 and '<u class="chance"' in cell for cell in cells)


def test_claims_of_other_tables_are_not_shown(page: Path) -> None:
    assert 'id="claims"' not in page.read_text() and "check-claims" not in page.read_text()


@pytest.mark.parametrize(("count", "wide"), [(1, 3), (2, 3), (4, 3)])
def test_figures_stand_in_even_rows(count: int, wide: int) -> None:
    """One, two and four figures are half a row each; of five the last two, of seven the last four are."""
    style = STYLE.read_text()
    assert re.search(rf"\.panels\.by{count} figure[^{{]*\{{grid-column:span {wide}\}}", style)
    assert ".panels.rest1 figure:nth-last-child(-n+4),.panels.rest2 figure:nth-last-child(-n+2)" in style


CHECK = """<script>addEventListener("load", () => {
  const all = [...document.querySelectorAll('[data-cell="b|chain|test/id|accuracy"]')];
  const cell = all.find((e) => e.offsetParent), tip = document.getElementById("tip");
  cell.dispatchEvent(new MouseEvent("mouseover", {bubbles: true}));
  const hint = tip.hidden ? "" : tip.textContent;
  const hintFits = tip.getBoundingClientRect().right <= innerWidth;
  cell.click();
  document.querySelector('[data-series="series-1"]').click();
  const name = (e) => (e.getAttribute("aria-label") || e.textContent).trim();
  const named = [...document.querySelectorAll("button,a,summary,[role=img],[role=region],nav,section,dialog")];
  const labelled = (e) => e.hasAttribute("aria-labelledby")
    ? document.getElementById(e.getAttribute("aria-labelledby"))?.textContent.trim() : name(e);
  const paper = () => getComputedStyle(document.body).backgroundColor;
  const before = paper(); document.getElementById("theme").click();
  parent.postMessage({hint, hintFits, open: document.getElementById("why").open, errors, light: [before, paper()],
    rows: [...document.querySelectorAll("#why tr[data-run]")].map((r) => r.dataset.run),
    dim: document.body.classList.contains("dim"), lit: document.querySelectorAll(".series.on").length,
    unnamed: named.filter((e) => !labelled(e)).map((e) => e.outerHTML.slice(0, 80)),
    heads: [...document.querySelectorAll("table")].filter((t) => !t.querySelector("th[scope=col]")).length,
    titles: document.querySelectorAll("h1").length,
    asked: performance.getEntriesByType("resource").map((e) => e.name),
    stacked: !document.querySelector(".main-table").offsetParent && all.filter((e) => e.offsetParent).length === 1,
    sideways: [...document.querySelectorAll(".scroll,.stack")].filter((e) => e.scrollWidth > e.clientWidth + 1).length,
    width: innerWidth, wide: document.documentElement.scrollWidth}, "*");
});</script>"""
FRAME = """<body><iframe style="width:390px;height:800px;border:0"></iframe><script>
addEventListener("message", (e) => { document.body.textContent = "FOUND" + JSON.stringify(e.data) + "END"; });
document.querySelector("iframe").srcdoc = %s;</script></body>"""


@pytest.mark.slow
def test_in_a_browser_on_a_phone(page: Path, plan: Plan, tmp_path: Path) -> None:
    """The page in a frame as wide as a phone, with a script at its end that uses it; the browser prints what came."""
    if BROWSER is None:
        pytest.skip("THE REPORT WAS NOT TRIED IN A BROWSER: no Chromium here (apt-get install chromium)")
    early = '<script>const errors = []; addEventListener("error", (e) => errors.push(e.message));</script><style>'
    copy = page.read_text().replace("<style>", early, 1).replace("</body>", CHECK + "</body>")
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME % embedded(copy))
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000", "--dump-dom", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    answer = re.search(r"FOUND(.*)END", done.stdout)
    assert answer is not None, done.stderr[-2000:]
    found = json.loads(html.unescape(answer[1]))
    ids = [spec.id for spec in plan.runs if spec.model == "b"]
    assert found["open"] and found["rows"] == ids
    assert all(run in found["hint"] for run in ids) and "seed 0: 0.5000" in found["hint"] and found["hintFits"]
    assert found["dim"] and found["lit"] > 0
    assert found["light"] == ["rgb(247, 247, 244)", "rgb(18, 21, 24)"]
    assert found["width"] == 390 and found["wide"] <= 390
    assert found["stacked"] and found["sideways"] == 0
    assert (found["errors"], found["unnamed"], found["heads"], found["asked"]) == ([], [], 0, [])
    assert found["titles"] == 1
