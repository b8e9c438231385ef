"""Evaluations and reports for pages."""

import base64
import dataclasses
import html.parser
import re

import numpy as np
import pytest

from crackflow.evaluation import metrics, results
from crackflow.report import run_page

CLASSES = ("Negative", "Positive")

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

SHARD = {"file": "test-00000-of-00001.tfrecord", "count": 10, "bytes": 2_500_000, "sha256": "0" * 64}

DATA = {
    "version": 1,
    "classes": list(CLASSES),
    "positive_class": "Positive",
    "image_px": 227,
    "channels": 3,
    "encoding": "jpeg",
    "splits": {
        "train": {"count": 8000, "class_counts": {"Negative": 4100, "Positive": 3900}, "shards": [SHARD] * 4},
        "test": {"count": 1000, "class_counts": {"Negative": 600, "Positive": 400}, "shards": [SHARD]},
    },
    "seed": 7,
    "group_by": "near_duplicates",
    "fingerprint": "f1" * 32,
    "source": "/data/metu",
    "created": "2026-01-05T10:11:12Z",
    "leaks": {
        "images": 9000,
        "groups": 7654,
        "byte_copies": 321,
        "near_copies": 1025,
        "conflicts": 2,
        "random_split_twins": 317,
        "random_split_test": 1000,
        "split_twins": 0,
    },
    "rejected": 13,
    "notes": ["3 orientations applied"],
}

HISTORY = [
    {"epoch": 1, "loss": 0.5, "accuracy": 0.8, "val_loss": 0.41, "val_accuracy": 0.85, "images_per_sec": 2000.0},
    {"epoch": 2, "loss": 0.3, "accuracy": 0.9, "val_loss": 0.25, "val_accuracy": 0.91, "images_per_sec": 3000.0},
    {"epoch": 3, "loss": 0.2, "accuracy": 0.95, "val_loss": 0.27, "val_accuracy": 0.9, "images_per_sec": 2500.0},
]


def evaluation(wrong=6, count=200, name="metu", mistakes=None, classes=CLASSES):
    """`wrong` cracked images score like clean ones; one picture is kept for each unless `mistakes` says otherwise."""
    labels = np.arange(count) % 2
    probabilities = np.where(labels, 0.9, 0.1) + 0.0001 * np.arange(count)
    probabilities[1 : 2 * wrong : 2] = 0.05
    measured = metrics.measure(labels, probabilities, np.arange(count), 0.37, 100, 0)
    if mistakes is None:
        mistakes = [results.Mistake(f"Positive/{number:05d}.jpg", classes[1], 0.05, PNG) for number in range(wrong)]
    return results.Evaluation(name, "test", measured, labels, probabilities, mistakes, classes)


def report(**changes):
    whole = run_page.Report(
        title="metu, run 3",
        headline="crackflow_s, trained on 8,000 images of metu.",
        data=DATA,
        evaluations=[evaluation()],
        history=HISTORY,
        facts={"Network": "crackflow_s", "Threshold": "0.37, best F1 on validation"},
        flags="--seed=7\n--epochs=3\n",
        versions={"tensorflow": "2.21.0"},
    )
    return dataclasses.replace(whole, **changes)


BLOCKS = ("td", "th", "dt", "dd", "small", "br", "b", "figcaption")


class Reader(html.parser.HTMLParser):
    """Tags in order, attributes, and the text outside <style> and <script>."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.attributes, self.words, self.open = [], [], [], []
        self.source = source
        self.feed(source)
        self.text = re.sub(r"\s+", " ", "".join(self.words)).replace("\u00a0", " ")

    def handle_starttag(self, tag, attributes):
        self.words.append(" " if tag in BLOCKS else "")
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attributes]
        if tag not in ("meta", "img", "br", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attributes]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    def values(self, name):
        return [value for _, key, value in self.attributes if key == name]


def read(**changes):
    return Reader(run_page.render(report(**changes)))


@pytest.fixture(scope="module")
def whole():
    return read()
