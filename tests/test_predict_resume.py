"""crackflow.predict stopped, killed, torn and given again: it ends with the files of a run that nothing disturbed."""

import errno
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from crackflow import predict
from crackflow.core.config.trained import PredictConfig
from crackflow.core.errors import RetryableError, UserError
from crackflow.data import image_file
from crackflow.inference import photo_files, prediction_log
from crackflow.model import model_file
from tests import support
from tests.inference.test_photo_files import located
from tests.inference.test_predictor import CARD, darkness, wall
from tests.test_predict import jpeg


def scene(y):
    """A JPEG of a wall with a crack from the height `y` down, or none."""
    return jpeg(wall(crack=None if y is None else ((0, y), (259, y + 30))))


COUNT = 6  # photographs that can be used
UNFINISHED = prediction_log.FOLDER


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """model.h5; site/ with walls that all look different, one with a position, and a broken file among them."""
    root = tmp_path_factory.mktemp("resume")
    model_file.save(str(root / "model.h5"), darkness(), CARD)
    for number in range(COUNT - 1):
        support.put(root / f"site/{number}.jpg", scene(20 + 8 * number if number % 2 else None))
    support.put(root / "site/here.jpg", located((46.0, 30.0, 0.0), (7.0, 0.0, 0.0), pixels=wall(crack=None)))
    support.put(root / "site/2 broken.jpg", b"\xff\xd8\xff broken")
    return root


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # --out is relative: the page names it


def run(place, **settings):
    settings = {"photos": str(place / "site"), "model": str(place / "model.h5"), "page_photos": 3} | settings
    return predict.run(PredictConfig(**{"out": "findings", "mm_per_px": 0.5} | settings))


def read(path):
    return pathlib.Path(path).read_text(encoding="utf-8")


def content(folder):
    """path -> bytes of every file."""
    found = {}
    for where, _, names in os.walk(folder):
        for path in (os.path.join(where, name) for name in names):
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = file.read()
    return found


@pytest.fixture(scope="module")
def undisturbed(place, tmp_path_factory):
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("undisturbed"))
    run(place)
    found = content("findings")
    os.chdir(before)
    assert set(found) >= {"findings.json", "predictions.csv", "rejected.csv", "findings.geojson", "report.html"}
    assert len(found) == 5 + COUNT  # and overlays, and nothing of what was unfinished
    return found


@pytest.fixture
def stop_after(monkeypatch):
    """`stop_after(n)`: Ctrl-C comes when the photograph after the first n that are looked at is about to be read;
    gives the list of the files that are read."""
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


def stopped(place, stop_after, count, **settings):
    seen = stop_after(count)
    with pytest.raises(RetryableError) as stop:
        run(place, **settings)
    stop_after(None)
    return seen, str(stop.value)


def test_a_stopped_run_goes_on_and_ends_as_if_nothing_had_been(place, undisturbed, stop_after, capsys):
    seen, message = stopped(place, stop_after, 4)
    assert seen == ["0.jpg", "1.jpg", "2 broken.jpg", "2.jpg"]
    assert message == ("stopped by a signal; 3 of 7 photographs are done, and the same command goes on with the others")
    assert os.listdir("findings") == [UNFINISHED]
    lines = read("findings/unfinished/photos.jsonl").splitlines()
    assert [json.loads(line)["prediction"]["name"] for line in lines[1:]] == ["0.jpg", "1.jpg", "2.jpg"]
    assert sorted(os.listdir("findings/unfinished/overlays")) == ["000001.jpg", "000002.jpg", "000003.jpg"]
    capsys.readouterr()
    seen = stop_after(None)
    run(place)
    assert seen == ["2 broken.jpg", "3.jpg", "4.jpg", "here.jpg"]  # what was refused may have been mended
    assert "going on: 3 of 7 photographs were looked at before\n" in capsys.readouterr().out
    assert content("findings") == undisturbed
    assert os.listdir() == ["findings"]


@pytest.mark.parametrize("page_photos", [0, 1, 3])
def test_however_often_it_is_stopped_the_files_are_the_same(place, stop_after, tmp_path, page_photos):
    os.makedirs("one")
    os.chdir("one")
    run(place, page_photos=page_photos)
    os.makedirs("../other")
    os.chdir("../other")
    stops = 0
    while True:
        stop_after(2)  # the broken one is one of the two, from then on
        try:
            run(place, page_photos=page_photos)
            break
        except RetryableError:
            stops += 1
    assert stops == COUNT - 2
    assert content("findings") == content("../one/findings")


def test_a_finished_run_given_again_is_refused_and_replaced_with_overwrite(place, undisturbed):
    run(place)
    with pytest.raises(UserError, match="exists and is not empty; choose another folder, or replace it with --overwri"):
        run(place)
    assert content("findings") == undisturbed
    run(place, overwrite=True)
    assert set(content("findings")) == set(undisturbed)


