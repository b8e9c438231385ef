"""The report page: its words and numbers, its order, and that nothing in it can do harm or be missing."""

import base64
import dataclasses
import hashlib
import importlib.resources
import re
import subprocess
import sys

import numpy as np
import pytest
from markupsafe import Markup

from crackflow.evaluation import metrics, results, slices
from crackflow.report import rendering, run_page
from tests.helpers.evaluations import CLASSES, DATA, PNG, SHARD, Reader, evaluation, read, report, whole  # noqa: F401 - fixtures

NASTY = "a/<script>alert('x')</script>\"&\n\udcff\x00\u202e.jpg"
ANCHORS = "figures confusion threshold curves history mistakes data leaks flags versions".split()


@pytest.fixture
def blank(monkeypatch):
    """Leaves the pictures out, for tests of words alone: drawing takes a second."""
    picture = Markup("<svg></svg>")
    monkeypatch.setattr(run_page, "_svg", lambda figure, prefix: picture)
    monkeypatch.setattr(
        run_page, "_figures", lambda evaluation, prefix: {"confusion": picture, "curves": [("ROC", picture)]}
    )


def test_sections_come_in_order_and_the_contents_name_each(whole):
    sections = [value for tag, key, value in whole.attributes if tag == "section" and key == "id"]
    links = [value for tag, key, value in whole.attributes if tag == "a" and key == "href"]
    assert sections == ANCHORS
    assert links[: len(ANCHORS)] == [f"#{anchor}" for anchor in ANCHORS]


def test_every_tag_is_closed_and_every_id_is_unique(whole):
    ids = whole.values("id")
    assert whole.open == [] and len(ids) == len(set(ids))
    assert all(link[1:] in ids for link in whole.values("href"))


def test_pictures_of_two_equal_evaluations_do_not_share_ids():
    ids = read(evaluations=[evaluation(), evaluation()], history=[]).values("id")
    assert len(ids) == len(set(ids)) > 40


def test_the_page_asks_for_nothing_from_outside(whole):
    source = whole.source.replace('xmlns="http://www.w3.org/2000/svg"', "").replace("http-equiv", "")
    assert "http" not in source and "@import" not in source and "//" not in re.sub(r"base64,[^\"]+", "", source)
    assert not {"link", "iframe", "object", "base"} & set(whole.tags)
    assert all(source_url.startswith("data:image/png;base64,") for source_url in whole.values("src"))
    (script,) = re.findall(r"<script>(.*?)</script>", whole.source, re.S)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{allowed}'"
    assert policy in whole.values("content") and whole.tags.count("script") == 1


def test_the_first_lines_say_what_was_trained_and_what_it_finds(whole):
    assert "crackflow_s, trained on 8,000 images of metu." in whole.text
    assert (
        "On the 200 images of metu (test) it finds 94 of 100 cracked surfaces and raises no false alarm "
        "on 100 clean ones: 97.00 % accuracy (95 % interval 93.61 to 98.62 %)." in whole.text
    )


def test_key_figures_stand_beside_their_intervals(whole):
    for words in ("Accuracy 97.00 % 93.61 to 98.62 %", "Recall 94.00 % 87.52 to 97.22 %", "Threshold 0.37"):
        assert words in whole.text


def test_undefined_figures_are_called_so():
    labels = np.zeros(20, int)
    measured = metrics.measure(labels, labels + 0.1, labels, 0.37, 10, 0)
    clean = results.Evaluation("walls", "test", measured, labels, labels + 0.1, [], CLASSES)
    text = read(evaluations=[clean], history=[]).text
    assert "Recall undefined" in text and "ROC AUC undefined" in text
    assert "it raises no false alarm on 20 clean ones: 100.00 % accuracy" in text
    assert "needs images of both classes" in text


