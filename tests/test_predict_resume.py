"""crackflow.predict stopped, killed, its files torn, and run again: it ends with the files of an undisturbed run."""

import errno
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

from crackflow import predict
from crackflow.core.config.trained import PredictConfig
from crackflow.core.errors import RetryableError, UserError
from crackflow.data import image_file
from crackflow.inference import photo_files, prediction_log
from crackflow.model import model_file
from tests.helpers import support
from tests.helpers.gps_photos import located
from tests.helpers.jpegs import jpeg
from tests.helpers.walls import CARD, darkness, wall

pytestmark = pytest.mark.slow


def scene(y):
    """A JPEG of a wall with a crack that starts at row `y`, or with none."""
    return jpeg(wall(crack=None if y is None else ((0, y), (259, y + 30))))


COUNT = 6  # usable photographs
UNFINISHED = prediction_log.FOLDER


@pytest.fixture(scope="module")
def input_dir(tmp_path_factory):
    """model.h5; site/ with walls that all look different, one with a GPS position, and one broken file."""
    root = tmp_path_factory.mktemp("resume")
    model_file.save(str(root / "model.h5"), darkness(), CARD)
    for number in range(COUNT - 1):
        support.put(root / f"site/{number}.jpg", scene(20 + 8 * number if number % 2 else None))
    support.put(root / "site/here.jpg", located((46.0, 30.0, 0.0), (7.0, 0.0, 0.0), pixels=wall(crack=None)))
    support.put(root / "site/2 broken.jpg", b"\xff\xd8\xff broken")
    return root


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # --out is relative, because the page names it


def run(input_dir, **settings):
    settings = {"photos": str(input_dir / "site"), "model": str(input_dir / "model.h5"), "page_photos": 3} | settings
    return predict.run(PredictConfig(**{"out": "findings", "mm_per_px": 0.5} | settings))


def read(path):
    return pathlib.Path(path).read_text(encoding="utf-8")


def content(folder):
    """path -> bytes of every file."""
    data_by_path = {}
    for directory, _, names in os.walk(folder):
        for path in (os.path.join(directory, name) for name in names):
            with open(path, "rb") as file:
                data_by_path[os.path.relpath(path, folder)] = file.read()
    return data_by_path


@pytest.fixture(scope="module")
def undisturbed(input_dir, tmp_path_factory):
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("undisturbed"))
    run(input_dir)
    files = content("findings")
    os.chdir(before)
    assert set(files) >= {"findings.json", "predictions.csv", "rejected.csv", "findings.geojson", "report.html"}
    assert len(files) == 6 + COUNT  # tables, page and overlays; nothing unfinished
    return files


@pytest.fixture
def stop_after(monkeypatch):
    """`stop_after(n)`: raises KeyboardInterrupt when photograph n + 1 is about to be read; returns the list to which
    the files that are read are appended."""
    own = photo_files.read

    def set_up(count):
        seen = []

        def read(file, *settings):
            if len(seen) == count:
                raise KeyboardInterrupt
            seen.append(os.path.basename(file))
            return own(file, *settings)

        monkeypatch.setattr(photo_files, "read", read)
        return seen

    return set_up


def stopped(input_dir, stop_after, count, **settings):
    seen = stop_after(count)
    with pytest.raises(RetryableError) as stop:
        run(input_dir, **settings)
    stop_after(None)
    return seen, str(stop.value)


def test_a_stopped_run_goes_on_and_ends_as_if_nothing_had_been(input_dir, undisturbed, stop_after, capsys):
    seen, message = stopped(input_dir, stop_after, 4)
    assert seen == ["0.jpg", "1.jpg", "2 broken.jpg", "2.jpg"]
    assert message == ("stopped by a signal; 3 of 7 photographs are done, and the same command resumes with the others")
    assert os.listdir("findings") == [UNFINISHED]
    lines = read("findings/unfinished/photos.jsonl").splitlines()
    assert [json.loads(line)["prediction"]["name"] for line in lines[1:]] == ["0.jpg", "1.jpg", "2.jpg"]
    assert sorted(os.listdir("findings/unfinished/overlays")) == ["000001.jpg", "000002.jpg", "000003.jpg"]
    capsys.readouterr()
    seen = stop_after(None)
    run(input_dir)
    assert seen == ["2 broken.jpg", "3.jpg", "4.jpg", "here.jpg"]  # a rejected file may have been repaired
    assert "resuming: 3 of 7 photographs were scored before\n" in capsys.readouterr().out
    assert content("findings") == undisturbed
    assert os.listdir() == ["findings"]


