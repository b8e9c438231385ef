import json

import numpy as np
import pytest

from crackflow.training import fold_log


def fail():
    raise AssertionError("computed again")


def test_a_fold_is_computed_once(tmp_path):
    first = fold_log.FoldLog(str(tmp_path / "out"), "same")
    logits = first.recall(0, lambda: np.array([0.1, -2.5], np.float32))
    again = fold_log.FoldLog(str(tmp_path / "out"), "same")
    np.testing.assert_array_equal(again.recall(0, fail), logits)
    assert (first.recalled, again.recalled) == (0, 1)
    np.testing.assert_array_equal(again.recall(1, lambda: np.zeros(3)), np.zeros(3))


@pytest.mark.parametrize("damage", ["other", "bit", "empty", "list", "gone"])
def test_a_fold_of_something_else_or_damaged_is_computed_anew(tmp_path, damage):
    out = str(tmp_path / "out")
    fold_log.FoldLog(out, "same").recall(0, lambda: np.array([1.0, 2.0]))
    path = tmp_path / "out" / fold_log.FOLDER / "fold-0.json"
    text = path.read_text()
    path.write_text({"bit": text.replace("1.0", "1.5"), "empty": "", "list": json.dumps([1])}.get(damage, text))
    if damage == "gone":
        path.unlink()
    log = fold_log.FoldLog(out, "other" if damage == "other" else "same")
    np.testing.assert_array_equal(log.recall(0, lambda: np.array([7.0])), [7.0])
    assert log.recalled == 0
