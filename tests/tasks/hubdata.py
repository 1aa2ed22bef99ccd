"""Small made-up data in the schemas of the hub's data sets, so that their tasks are tested without the data sets."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.hub.corpus import Corpus
from tasks.registry import load
from tasks.stream import Stream

Rows = list[dict[str, Any]]
SYLLABLES = ["ka", "lo", "mi", "tu", "ré", "so", "na", "ß", "日本"]


def write(folder: Path, **splits: Rows) -> Path:
    """One parquet file per split."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")
    return folder


def word(stream: Stream) -> str:
    return "".join(stream.choice(SYLLABLES) for _ in range(stream.between(1, 3)))


def prose(key: str, words: int) -> str:
    """Lines of made-up words, some of more than one byte a character."""
    stream = Stream("prose", key)
    found = [word(stream) + ("\n" if stream.below(9) == 0 else " ") for _ in range(words)]
    return "".join(found)


def wikitext(folder: Path, rare: str = "<unk> ") -> Path:
    """Lines of articles; the raw subsets have the rare word itself."""
    rows = {
        part: [
            {"text": text}
            for n in range(30)
            for text in ("", f" = {part} {n} = \n", " " + rare + prose(f"{part}{n}", 40).replace("\n", ".") + "\n")
        ]
        for part in ("train", "validation", "test")
    }
    return write(folder, **rows)


def books(folder: Path) -> Path:
    return write(
        folder,
        **{
            part: [
                {"short_book_title": str(n), "publication_date": 1900, "url": "", "text": prose(f"{part} {n}", 500)}
                for n in range(3)
            ]
            for part in ("train", "validation", "test")
        },
    )


def stories(folder: Path) -> Path:
    train: Rows = [{"text": prose(f"story {n}", 60)} for n in range(200)]
    return write(folder, train=train, validation=[{"text": prose(f"other {n}", 60)} for n in range(20)])


def dump(folder: Path) -> Path:
    return write(folder, train=[{"text": "<mediawiki>\n" + prose("dump", 8000)}])