@pytest.mark.parametrize(
    ("confusion", "words"),
    [
        ((984, 16, 6, 994), "finds 994 of 1,000 cracked surfaces and raises 16 false alarms on 1,000 clean ones"),
        ((9, 1, 0, 5), "finds 5 of 5 cracked surfaces and raises 1 false alarm on 10 clean ones"),
        ((9, 0, 2, 0), "finds 0 of 2 cracked surfaces and raises no false alarm on 9 clean ones"),
        ((9, 0, 0, 0), "raises no false alarm on 9 clean ones"),
        ((0, 0, 1, 2), "finds 2 of 3 cracked surfaces"),
    ],
)
def test_results_are_put_in_words(confusion, words):
    assert results.in_words({"confusion": dict(zip(("tn", "fp", "fn", "tp"), confusion, strict=True))}) == words


def test_percentages_are_never_rounded_up_to_100():
    displayed = [rendering.percent(value).replace("\u00a0", " ") for value in (0.99996, 1.0, 0.5, None)]
    assert displayed == ["99.99 %", "100.00 %", "50.00 %", "undefined"]


def test_mistakes_are_shown_with_file_truth_and_probability(whole):
    assert "All 6 mistakes, the most confident first." in whole.text
    assert "Positive/00003.jpg missed crack truth: Positive probability 0.0500" in whole.text
    assert len(whole.values("src")) == 6
    assert base64.b64decode(whole.values("src")[0].split(",")[1]) == PNG


@pytest.mark.parametrize(
    ("wrong", "picture_count", "words"),
    [
        (0, 0, "None: all 200 images were decided correctly."),
        (1, 1, "The only mistake. The probability is"),
        (9, 4, "The 4 most confident of 9 mistakes."),
        (9, 0, "9 images were decided wrongly; this report was made without their pictures."),
    ],
)
def test_the_number_of_mistakes_is_told_whatever_is_kept(blank, wrong, picture_count, words):
    mistakes = [results.Mistake("one.jpg", "Positive", 0.05, PNG)] * picture_count
    assert words in read(evaluations=[evaluation(wrong, mistakes=mistakes)]).text


def test_a_clean_image_taken_for_cracked_is_a_false_alarm(blank):
    mistakes = [results.Mistake("one.jpg", "Negative", 0.95, PNG)]
    assert "one.jpg false alarm truth: Negative" in read(evaluations=[evaluation(mistakes=mistakes)]).text


def test_the_history_tells_the_best_epoch_and_the_median_speed(whole):
    assert "3 epochs; the lowest validation loss, 0.2500, after epoch 2; 2,500 images/s (median)." in whole.text
    assert "0.3000 0.9000 0.2500 0.9100 3,000" in whole.text


def test_a_history_without_validation_or_speed_is_told_without_them(blank):
    rows = [{"epoch": "1", "loss": "0.5", "accuracy": "0.8", "val_loss": "", "val_accuracy": ""}]
    text = read(history=rows).text
    assert "Training history 1 epoch. Loss" in text and "nan" not in text


def test_the_data_are_counted_by_split_and_class(whole):
    assert "train 8,000 4,100 3,900 4 10.0 test 1,000 600 400 1 2.5 all 9,000 4,700 4,300 5 12.5" in whole.text
    for words in (
        "227 × 227 px, 3 channels, jpeg",
        "Rejected files 13",
        "near duplicates",
        "f1" * 32,
        "3 orientations",
    ):
        assert words in whole.text


def test_leaks_are_told_in_one_sentence(whole):
    assert (
        "1,346 of 9,000 images are copies of another (321 byte for byte, 1,025 re-encoded, flipped or turned). "
        "A random split would have put a twin of 317 of 1,000 test images (31.7 %) into training; this split: 0."
    ) in whole.text
    assert "flatter" not in whole.text


def test_a_split_that_leaks_is_warned_about(blank):
    text = read(data=DATA | {"leaks": DATA["leaks"] | {"split_twins": 317}}).text
    assert "this split: 317." in text and "the figures above measure memory as well as skill" in text


