import json

from crackflow import doctor
from crackflow.core.config.tools import DoctorConfig
from crackflow.core.throughput import Throughput
from crackflow.training import profiling
from tests.helpers import small, support

STAGES = [
    profiling.DISK,
    profiling.RECORDS,
    profiling.DECODE,
    profiling.STREAM,
    profiling.PACK,
    profiling.AUGMENT,
    profiling.STEP,
    profiling.TOGETHER,
]


def test_every_stage_of_ones_own_data_is_measured_and_written_down(tmp_path, capfd):
    path = tmp_path / "doctor.json"
    config = DoctorConfig(data=small.data().folder, image_px=32, batch_size=8, seconds=0.05, windows=2, json=str(path))
    content = doctor.run(config)
    assert json.loads(path.read_text()) == content
    assert set(content) == {"machine", "versions", "results"}
    stages = content["results"]["stages"]
    assert [stage["name"] for stage in stages] == STAGES
    assert all(0 < stage["low"] <= stage["median"] <= stage["high"] for stage in stages)
    stdout = capfd.readouterr().out
    assert all(name in stdout for name in STAGES)
    assert "bottleneck: " in stdout and "what helps: " in stdout


def test_without_data_images_are_made_and_removed(tmp_path):
    data = doctor.make_data(str(tmp_path), 100)
    assert sum(data.count(split) for split in ("train", "val", "test")) == 100


def test_the_table_is_aligned():
    stages = [
        profiling.StageTiming("disk", Throughput(1234567, 9, 10), "a note"),
        profiling.StageTiming("train step", Throughput(1, 1, 1), ""),
    ]
    first, second, third = doctor.table(stages).splitlines()
    assert second == "disk        1,234,567            9 to 10  a note"
    assert first.index("images/s") + len("images/s") == second.index("7  ") + 1
    assert third.startswith("train step          1")


def test_a_folder_without_data_is_one_line_and_exit_2(tmp_path):
    ended = support.command("doctor", f"--data={tmp_path}")
    support.expect_one_line(ended, 2)
    assert ended.stderr.startswith("crackflow.doctor: expected a dataset made by crackflow.convert")


def test_a_folder_is_no_file_to_write(tmp_path):
    done = support.called("doctor", f"--json={tmp_path}")
    support.expect_one_line(done, 2, "--json: expected a file to write, received the folder", "name a file in it")