def plain(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.txt").write_text(prose("mine", 6000), encoding="utf-8")
    return folder


def scan(folder: Path) -> Path:
    """Commands with their actions written out by a table, not by a grammar."""
    simple = {
        "walk": "I_WALK",
        "jump left": "I_TURN_LEFT I_JUMP",
        "turn opposite right": "I_TURN_RIGHT I_TURN_RIGHT",
        "look around left": "I_TURN_LEFT I_LOOK " * 4,
        "run right": "I_TURN_RIGHT I_RUN",
        "walk opposite left": "I_TURN_LEFT I_TURN_LEFT I_WALK",
    }
    twice = {f"{c} {w}": " ".join([a] * n) for c, a in simple.items() for w, n in (("twice", 2), ("thrice", 3))}
    single = {**simple, **twice}
    rows = [{"commands": c, "actions": " ".join(a.split())} for c, a in single.items()]
    for one in simple:
        for other in single:
            rows.append({"commands": f"{one} and {other}", "actions": " ".join([simple[one], single[other]])})
            rows.append({"commands": f"{one} after {other}", "actions": " ".join([single[other], simple[one]])})
    rows = [{"commands": row["commands"], "actions": " ".join(row["actions"].split())} for row in rows]
    return write(folder / "length", train=[r for r in rows if len(r["actions"]) < 100], test=rows[-9:]).parent


def cogs(folder: Path) -> Path:
    def row(key: str, kind: str = "in_distribution") -> dict[str, str]:
        stream = Stream("cogs", key)
        who, what = stream.choice(["Emma", "Liam", "Noah"]), stream.choice(["rose", "cake", "dog", "hen", "book"])
        verb, number = stream.choice(["saw", "liked", "ate", "found", "held"]), stream.between(1, 30)
        form = f"{what} ( x _ {number} ) AND {verb} . agent ( x _ 1 , {who} )"
        return {"sentence": f"{who} {verb} a {what} {number} .", "logical_form": form, "distribution": kind}

    parts = {part: [row(f"{part}{n}") for n in range(60)] for part in ("validation", "test")}
    train = [row(f"train{n}") for n in range(300)]
    kinds = ["cp_recursion", "active_to_passive"]
    return write(folder, **parts, train=train, gen=[row(f"gen{n}", kinds[n % 2]) for n in range(40)])


def listops(folder: Path) -> Path:
    def row(key: str) -> dict[str, Any]:
        stream = Stream("listops", key)
        digits = [stream.below(10) for _ in range(3)]
        inner, rest = max(digits), [stream.below(10) for _ in range(stream.between(1, 3))]
        text = f"( ( [MIN ( ( [MAX {digits[0]} ) {digits[1]} ) {digits[2]} ] ) {' '.join(map(str, rest))} ] )"
        return {"Source": text, "Target": min([inner, *rest])}

    parts = {"train": 300, "validation": 40, "test": 60}
    rows = {part: [row(f"{part}{n}") for n in range(count)] for part, count in parts.items()}
    return write(folder / "d20s", **rows).parent


def babi(folder: Path) -> Path:
    def row(key: str) -> dict[str, Any]:
        stream = Stream("babi", key)
        where: dict[str, tuple[str, str]] = {}
        lines: list[tuple[int, str, list[str], str]] = []
        for _ in range(3):
            who, place = stream.choice(["Mary", "John", "Daniel"]), stream.choice(["garden", "hall", "office"])
            where[who] = (place, str(len(lines) + 1))
            lines.append((0, f"{who} moved to the {place}.", [], ""))
            asked = stream.choice(sorted(where))
            lines.append((1, f"Where is {asked}?", [where[asked][1]], where[asked][0]))
        columns = ("type", "text", "supporting_ids", "answer")
        story = {name: [line[rank] for line in lines] for rank, name in enumerate(columns)}
        return {"story": {"id": [str(n + 1) for n in range(len(lines))], **story}}

    parts = {"train": 80, "test": 20}
    rows = {part: [row(f"{part}{n}") for n in range(count)] for part, count in parts.items()}
    return write(folder / "en-qa1", **rows).parent


def hotpot_row(key: str) -> dict[str, Any]:
    """A question over four passages, of which it needs two."""
    stream = Stream("hotpot", key)
    film, director, town = (f"{word(stream).title()} {kind}" for kind in ("Film", "Person", "Town"))
    others = [f"{word(stream).title()} Other {n}" for n in range(2)]
    texts = {
        film: [f"{film} is a film.", f" It was made by {director}."],
        director: [f"{director} comes from {town}."],
        **{other: [f"{other} is something else.", " And so on."] for other in others},
    }
    titles = stream.shuffled(list(texts))
    return {
        "id": key,
        "question": f"Where does the maker of {film} come from?",
        "answer": town,
        "type": "bridge",
        "level": "hard",
        "supporting_facts": {"title": [film, director], "sent_id": [1, 0]},
        "context": {"title": titles, "sentences": [texts[title] for title in titles]},
    }


def hotpot(folder: Path) -> Path:
    parts = {"train": 120, "validation": 30}
    rows = {part: [hotpot_row(f"{part}{n}") for n in range(count)] for part, count in parts.items()}
    return write(folder, **rows)


def twowiki(folder: Path) -> Path:
    """The same questions under a type of 2WikiMultihopQA's."""
    parts = {"train": 120, "validation": 30}
    rows = {
        part: [hotpot_row(f"{part}{n}") | {"type": "compositional"} for n in range(count)]
        for part, count in parts.items()
    }
    return write(folder, **rows)


def musique_row(key: str) -> dict[str, Any]:
    """The same question in MuSiQue's columns."""
    row = hotpot_row(key)
    context, needed = row["context"], row["supporting_facts"]["title"]
    return {
        "id": f"2hop__{key}",
        "paragraphs": [
            {"idx": n, "title": title, "paragraph_text": "".join(text), "is_supporting": title in needed}
            for n, (title, text) in enumerate(zip(context["title"], context["sentences"], strict=True))
        ],
        "question": row["question"],
        "answer": row["answer"],
        "answer_aliases": [row["answer"] + " City"],
        "answerable": True,
    }


def musique(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for part, count in (("train", 120), ("dev", 30)):
        lines = [json.dumps(musique_row(f"{part}{n}")) for n in range(count)]
        (folder / f"musique_ans_v1.0_{part}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def table_row(key: str) -> dict[str, Any]:
    stream = Stream("table", key)
    names = list(dict.fromkeys(word(stream) for _ in range(4)))
    rows = [[name, str(stream.below(100))] for name in names]
    name, number = stream.choice(rows)
    table = {"header": ["Name", "Points"], "rows": rows, "name": f"csv/204-csv/{stream.below(900)}.csv"}
    return {"id": key, "question": f"how many points has {name}?", "answers": [number], "table": table}


def tables(folder: Path) -> Path:
    parts = {"train": 100, "validation": 20, "test": 30}
    return write(folder, **{part: [table_row(f"{part}{n}") for n in range(count)] for part, count in parts.items()})


def change(rows: list[dict[str, Any]], at: int, **values: Any) -> list[dict[str, Any]]:
    return [row | values if n == at else row for n, row in enumerate(rows)]


def refuses(call: Callable[[], Any], *words: str) -> str:
    """The call raises one line with all the words in it."""
    with pytest.raises(ValueError) as error:
        call()
    line = str(error.value)
    assert "\n" not in line and all(word in line for word in words), line
    return line


# Name of the task -> what writes its data, and settings that go with so little of it.
HUB: dict[str, tuple[Callable[[Path], Path], Sequence[str]]] = {
    "enwik8": (dump, ["length=64"]),
    "pg19": (books, ["length=64"]),
    "text": (plain, ["length=64"]),
    "babi_qa": (babi, []),
    "cogs_real": (cogs, ["length=64", "ood_length=80"]),
    "hotpotqa": (hotpot, ["length=160", "bpe_vocab=400"]),
    "listops_real": (listops, ["bidirectional=true"]),
    "musique": (musique, ["length=256", "tokenizer=bytes", "answer_tokens=40", "bpe_vocab=300"]),
    "scan_real": (scan, []),
    "twowiki": (twowiki, ["length=160", "bpe_vocab=400"]),
    "wikitablequestions": (tables, ["length=160", "bpe_vocab=300"]),
    "tinystories": (stories, ["length=64"]),
    "wikitext103": (lambda folder: wikitext(folder, rare="rare "), ["length=64"]),
    "wikitext2": (wikitext, ["length=32", "long_context=true"]),
}


SMALL = {
    "cogs_real": ["length=64", "ood_length=80"],
    "hotpotqa": ["tokenizer=bytes", "length=4000", "answer_tokens=80"],
    "musique": ["tokenizer=bytes", "length=4000", "answer_tokens=80"],
    "twowiki": ["tokenizer=bytes", "length=4000", "answer_tokens=80"],
    "wikitablequestions": ["tokenizer=bytes", "length=4000", "answer_tokens=80"],
}
CORPORA = ("text", "pg19", "enwik8", "tinystories", "wikitext2", "wikitext103")


def task(name: str, folder: Path, *settings: str) -> Any:
    return load(name, [f"path={folder}", *SMALL.get(name, ["length=32"] if name in CORPORA else []), *settings])


def texts(made: Corpus) -> dict[str, int]:
    return {part: text.documents for part, text in made.texts.items()}


def fill(folder: Path, **files: bytes | str) -> Path:
    """Files by their path; __ stands for a dot, and ___ for a slash."""
    for name, data in files.items():
        path = folder / name.replace("___", "/").replace("__", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    return folder