def test_what_a_data_set_may_lack_is_left_out(blank):
    optional = ("leaks", "notes", "rejected", "created", "seed", "source", "group_by")
    text = read(data={key: value for key, value in DATA.items() if key not in optional} | {"image_px": 0}).text
    assert "so nothing can be said about leaks" in text and "Rejected files 0" in text
    assert "as they came, of several sizes" in text and "Converted" not in text


def test_sections_without_content_are_left_out(blank):
    bare = read(data={}, history=[], flags="", versions={}, facts={})
    assert [anchor for anchor in ANCHORS if anchor in bare.values("id")] == [
        "figures",
        "confusion",
        "threshold",
        "curves",
        "mistakes",
    ]
    empty = read(data={}, history=[], flags="", versions={}, facts={}, evaluations=[])
    assert empty.open == [] and "Contents" not in empty.values("aria-label")


def test_several_evaluations_are_told_apart(blank):
    page = read(evaluations=[evaluation(), evaluation(wrong=20, name="deepcrack")])
    assert "On the 200 images of deepcrack (test) it finds 80 of 100" in page.text
    assert "metu test, 200 images deepcrack test, 200 images Meaning" in page.text
    assert page.tags.count("h3") == 8 and "Accuracy 97.00 % 93.61 to 98.62 % 90.00 %" in page.text


def test_what_has_fallen_is_told_by_whole_intervals(blank):
    names, rows = run_page.matrix(
        [evaluation(), evaluation(wrong=20, name="deepcrack"), evaluation(wrong=7, name="near")]
    )
    fallen = {row[0]: [name for name, cell in zip(names, row[1], strict=True) if cell.fallen] for row in rows}
    assert fallen["metu test"] == fallen["near test"] == []
    assert {"Recall", "Accuracy"} <= set(fallen["deepcrack test"]) and "Specificity" not in fallen["deepcrack test"]
    assert "Across datasets" in read(evaluations=[evaluation(), evaluation(wrong=20)]).text


def test_what_is_left_to_a_person_and_doubtful_labels_are_told(blank):
    review = {"low": 0.3, "high": 0.5, "count": 4, "share": 0.02, "accuracy": 0.98, "accuracy_ci95": [0.95, 0.99]}
    doubtful = dataclasses.replace(
        evaluation(),
        review=review | {"missed": 1},
        suspects=[
            results.Mistake("doubt.jpg", "Positive", 0.001, PNG),
            results.Mistake("later.jpg", "Positive", 0.01, b""),
        ],
        slices=[slices.Slice("brightness", "1 to 9", 20, 0, 1.0, [0.8, 1.0], None, None, 1.0, [0.8, 1.0])],
    )
    text = read(evaluations=[doubtful]).text
    assert "Scores from 0.300 up to 0.500 are near the threshold: 4 of 200 images (2.00 %)" in text
    assert "On the rest the accuracy is 98.00 % (95.00 to 99.00 %) instead of 97.00 %, with 1 missed crack." in text
    assert "contradicts 2 labels" in text and "doubt.jpg labelled Positive probability 0.0010" in text
    assert "later.jpg" not in text  # it has no picture: suspects.csv names it
    assert "brightness 1 to 9 20 0 100.00 % 80.00 to 100.00 % –" in text


def test_explanations_are_a_table_and_pictures():
    scores = {
        "explained": 9,
        "decided_cracked": 5,
        "with_masks": 4,
        "scored": 3,
        "methods": {"grad_cam": {"pointing": 0.5, "energy": 0.25, "random_weights": {"likeness": 0.1}}},
        "baselines": {"centre dot": {"pointing": 0.25, "energy": 0.05}},
    }
    explained = run_page.Explained(scores, [("wall.jpg: cracked", PNG)], [("filters of stem", PNG)])
    page = read(data={}, history=[], evaluations=[], explained=explained)
    assert "Map Hits the crack Energy in mask Likeness to random grad cam 50.0% 0.250 0.10" in page.text
    assert "centre dot 25.0% 0.050" in page.text and "means of 4 cracks" in page.text
    assert "wall.jpg: cracked" in page.text and "filters of stem" in page.text and len(page.values("src")) == 2


