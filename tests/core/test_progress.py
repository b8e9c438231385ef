import os
import pty
import subprocess
import sys

from crackflow.core import progress
from tests import support

SHOW = """
import sys
from crackflow.core import progress
with progress.bar(10, 'reading images') as advance:
    for _ in range(10):
        advance(1)
progress.say('done')
"""


def test_nothing_is_drawn_when_stderr_is_no_terminal():
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, env=support.environment())
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_terminal_shows_what_is_done_how_far_and_the_speed():
    ours, theirs = pty.openpty()
    environment = support.environment() | {"TERM": "xterm", "COLUMNS": "120"}
    done = subprocess.run([sys.executable, "-c", SHOW], stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.stdout == b"done\n"
    assert "reading images" in shown and "10/10" in shown and "images/s" in shown


def test_odd_file_names_can_be_said(capsys):
    progress.say("a 裂 \udcff")
    assert capsys.readouterr().out == "a 裂 \\udcff\n"


def test_one_of_several_workers_speaks():
    code = "from crackflow.core import progress; progress.be_silent(); progress.say('not heard')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=support.environment())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