def test_old_results_stay_until_their_replacement_is_whole_and_the_same_command_goes_on(place, stop_after):
    run(place, threshold=0.7)
    old = content("findings")
    stopped(place, stop_after, 3, overwrite=True)
    assert {path: data for path, data in content("findings").items() if UNFINISHED not in path} == old
    with pytest.raises(UserError, match="exists and is not empty"):
        run(place)
    seen = stop_after(None)
    run(place, overwrite=True)
    assert "0.jpg" not in seen and "3.jpg" in seen
    assert json.loads(read("findings/findings.json"))["threshold"] == 0.5
    assert UNFINISHED not in os.listdir("findings")


def test_overwrite_begins_anew_what_was_begun_without_it(place, stop_after, undisturbed):
    stopped(place, stop_after, 3)
    seen = stop_after(None)
    run(place, overwrite=True)
    assert len(seen) == COUNT + 1
    assert set(content("findings")) == set(undisturbed)


def test_another_command_is_refused_and_loses_nothing(place, stop_after, undisturbed):
    stopped(place, stop_after, 3)
    support.put("./wall.jpg", scene(90))
    before = content("findings")
    for flag, settings in {
        "--threshold: the unfinished results in 'findings' were begun with '0.0', received '0.7'; ": {"threshold": 0.7},
        "--mm_per_px: the unfinished results in 'findings' were begun with '0.5', rec": {"mm_per_px": 0.25},
        "--scale: the unfinished": {"mm_per_px": 0.0, "scale": 1.0},
        "--max_megapixels: the unfinished": {"max_megapixels": 1.0},
        "--photos: the unfinished": {"photos": "*.jpg"},
        "--model: the unfinished": {"model": ""},
    }.items():
        with pytest.raises(UserError, match=re.escape(flag)) as refused:
            run(place, **settings)
        assert "begin anew with --overwrite, or choose another --out" in str(refused.value)
        assert content("findings") == before
    run(place)
    assert content("findings") == undisturbed


def test_flags_that_change_no_result_may_differ(place, stop_after):
    """More photographs on the page than were kept for it: they are read again."""
    os.makedirs("one")
    os.chdir("one")
    run(place, page_photos=5)
    os.makedirs("../other")
    os.chdir("../other")
    stopped(place, stop_after, 6, page_photos=1)
    run(place, page_photos=5)
    assert content("findings") == content("../one/findings")


def test_the_same_model_elsewhere_and_the_same_photographs_by_another_path_are_the_same(place, stop_after, undisturbed):
    stopped(place, stop_after, 4)
    os.symlink(place / "model.h5", "copy.h5")
    seen = stop_after(None)
    run(place, model="copy.h5", photos=str(place / "site") + "/")
    assert "0.jpg" not in seen
    found = content("findings")
    assert {path for path in undisturbed if found[path] != undisturbed[path]} == {"report.html"}  # it shows the flags


@pytest.fixture
def own_site(place):
    """A copy of the photographs, to be changed."""
    for name in os.listdir(place / "site"):
        support.put(f"site/{name}", (place / "site" / name).read_bytes())
    return "site"


def compare_with_one_run(place, site):
    """The run in findings/, and one that sees the photographs as they are now for the first time."""
    os.rename("findings", "resumed")
    run(place, photos=site)
    assert content("resumed") == content("findings")


def test_a_photograph_that_changed_meanwhile_is_looked_at_again(place, stop_after, own_site):
    stopped(place, stop_after, 5, photos=own_site)
    before = os.stat("site/1.jpg")
    support.put("site/1.jpg", scene(None))
    os.utime("site/1.jpg", ns=(before.st_atime_ns, before.st_mtime_ns))  # a copy that keeps times
    seen = stop_after(None)
    run(place, photos=own_site)
    assert "1.jpg" in seen and "0.jpg" not in seen
    compare_with_one_run(place, own_site)


def test_a_photograph_that_was_only_touched_is_not(place, stop_after, own_site):
    stopped(place, stop_after, 5, photos=own_site)
    for name in os.listdir("site"):
        os.utime(f"site/{name}")
    seen = stop_after(None)
    run(place, photos=own_site)
    assert seen == ["2 broken.jpg", "4.jpg", "here.jpg"]
    compare_with_one_run(place, own_site)


def test_photographs_that_came_and_went_are_followed(place, stop_after, own_site):
    stopped(place, stop_after, 5, photos=own_site)
    os.remove("site/1.jpg")
    support.put("site/00.jpg", scene(30))
    support.put("site/2 broken.jpg", scene(50))  # mended
    support.put("site/2.jpg", b"no photograph any more")
    seen = stop_after(None)
    run(place, photos=own_site)
    assert seen == ["0.jpg", "00.jpg", "2 broken.jpg", "2.jpg", "4.jpg", "here.jpg"][1:]
    compare_with_one_run(place, own_site)


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
def test_what_a_power_cut_tore_is_looked_at_again(place, stop_after, undisturbed, tear):
    stopped(place, stop_after, 5)
    tear(f"findings/{UNFINISHED}")
    run(place)
    assert content("findings") == undisturbed


