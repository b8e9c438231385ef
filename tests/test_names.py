"""Every verb with photographs, classes and folders whose names would act: on the terminal, in a spreadsheet, on a page.

What is printed and what is written are looked at after each verb; JSON is left exact.
"""

import csv
import html.parser
import json
import os
import pathlib
import re
import unicodedata

import pytest

from crackflow.core import console, csv_files, escaping
from crackflow.core.config.search import TuneConfig
from crackflow.report import search_page
from crackflow.search import search, trial
from crackflow.synthesis import concrete
from tests.helpers import support
from tests.helpers.trials import outcome

PX = 64
NAMES = [
    "a\x1b]0;owned\x07\x1b[31mred.jpg",
    "b\x9b2J\x85.jpg",
    "wall\u202egpj.exe\u2066\u200f.jpg",
    "one\ntwo\r\tthree\u2028.jpg",
    "quo'te\"d` $(x) \\x1b.jpg",
    "=cmd|' -C calc'!A0.jpg",
    "+1+1.jpg",
    "-2;=1+1.jpg",
    "@SUM(1).jpg",
    "\t=1.jpg",
    "<script>alert(1)<.jpg",
    "\"><img src=x onerror=alert(1)>'.jpg",
    "[red]{{ 7 * 7 }}[link=x].jpg",
    os.fsdecode(b"\xff\x9b" * 125 + b"\xff.jpg"),
]
CLEAN, CRACKED = "=clean\x1b[31m<b>", "crack\u202e\"<script>'"
ACTS = '"><script>x\x1b[2J\u202e=1'  # in the name of the folder that flags give

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs a file system that takes such names")


