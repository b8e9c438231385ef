import io
import os
import pty
import subprocess
import sys

import pytest

from crackflow.core import console, escaping
from tests.helpers import support

SHOW = """
import sys
from crackflow.core import console
with console.progress_bar(10, 'reading images') as advance:
    for _ in range(10):
        advance(1)
console.info('done')
"""


def test_nothing_is_drawn_when_stderr_is_no_terminal():
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, env=support.environment())
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_a_terminal_shows_what_is_done_how_far_and_the_speed():
    reader, terminal = pty.openpty()
    environment = support.environment() | {"TERM": "xterm", "COLUMNS": "120"}
    done = subprocess.run([sys.executable, "-c", SHOW], stdout=subprocess.PIPE, stderr=terminal, env=environment)
    os.close(terminal)
    output = os.read(reader, 1 << 16).decode()
    os.close(reader)
    assert done.stdout == b"done\n"
    assert "reading images" in output and "10/10" in output and "images/s" in output


def test_odd_file_names_can_be_said(capsys):
    console.info("a 裂 \udcff")
    assert capsys.readouterr().out == "a 裂 \\udcff\n"


NAME = "a\x1b]0;owned\x07\u202egpj[red]\n.jpg"
SHOWN = "a\\x1b]0;owned\\x07\\u202egpj[red]\\n.jpg"


def test_a_name_does_nothing_to_the_terminal_whichever_way_it_is_said(capsys):
    console.info(NAME)
    console.info_lines(f"first\nsecond {escaping.one_line(NAME)}")
    console.print_table([NAME, "b"], [[(NAME, True), ("1", False)]])
    console.warning(NAME)
    console.alert(NAME)
    console.error(f"Traceback\n  of {NAME.strip()}\n")
    out, error = capsys.readouterr()
    assert out.splitlines()[:3] == [SHOWN, "first", f"second {SHOWN}"]
    assert [line.split()[0] for line in out.splitlines()[3:]] == [SHOWN, SHOWN]
    assert error.splitlines()[:2] == [f"warning: {SHOWN}", f"WARNING: {SHOWN}"]
    assert not set("\x1b\x07\u202e") & set(out + error)


def test_a_bar_shows_a_name_as_it_is_read():
    code = f"from crackflow.core import console\nwith console.progress_bar(1, {NAME!r}) as advance: advance(1)"
    reader, terminal = pty.openpty()
    environment = support.environment() | {"TERM": "xterm", "COLUMNS": "150"}
    done = subprocess.run([sys.executable, "-c", code], stderr=terminal, env=environment)
    os.close(terminal)
    output = os.read(reader, 1 << 16).decode()
    os.close(reader)
    assert done.returncode == 0 and SHOWN in output and "\x1b]0" not in output and "\u202e" not in output


def test_what_python_itself_says_of_a_name_does_nothing_either():
    """A traceback, a warning and a line of the log of another package."""
    code = f"""
import logging, warnings
from crackflow.core import console
console.make_streams_safe()
logging.getLogger("pillow").warning("log of " + {NAME!r})
warnings.warn("warning of " + {NAME!r})
raise ValueError("fault of " + {NAME!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=support.environment())
    for kind in ("log", "warning", "fault"):
        assert f"{kind} of a\\x1b]0;owned\\x07\\u202egpj[red]" in done.stderr
    assert done.returncode == 1 and not set("\x1b\x07\u202e") & set(done.stderr)


def test_one_of_several_workers_speaks():
    code = "from crackflow.core import console; console.set_quiet(); console.info('not heard')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=support.environment())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_reader_that_has_gone_does_not_end_the_work(tmp_path):
    """`| head -1`"""
    script = f"""
from crackflow.core import console
for number in range(20_000):
    console.info(str(number))
console.print_table(["a", "b"], [[("1", False), ("2", True)]])
open({str(tmp_path / "done")!r}, "w").close()
"""
    (tmp_path / "long.py").write_text(script)
    line = f"{sys.executable} {tmp_path / 'long.py'} | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=support.environment())
    assert (done.stdout, done.stderr) == ("0\n", "") and (tmp_path / "done").exists()


def test_a_warning_is_one_line_on_stderr_whatever_its_letters(capsys):
    console.warning("val has none of 'Risse in Wänden\udcff'")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "warning: val has none of 'Risse in Wänden\\udcff'\n"


@pytest.mark.parametrize("function", ["warning", "alert"])
def test_a_full_disk_behind_stderr_does_not_end_the_work(function):
    code = f"from crackflow.core import console; console.{function}('a'); console.{function}('b'); print('c')"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=full, text=True, env=support.environment()
        )
    assert (done.returncode, done.stdout) == (0, "c\n")


def test_a_warning_escapes_what_stderr_can_not_hold(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(raw, encoding="cp1252"))
    console.warning("ä 裂 \udcff")
    assert raw.getvalue().decode("cp1252").strip() == "warning: ä \\u88c2 \\udcff"


def test_a_line_of_any_script_can_be_said_to_a_stream_of_few_letters(monkeypatch):
    """In Python, without `make_streams_safe`."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="cp1252"))
    console.info("ä 裂 \udcff")
    console.print_table(["photograph"], [[("裂", True)]])
    assert raw.getvalue().decode("cp1252").splitlines() == ["ä \\u88c2 \\udcff", "photograph", "\\u88c2 !      "]


def test_without_stdout_nothing_is_said(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", None)
    console.info("not heard")
    console.print_table(["a"], [[("1", False)]])
    assert capsys.readouterr() == ("", "")


def test_a_full_disk_behind_stdout_is_said_once_and_does_not_end_the_work(tmp_path):
    code = "from crackflow.core import console; console.info('a'); console.info('b'); print('c')"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, env=support.environment()
        )
    assert done.returncode == 0
    assert done.stderr == "warning: stdout can't be written (No space left on device); continuing without it\n"