@pytest.mark.parametrize("page_photos", [0, 1, 3])
def test_however_often_it_is_stopped_the_files_are_the_same(input_dir, stop_after, tmp_path, page_photos):
    os.makedirs("one")
    os.chdir("one")
    run(input_dir, page_photos=page_photos)
    os.makedirs("../other")
    os.chdir("../other")
    stops = 0
    while True:
        stop_after(2)  # later on, the broken file is one of the two
        try:
            run(input_dir, page_photos=page_photos)
            break
        except RetryableError:
            stops += 1
    assert stops == COUNT - 2
    assert content("findings") == content("../one/findings")


def test_a_finished_run_given_again_is_refused_and_replaced_with_overwrite(input_dir, undisturbed):
    run(input_dir)
    with pytest.raises(UserError, match="exists and is not empty; choose another folder, or replace it with --overwri"):
        run(input_dir)
    assert content("findings") == undisturbed
    run(input_dir, overwrite=True)
    assert set(content("findings")) == set(undisturbed)


def test_old_results_stay_until_the_new_ones_are_complete_and_the_command_resumes(input_dir, stop_after):
    run(input_dir, threshold=0.7)
    old = content("findings")
    stopped(input_dir, stop_after, 3, overwrite=True)
    assert {path: data for path, data in content("findings").items() if UNFINISHED not in path} == old
    with pytest.raises(UserError, match="exists and is not empty"):
        run(input_dir)
    seen = stop_after(None)
    run(input_dir, overwrite=True)
    assert "0.jpg" not in seen and "3.jpg" in seen
    assert json.loads(read("findings/findings.json"))["threshold"] == 0.5
    assert UNFINISHED not in os.listdir("findings")


def test_overwrite_begins_anew_what_was_begun_without_it(input_dir, stop_after, undisturbed):
    stopped(input_dir, stop_after, 3)
    seen = stop_after(None)
    run(input_dir, overwrite=True)
    assert len(seen) == COUNT + 1
    assert set(content("findings")) == set(undisturbed)


def test_another_command_is_refused_and_loses_nothing(input_dir, stop_after, undisturbed):
    stopped(input_dir, stop_after, 3)
    support.put("./wall.jpg", scene(90))
    before = content("findings")
    for flag, settings in {
        "--threshold: the unfinished results in 'findings' were begun with '0.0', received '0.7'; ": {"threshold": 0.7},
        "--mm_per_px: the unfinished results in 'findings' were begun with '0.5', rec": {"mm_per_px": 0.25},
        "--scale: the unfinished": {"mm_per_px": 0.0, "scale": 1.0},
        "--max_megapixels: the unfinished": {"max_megapixels": 1.0},
        "--photos: the unfinished": {"photos": "*.jpg"},
        "--suggest: the unfinished results in 'findings' were begun with '0', received '4'; ": {"suggest": 4},
        "--model: the unfinished": {"model": ""},
    }.items():
        with pytest.raises(UserError, match=re.escape(flag)) as refused:
            run(input_dir, **settings)
        assert "begin anew with --overwrite, or choose another --out" in str(refused.value)
        assert content("findings") == before
    run(input_dir)
    assert content("findings") == undisturbed


def test_flags_that_change_no_result_may_differ(input_dir, stop_after):
    """More photographs on the page than the first run cached for it: they are read again."""
    os.makedirs("one")
    os.chdir("one")
    run(input_dir, page_photos=5)
    os.makedirs("../other")
    os.chdir("../other")
    stopped(input_dir, stop_after, 6, page_photos=1)
    run(input_dir, page_photos=5)
    assert content("findings") == content("../one/findings")


def test_the_expected_share_may_differ_because_no_photograph_depends_on_it(input_dir, stop_after):
    os.makedirs("one")
    os.chdir("one")
    run(input_dir, expected_cracked=0.1)
    os.makedirs("../other")
    os.chdir("../other")
    stopped(input_dir, stop_after, 4, expected_cracked=0.02)
    seen = stop_after(None)
    run(input_dir, expected_cracked=0.1)
    assert "0.jpg" not in seen
    assert content("findings") == content("../one/findings")


@pytest.mark.parametrize("count", [2, 4, 7])
def test_suggested_windows_are_the_same_after_a_stop(input_dir, stop_after, count):
    """Also after one while they are cut, when each photograph has been scored."""
    os.makedirs("one")
    os.chdir("one")
    run(input_dir, suggest=6)
    os.makedirs("../other")
    os.chdir("../other")
    seen, message = stopped(input_dir, stop_after, count, suggest=6)
    assert len(seen) == count and "photographs are done, and the same command resumes" in message
    assert os.listdir("findings") == [UNFINISHED]
    run(input_dir, suggest=6)
    assert content("findings") == content("../one/findings")
    assert sum(name.endswith(".png") for name in content("findings")) == 6


