"""Systems and file systems that can't be asked to keep room for a file: macOS, Windows; musl, NFS 3, ZFS."""

import errno
import os
import subprocess
import sys

import pytest

from tests.helpers import support


@pytest.mark.parametrize("mode", ["none", "eop"])
def test_photographs_are_converted_without_posix_fallocate(report, tmp_path, mode):
    folder = report("14-posix-fallocate")
    images = support.photos(tmp_path / "images", 12)
    line = [sys.executable, folder / "sim.py", mode, f"--images={images}", f"--out={tmp_path / 'data'}", "--workers=1"]
    done = subprocess.run(line, env=support.environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr.startswith("warning: train has ") and done.stderr.count("\n") == 1
    assert len(support.stored(tmp_path / "data")) == 12
    assert not list((tmp_path / "data").glob("*.tmp"))


def refusing(monkeypatch, code):
    def posix_fallocate(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", posix_fallocate)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.ENODEV], ids=errno.errorcode.get)
def test_other_refusals_are_no_reason_to_fail(tmp_path, monkeypatch, code):
    images = support.photos(tmp_path / "images", 12)
    usual = support.converted(images, tmp_path / "usual")
    refusing(monkeypatch, code)
    assert support.converted(images, tmp_path / "data")["fingerprint"] == usual["fingerprint"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    images = support.photos(tmp_path / "images", 12)
    refusing(monkeypatch, errno.ENOSPC)
    done = support.called("convert", f"--images={images}", f"--out={tmp_path / 'data'}", "--workers=1")
    support.expect_one_line(done, 2, "the disk is full")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