def test_a_mistake_may_show_what_spoke_for_cracked(blank):
    explained = evaluation(mistakes=[results.Mistake("one.jpg", "Negative", 0.95, PNG, PNG)])
    page = read(evaluations=[explained])
    assert "what speaks for “Positive”" in page.text and "what speaks for Positive" in page.values("alt")


def test_flags_keep_their_lines(whole):
    assert "--seed=7\n--epochs=3" in "".join(whole.words)


def test_hostile_names_are_only_text():
    hostile_evaluation = evaluation(
        name=NASTY, mistakes=[results.Mistake(NASTY, NASTY, 0.05, PNG)], classes=("clean", NASTY)
    )
    classes = {"classes": ["clean", NASTY], "positive_class": NASTY, "source": NASTY, "notes": [NASTY]}
    splits = {NASTY: {"count": 2, "class_counts": {"clean": 1, NASTY: 1}, "shards": [SHARD]}}
    hostile = report(
        title=NASTY,
        headline=NASTY,
        evaluations=[hostile_evaluation],
        data=DATA | classes | {"splits": splits},
        facts={NASTY: NASTY},
        flags=NASTY,
        versions={NASTY: NASTY},
        history=[],
    )
    source = run_page.render(hostile)
    source.encode("utf-8")
    page = Reader(source)
    assert page.tags.count("script") == 1 and page.open == [] and "\x00" not in source
    assert not [key for _, key, _ in page.attributes if key.startswith("on")]
    escaped = "a/<script>alert('x')</script>\"&\\n\\udcff\\x00\\u202e.jpg"
    assert page.values("alt") == [escaped, ""]


def test_the_page_is_written_whole_and_alone(blank, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    run_page.write(report(), path)
    assert path.read_text(encoding="utf-8") == run_page.render(report())
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_the_template_is_package_data():
    for name in ("report.html.j2", "report.js"):
        assert importlib.resources.files("crackflow.report").joinpath("templates", name).is_file()


def test_the_report_needs_no_tensorflow():
    code = (
        "import sys, crackflow.report.run_page as page; "
        "sys.exit('tensorflow' in sys.modules or 'matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_figures_of_validation_are_called_so_and_are_no_headline():
    validated = dataclasses.replace(evaluation(), basis=results.VALIDATION, overlap={"n": 200, "trained_on": 0,
                              "validated_on": 200, "without": None})  # fmt: skip
    text = run_page.render(report(evaluations=[validated]))
    assert "<span>accuracy on validation, on which threshold, temperature and epoch were chosen</span>" in text
    assert "No image was kept for a test: these figures are of validation, on which threshold," in text
    assert "accuracy</b>" not in text and 'class="warn seen"' not in text
    copies = dataclasses.replace(validated, overlap=validated.overlap | {"trained_on": 3, "validated_on": 197})
    assert "(3 trained on, 197 on which" in run_page.render(report(evaluations=[copies]))
    tested = run_page.render(report(evaluations=[dataclasses.replace(evaluation(), basis=results.TEST)]))
    assert "accuracy</b>" in tested and "<span>accuracy</span>" in tested and "kept for a test" not in tested


def test_images_that_were_seen_in_training_are_told_in_red():
    without = metrics.measure(np.arange(20) % 2, np.linspace(0, 1, 20), np.arange(20), 0.5, 100, 0)
    overlap = {"n": 200, "trained_on": 170, "validated_on": 10, "without": without}
    text = run_page.render(report(evaluations=[dataclasses.replace(evaluation(name="<b>"), overlap=overlap)]))
    line = re.search(r'<p class="warn seen"><b>(.*)</b></p>', text)[1]
    assert line.startswith(
        "&lt;b&gt; test: 180 of 200 images were in the model&#39;s training data (170 trained on, 10 on"
    )
    assert f"without them: accuracy {without['accuracy']:.4f}" in line and "of 20, missed cracks" in line
    assert re.search(r"[.]seen {[^}]*color: var\(--fallen\)", text)