class Page(html.parser.HTMLParser):
    """Tags of a page and the names of their attributes."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.sources = [], set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attributes}
        self.sources |= {value for name, value in attributes if name == "src"}


def expect_nothing_acts(text, source):
    """But for the ends of lines."""
    left = {letter for letter in text if letter != "\n" and unicodedata.category(letter) in escaping.HIDDEN}
    assert not left, f"{sorted(map(ascii, left))} in {source}"


def expect_plain_tables(out):
    tables = sorted(pathlib.Path(out).rglob("*.csv"))
    for path in tables:
        text = path.read_text(encoding="utf-8")  # no bytes that are none
        expect_nothing_acts(text, path.name)
        for mark in ",;":
            for row in csv.reader(text.splitlines(), delimiter=mark):
                for cell in row:
                    is_number = escaping.NUMBER.fullmatch(cell) or mark == ";" and re.match(r"-?[\d.]", cell)
                    assert cell.lstrip()[:1] not in tuple("=+-@\t\r") or not cell or is_number, (path.name, cell)
    return {path.name for path in tables}


def expect_quiet_pages(out):
    for path in pathlib.Path(out).rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        for letter in "\x1b\x07\x9b\u202e\u2066\u200f\u2028":
            assert letter not in text, f"{letter!a} in {path.name}"
        page = Page(text)
        assert page.tags.count("script") == 1 and not {"onerror", "onload", "onclick"} & page.attributes
        assert all(source.startswith("data:") or not source for source in page.sources)


def did(verb, out, *arguments, code=0):
    """What `verb` printed, after that and what it wrote were looked at."""
    done = support.called(verb, *arguments)
    assert done.returncode == code, done.stderr
    expect_nothing_acts(done.stdout + done.stderr, f"what {verb} says")
    if os.path.isdir(out):
        expect_plain_tables(out)
        expect_quiet_pages(out)
    return done.stdout + done.stderr


def picture(number):
    example = concrete.draw_example(seed=1, index=number, image_px=PX)
    return support.encoded(example.image, quality=95), example.label


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """photographs/ by class, of which one of each is broken, and site/ without classes; all in a folder that acts."""
    root = tmp_path_factory.mktemp("names") / ACTS.replace("/", "")
    for number in range(48):
        data, label = picture(number)
        name = NAMES[number // 2 % len(NAMES)]
        name = name if number < 2 * len(NAMES) else f"{number}{name[-20:]}"
        support.put(root / "photographs" / (CRACKED if label else CLEAN) / name, data)
    for name in NAMES:
        support.put(root / "site" / name, picture(100 + len(name))[0])
    for folder in (CLEAN, CRACKED):
        support.put(root / "photographs" / folder / f"broken{NAMES[0]}", b"\xff\xd8\xff broken")
    support.put(root / "site" / f"broken{NAMES[3]}", b"\xff\xd8\xff broken")
    return root


@pytest.fixture(scope="module")
def data(root):
    flags = [f"--images={root / 'photographs'}", f"--out={root / 'data'}", f"--positive_class={CRACKED}"]
    flags += ["--layout=classes", "--workers=1", "--split=0.5,0.25,0.25", "--shards=1"]
    said = did("convert", root / "data", *flags)
    assert escaping.one_line(CRACKED) in said and "rejected: 2 files" in said
    return root / "data"


@pytest.fixture(scope="module")
def run_dir(root, data):
    flags = [f"--data={data}", f"--run_dir={root / 'run'}", "--model=crackflow_xs", "--image_px=32", "--epochs=1"]
    said = did("train", root / "run", *flags, "--batch_size=8", "--min_steps_per_epoch=1")
    assert escaping.one_line(str(root / "run")) in said
    return root / "run"


def test_names_come_back_from_the_tables_as_they_are(root, data):
    file_paths = {f"{path.parent.name}/{path.name}" for path in (root / "photographs").rglob("*.jpg")}
    table_paths = {row["path"] for name in ("groups.csv", "rejected.csv") for row in csv_files.read(str(data / name))}
    assert table_paths == file_paths
    did("convert", data, f"--verify={data}")
    with open(data / "dataset.json", encoding="utf-8") as file:
        assert json.load(file)["classes"] == [CLEAN, CRACKED]


@pytest.mark.slow
def test_predict(root, run_dir):
    out = root / "findings"
    flags = [f"--photos={root / 'site'}", f"--model={run_dir}", f"--out={out}", "--suggest=5"]
    said = did("predict", out, *flags)
    assert "left out: 1" in said and escaping.one_line(str(out)) in said
    assert {row["path"] for row in csv_files.read(str(out / "predictions.csv"))} == set(NAMES)
    with open(out / "findings.json", encoding="utf-8") as file:
        assert {photo["path"] for photo in json.load(file)["photos"]} == set(NAMES)
    for name in NAMES[:1] + NAMES[3:4]:  # each photograph of a few is said by its name
        photo_out = root / f"one{len(name)}"
        said = did("predict", photo_out, f"--photos={root / 'site' / name}", f"--model={run_dir}", f"--out={photo_out}")
        assert f"{escaping.one_line(name)}: " in said


@pytest.mark.slow
def test_evaluate(root, data, run_dir):
    out = root / "evaluation"
    said = did(
        "evaluate", out, f"--model={run_dir}", f"--data={data}", "--split=all", "--resamples=100", f"--out={out}"
    )
    assert escaping.one_line(str(out)) in said
    assert {"errors.csv", "suspects.csv", "photographs.csv"} <= expect_plain_tables(out)


def test_evaluate_compares_data_sets_in_a_table(root, data, run_dir):
    other = root / NAMES[0]
    os.symlink(data, other)
    out = root / "evaluations"
    flags = [f"--model={run_dir}", f"--data={data},{other}", "--resamples=100", "--photographs=0", f"--out={out}"]
    assert escaping.one_line(NAMES[0]) in did("evaluate", out, *flags)


def test_explain(root, run_dir):
    out = root / "why"
    flags = [f"--images={root / 'site'}", f"--model={run_dir}", f"--out={out}", "--sample=3", "--method=grad_cam"]
    did("explain", out, *flags)
    assert {row["path"].partition("#")[0] for row in csv_files.read(str(out / "explanations.csv"))} <= set(NAMES)


def test_augment_preview_and_doctor_and_synth(root, data):
    preview = root / f"{NAMES[0]}.png"
    said = did("augment_preview", root / "none", f"--data={data}", f"--out={preview}", "--image_px=32", "--pictures=2")
    assert escaping.one_line(str(preview)) in said
    measured = ["--image_px=32", "--batch_size=4", "--seconds=0.01", "--windows=1", "--model=crackflow_xs"]
    did("doctor", root / "none", f"--data={data}", f"--json={root / NAMES[3]}.json", *measured)
    said = did("synth", root / "made", f"--out={root / 'made'}", "--count=4", "--image_px=32", "--workers=1")
    assert escaping.one_line(str(root / "made")) in said


def test_export(root, data, run_dir):
    out = root / "exported"
    flags = [f"--model={run_dir}", f"--data={data}", "--formats=tflite", "--images=16", f"--out={out}"]
    assert escaping.one_line(str(out)) in did("export", out, *flags)


def test_tune(root, data, tmp_path):
    """Its words, page and table of trials that failed on such names; a search itself takes minutes."""
    config = TuneConfig(data=str(data), out=str(tmp_path / "search"))
    failed = outcome("1", status="failed", message=f"expected a file, received {NAMES[0]}{NAMES[5]}{NAMES[10]}")
    best = outcome("0")
    search_result = search.SearchResult(
        [best, outcome("2", accuracy=0.8, images_per_sec=9000.0), failed], best, None, trial.DryRun(5000.0)
    )
    (tmp_path / "search").mkdir()
    (tmp_path / "search/report.html").write_text(search_page.render(search_result, config), encoding="utf-8")
    csv_files.save(str(tmp_path / "search/trials.csv"), ["message"], [[failed.message], [f"={failed.message}"]])
    assert expect_plain_tables(tmp_path) == {"trials.csv"}
    expect_quiet_pages(tmp_path)


VERBS = {
    "synth": ["--donors={0}", "--surfaces=varied", "--out={1}"],
    "convert": ["--images={0}", "--out={1}"],
    "train": ["--data={0}", "--run_dir={1}"],
    "adapt": ["--images={0}", "--out={1}"],
    "tune": ["--data={0}", "--out={1}"],
    "evaluate": ["--model={0}", "--data={1}", "--out={1}x"],
    "explain": ["--model={0}", "--images={1}", "--out={1}x"],
    "predict": ["--model={0}", "--photos={1}", "--out={1}x"],
    "export": ["--model={0}", "--out={1}"],
    "doctor": ["--data={0}"],
    "card": ["--out={0}.txt"],
    "augment_preview": ["--data={0}", "--out={1}.png"],
    "data_service": ["--role=worker", "--dispatcher={0}"],
}


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_a_mistake_is_one_line_whatever_the_name_in_it(root, verb):
    for name in NAMES:
        path = root / "nowhere" / name
        done = support.called(verb, *(flag.format(path, path) for flag in VERBS[verb]))
        support.expect_one_line(done, 2)
        expect_nothing_acts(done.stderr, verb)
        done = support.called(verb, f"--{name}=1")
        support.expect_one_line(done, 2)
        expect_nothing_acts(done.stderr, verb)


def test_the_looks_of_a_terminal_are_ours_alone(monkeypatch, capsys):
    """Where stdout is one, a table is drawn with colours; a name adds none."""
    monkeypatch.setattr(console.sys.stdout, "isatty", lambda: True, raising=False)
    console.print_table([NAMES[0]], [[(NAMES[12], True)]])
    out = capsys.readouterr().out
    assert set(re.findall(r"\x1b\[[\d;]*m", out)) <= {"\x1b[1m", "\x1b[0m", "\x1b[31m"} and "\x07" not in out
    assert NAMES[12] in re.sub(r"\x1b\[[\d;]*m", "", out)