def test_the_same_model_and_photographs_by_another_path_are_the_same(input_dir, stop_after, undisturbed):
    stopped(input_dir, stop_after, 4)
    os.symlink(input_dir / "model.h5", "copy.h5")
    seen = stop_after(None)
    run(input_dir, model="copy.h5", photos=str(input_dir / "site") + "/")
    assert "0.jpg" not in seen
    files = content("findings")
    assert {path for path in undisturbed if files[path] != undisturbed[path]} == {"report.html"}  # it shows the flags


@pytest.fixture
def own_site(input_dir):
    """A copy of the photographs that a test may change."""
    for name in os.listdir(input_dir / "site"):
        support.put(f"site/{name}", (input_dir / "site" / name).read_bytes())
    return "site"


def compare_with_one_run(input_dir, site):
    """The resumed run in findings/ equals a fresh run on the photographs as they are now."""
    os.rename("findings", "resumed")
    run(input_dir, photos=site)
    assert content("resumed") == content("findings")


def test_a_photograph_that_changed_meanwhile_is_looked_at_again(input_dir, stop_after, own_site):
    stopped(input_dir, stop_after, 5, photos=own_site)
    before = os.stat("site/1.jpg")
    support.put("site/1.jpg", scene(None))
    os.utime("site/1.jpg", ns=(before.st_atime_ns, before.st_mtime_ns))  # as a copy that preserves times
    seen = stop_after(None)
    run(input_dir, photos=own_site)
    assert "1.jpg" in seen and "0.jpg" not in seen
    compare_with_one_run(input_dir, own_site)


def test_a_photograph_that_was_only_touched_is_not(input_dir, stop_after, own_site):
    stopped(input_dir, stop_after, 5, photos=own_site)
    for name in os.listdir("site"):
        os.utime(f"site/{name}")
    seen = stop_after(None)
    run(input_dir, photos=own_site)
    assert seen == ["2 broken.jpg", "4.jpg", "here.jpg"]
    compare_with_one_run(input_dir, own_site)


def test_photographs_that_came_and_went_are_followed(input_dir, stop_after, own_site):
    stopped(input_dir, stop_after, 5, photos=own_site)
    os.remove("site/1.jpg")
    support.put("site/00.jpg", scene(30))
    support.put("site/2 broken.jpg", scene(50))  # repaired
    support.put("site/2.jpg", b"no photograph any more")
    seen = stop_after(None)
    run(input_dir, photos=own_site)
    assert seen == ["0.jpg", "00.jpg", "2 broken.jpg", "2.jpg", "4.jpg", "here.jpg"][1:]
    compare_with_one_run(input_dir, own_site)


TEARS = {
    "the last line half": lambda folder: truncate(f"{folder}/photos.jsonl", -40),
    "the last line without its end": lambda folder: truncate(f"{folder}/photos.jsonl", -1),
    "zeros at the end": lambda folder: append(f"{folder}/photos.jsonl", bytes(4096)),
    "half a line more": lambda folder: append(f"{folder}/photos.jsonl", b'{"file": "/a", "numb'),
    "a flipped bit": lambda folder: flip(f"{folder}/photos.jsonl", 2000),
    "an overlay of zeros": lambda folder: zero(f"{folder}/overlays/000002.jpg"),
    "half an overlay": lambda folder: truncate(f"{folder}/overlays/000003.jpg", -100),
    "no overlay": lambda folder: os.remove(f"{folder}/overlays/000001.jpg"),
    "an empty picture": lambda folder: truncate(f"{folder}/pictures/000001.jpg", 0),
    "no lines": lambda folder: truncate(f"{folder}/photos.jsonl", 0),
    "an overlay without a line": lambda folder: append(f"{folder}/overlays/000005.jpg", b"half"),
}


def truncate(path, size):
    os.truncate(path, size if size >= 0 else os.path.getsize(path) + size)


def append(path, data):
    with open(path, "ab") as file:
        file.write(data)


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


def zero(path):
    size = os.path.getsize(path)
    with open(path, "wb") as file:
        file.write(bytes(size))


@pytest.mark.parametrize("tear", TEARS.values(), ids=TEARS)
def test_what_a_power_cut_tore_is_looked_at_again(input_dir, stop_after, undisturbed, tear):
    stopped(input_dir, stop_after, 5)
    tear(f"findings/{UNFINISHED}")
    run(input_dir)
    assert content("findings") == undisturbed


@pytest.fixture
def disk(tmp_path):
    """`disk(kilobytes)`: a disk of that size, the same one each time."""
    mount_point = tmp_path / "disk"
    mount_point.mkdir()

    def sized(kilobytes):
        remount = "remount," if os.path.ismount(mount_point) else ""
        line = ["mount", "-t", "tmpfs", "-o", f"{remount}size={kilobytes}k", "tmpfs", str(mount_point)]
        done = subprocess.run(line, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"needs the right to mount a small disk: {done.stderr.strip()}")
        return mount_point

    yield sized
    os.chdir(tmp_path)
    subprocess.run(["umount", str(mount_point)], check=False)