@pytest.fixture
def disk(tmp_path):
    """`disk(kilobytes)`: a disk of that size, the same one each time."""
    place = tmp_path / "disk"
    place.mkdir()

    def sized(kilobytes):
        remount = "remount," if os.path.ismount(place) else ""
        line = ["mount", "-t", "tmpfs", "-o", f"{remount}size={kilobytes}k", "tmpfs", str(place)]
        done = subprocess.run(line, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"needs the right to mount a small disk: {done.stderr.strip()}")
        return place

    yield sized
    os.chdir(tmp_path)
    subprocess.run(["umount", str(place)], check=False)


def test_a_disk_that_fills_up_is_one_line_and_what_is_done_stays(place, undisturbed, disk):
    """Wherever it happens: it grows by a little, until the run goes through."""
    size, done = 20, []
    os.chdir(disk(size))
    while size < 1000:
        try:
            run(place)
            break
        except UserError as error:
            found = re.search(
                "the disk is full.*; (.) of 7 photographs are done, and the same command goes", str(error)
            )
            done.append(int(found[1]) if found else 0)
            assert found or "the disk is full" in str(error) or "No space left" in str(error)
        except OSError as error:
            assert error.errno == errno.ENOSPC  # before the first photograph; flags.main says it
        size += 20
        disk(size)
    assert done == sorted(done) and len(set(done)) > 3 and done[-1] == COUNT
    assert content("findings") == undisturbed


def command(place):
    line = [sys.executable, "-m", "crackflow.predict", f"--photos={place / 'many'}", f"--model={place / 'model.h5'}"]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=support.environment())


def lines_reach(count, process):
    deadline = time.monotonic() + 120
    while True:
        try:
            with open("findings/unfinished/photos.jsonl", "rb") as file:
                if len(file.readlines()) > count:
                    return
        except OSError:
            pass
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_kill_and_sigterm_at_any_moment_and_two_at_once(place):
    """As a user runs it. The killed one leaves its hidden folder, which the next removes."""
    for number in range(60):
        support.put(place / f"many/{number:02d}.jpg", scene(10 + 2 * number))
    with command(place) as process:
        lines_reach(2, process)
        process.kill()
    assert UNFINISHED in os.listdir("findings")
    with command(place) as process:
        lines_reach(8, process)
        with pytest.raises(UserError, match="--out: another process looks at photographs for 'findings'; let it end"):
            predict.run(PredictConfig(photos=str(place / "many"), model=str(place / "model.h5")))
        process.send_signal(signal.SIGTERM)
        out, error = process.communicate(timeout=120)
    assert "going on: " in out and process.returncode == 75
    assert re.fullmatch(r"crackflow.predict: stopped by a signal; \d+ of 60 photographs are done, .* others\n", error)
    predict.run(PredictConfig(photos=str(place / "many"), model=str(place / "model.h5")))
    resumed = content("findings")
    assert os.listdir() == ["findings"]
    os.rename("findings", "resumed")
    predict.run(PredictConfig(photos=str(place / "many"), model=str(place / "model.h5")))
    assert content("findings") == resumed


def test_the_photographs_among_which_the_results_lie_stay_the_same(place, stop_after, own_site):
    """--out inside --photos: what is unfinished is no photograph."""
    settings = {"photos": own_site, "out": "site/findings"}
    stopped(place, stop_after, 4, **settings)
    assert os.path.exists("site/findings/unfinished/overlays/000001.jpg")
    assert len(run(place, **settings)["photos"]) == COUNT


def test_a_file_of_the_users_among_the_unfinished_is_never_removed(place, stop_after):
    stopped(place, stop_after, 3)
    support.put("findings/unfinished/notes.txt", b"mine")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="holds 'unfinished/notes.txt', which this command did not write"):
            run(place, overwrite=overwrite)
    assert read("findings/unfinished/notes.txt") == "mine"


def test_what_a_system_leaves_in_a_folder_that_was_looked_into_is_no_hindrance(place, stop_after, undisturbed):
    stopped(place, stop_after, 3)
    support.put("findings/.DS_Store", b"\0\0\0\1Bud1")
    support.put("findings/unfinished/overlays/Thumbs.db", b"thumbs")
    run(place)
    assert content("findings") == undisturbed


def test_the_sha256_of_a_photograph_is_computed_once(place, monkeypatch):
    own, seen = image_file.digest, []
    monkeypatch.setattr(image_file, "digest", lambda data: (seen.append(len(data)), own(data))[1])
    run(place)
    assert len(seen) == COUNT


def test_nothing_done_leaves_nothing(place, stop_after):
    stop_after(0)
    with pytest.raises(KeyboardInterrupt):
        run(place)
    assert os.listdir() == []
    os.makedirs("findings")
    with pytest.raises(KeyboardInterrupt):
        run(place)
    assert os.listdir("findings") == []
