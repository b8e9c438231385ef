import json

import pytest

from crackflow.core import flags
from crackflow.core.config import TrainConfig
from crackflow.core.errors import UserError
from crackflow.run import folder


def test_a_new_folder_is_made(tmp_path):
    folder.prepare(str(tmp_path / "a" / "b"), overwrite=False)
    assert (tmp_path / "a" / "b").is_dir()


def test_a_folder_in_use_is_refused(tmp_path):
    (tmp_path / "thesis.doc").write_text("mine")
    with pytest.raises(UserError, match="exists and is not empty; choose another folder, or replace it"):
        folder.prepare(str(tmp_path), overwrite=False)


def test_overwrite_refuses_a_folder_that_crackflow_did_not_make(tmp_path):
    (tmp_path / "thesis.doc").write_text("mine")
    with pytest.raises(UserError, match="holds no flags.cfg, so crackflow did not make it"):
        folder.prepare(str(tmp_path), overwrite=True)
    assert (tmp_path / "thesis.doc").read_text() == "mine"


def test_overwrite_removes_what_a_run_writes_and_nothing_else(tmp_path):
    for name in ("flags.cfg", "model.h5", "thesis.doc"):
        (tmp_path / name).write_text("x")
    folder.prepare(str(tmp_path), overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(UserError, match="which is a file; choose another name"):
        folder.prepare(str(tmp_path / "run"), overwrite=False)


def test_saved_flags_replay_the_run(tmp_path):
    config = TrainConfig(data="/d a", run_dir=str(tmp_path), epochs=3, seed=9)
    folder.save_flags(str(tmp_path), config)
    assert flags.parse(TrainConfig, [f"--flagfile={tmp_path / 'flags.cfg'}"]) == config


def test_json_never_holds_a_nan(tmp_path):
    folder.save_json(str(tmp_path), "a.json", {"x": 1.5})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1.5}
    with pytest.raises(ValueError, match="Out of range float values"):
        folder.save_json(str(tmp_path), "a.json", {"x": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1.5}