def test_a_disk_that_fills_up_is_one_line_and_what_is_done_stays(input_dir, undisturbed, disk):
    """At whatever point: the disk grows a little each time, until the run completes."""
    size, done = 20, []
    os.chdir(disk(size))
    while size < 1000:
        try:
            run(input_dir)
            break
        except UserError as error:
            match = re.search(
                "the disk is full.*; (.) of 7 photographs are done, and the same command resumes", str(error)
            )
            done.append(int(match[1]) if match else 0)
            assert match or "the disk is full" in str(error) or "No space left" in str(error)
        except OSError as error:
            assert error.errno == errno.ENOSPC  # before the first photograph; flags.main reports it
        size += 20
        disk(size)
    assert done == sorted(done) and len(set(done)) > 3 and done[-1] == COUNT
    assert content("findings") == undisturbed


def command(input_dir):
    line = [
        support.interpreter(),
        "-m",
        "crackflow.predict",
        f"--photos={input_dir / 'many'}",
        f"--model={input_dir / 'model.h5'}",
    ]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=support.environment())


def lines_reach(count, process):
    deadline = time.monotonic() + 120
    while True:
        if os.path.exists("findings/unfinished/photos.jsonl"):
            with open("findings/unfinished/photos.jsonl", "rb") as file:
                if len(file.readlines()) > count:
                    return
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_kill_and_sigterm_at_any_moment_and_two_at_once(input_dir):
    """As a user runs it. The killed process leaves its hidden folder, which the next one removes."""
    for number in range(60):
        support.put(input_dir / f"many/{number:02d}.jpg", scene(10 + 2 * number))
    with command(input_dir) as process:
        lines_reach(2, process)
        process.kill()
    assert UNFINISHED in os.listdir("findings")
    with command(input_dir) as process:
        lines_reach(8, process)
        with pytest.raises(UserError, match="--out: another process is predicting for 'findings'; let it end"):
            predict.run(PredictConfig(photos=str(input_dir / "many"), model=str(input_dir / "model.h5")))
        process.send_signal(signal.SIGTERM)
        out, error = process.communicate(timeout=120)
    assert "resuming: " in out and process.returncode == 75
    assert re.fullmatch(r"crackflow.predict: stopped by a signal; \d+ of 60 photographs are done, .* others\n", error)
    predict.run(PredictConfig(photos=str(input_dir / "many"), model=str(input_dir / "model.h5")))
    resumed = content("findings")
    assert os.listdir() == ["findings"]
    os.rename("findings", "resumed")
    predict.run(PredictConfig(photos=str(input_dir / "many"), model=str(input_dir / "model.h5")))
    assert content("findings") == resumed


def test_the_photographs_among_which_the_results_lie_stay_the_same(input_dir, stop_after, own_site):
    """--out inside --photos: unfinished results are not taken for photographs."""
    settings = {"photos": own_site, "out": "site/findings"}
    stopped(input_dir, stop_after, 4, **settings)
    assert os.path.exists("site/findings/unfinished/overlays/000001.jpg")
    assert len(run(input_dir, **settings)["photos"]) == COUNT


def test_a_file_of_the_users_among_the_unfinished_is_never_removed(input_dir, stop_after):
    stopped(input_dir, stop_after, 3)
    support.put("findings/unfinished/notes.txt", b"mine")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="holds 'unfinished/notes.txt', which this command did not write"):
            run(input_dir, overwrite=overwrite)
    assert read("findings/unfinished/notes.txt") == "mine"


def test_what_a_system_leaves_in_a_folder_that_was_looked_into_is_no_hindrance(input_dir, stop_after, undisturbed):
    stopped(input_dir, stop_after, 3)
    support.put("findings/.DS_Store", b"\0\0\0\1Bud1")
    support.put("findings/unfinished/overlays/Thumbs.db", b"thumbs")
    run(input_dir)
    assert content("findings") == undisturbed


def test_the_sha256_of_a_photograph_is_computed_once(input_dir, monkeypatch):
    own, seen = image_file.digest, []
    monkeypatch.setattr(image_file, "digest", lambda data: (seen.append(len(data)), own(data))[1])
    run(input_dir)
    assert len(seen) == COUNT


def test_nothing_done_leaves_nothing(input_dir, stop_after):
    stop_after(0)
    with pytest.raises(KeyboardInterrupt):
        run(input_dir)
    assert os.listdir() == []
    os.makedirs("findings")
    with pytest.raises(KeyboardInterrupt):
        run(input_dir)
    assert os.listdir("findings") == []
