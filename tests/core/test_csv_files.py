import csv
import hashlib
import os
import subprocess
import sys
import tempfile

from hypothesis import given
from hypothesis import strategies as st

from crackflow.core import csv_files
from tests.helpers import support

# A file name may hold any byte but NUL and the slash; these are such names as Python decodes them.
NAME = st.binary(min_size=1, max_size=20).map(lambda data: os.fsdecode(data.replace(b"\0", b"\r").replace(b"/", b"\n")))


@given(st.lists(st.tuples(NAME, NAME), max_size=20))
def test_names_of_any_bytes_come_back_as_they_went_out(tmp_path_factory, rows):
    path = str(tmp_path_factory.getbasetemp() / "table.csv")
    sha256 = csv_files.save(path, ("path", "reason"), iter(rows))
    assert [(row["path"], row["reason"]) for row in csv_files.read(path)] == rows
    with open(path, "rb") as file:
        assert hashlib.sha256(file.read()).hexdigest() == sha256


def test_plain_rows_are_written_plainly_and_odd_ones_quoted(tmp_path):
    path = tmp_path / "table.csv"
    csv_files.save(str(path), ("path", "label"), [("a b.jpg", 1), ('q"c,.jpg', 0), ("a;b.jpg", -1.5), ("", 2)])
    assert path.read_bytes() == b'path,label\na b.jpg,1\n"q""c,.jpg",0\n"a;b.jpg",-1.5\n,2\n'


def test_other_readers_of_csv_see_the_same_rows_with_what_acts_made_visible(tmp_path):
    names = ["carriage\rreturn", "new\nline", "\x1b[2J\udcff", ' "quoted" , comma', "=1+1"]
    csv_files.save(str(tmp_path / "table.csv"), ("path", "label"), [(name, 1) for name in names])
    expected = ["carriage\\x0dreturn", "new\\x0aline", "\\x1b[2J\\udcff", ' "quoted" , comma', "'=1+1"]
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["path", "label"], *([name, "1"] for name in expected)]


def test_a_table_of_an_earlier_version_is_read_as_it_was_written(tmp_path):
    (tmp_path / "table.csv").write_bytes(b'path,label\n"new\nline\xff.jpg",1\n=1.jpg,2\nC:\\a.jpg,3\n')
    names = [row["path"] for row in csv_files.read(str(tmp_path / "table.csv"))]
    assert names == ["new\nline\udcff.jpg", "=1.jpg", "C:\\a.jpg"]


def test_more_rows_than_one_write_holds_are_all_there(tmp_path):
    count = csv_files.ROWS_A_WRITE * 2 + 3
    csv_files.save(str(tmp_path / "table.csv"), ("n",), ((number,) for number in range(count)))
    assert [int(row["n"]) for row in csv_files.read(str(tmp_path / "table.csv"))] == list(range(count))


def test_a_table_without_rows_is_its_header(tmp_path):
    csv_files.save(str(tmp_path / "table.csv"), ("path", "reason"), [])
    assert (tmp_path / "table.csv").read_bytes() == b"path,reason\n"
    assert csv_files.read(str(tmp_path / "table.csv")) == []


def test_a_name_is_utf8_where_it_can_be_whatever_the_locale():
    code = "import os; from crackflow.core.csv_files import utf8_name; print(ascii([*map(utf8_name, os.listdir())]))"
    literally = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    for name, text in (("裂".encode(), "'\\u88c2'"), (b"\xe4", "'\\udce4'")):
        with tempfile.TemporaryDirectory() as directory:
            open(os.path.join(os.fsencode(directory), name), "w").close()
            for surroundings in ({}, literally):
                environment = support.environment() | surroundings
                done = subprocess.run([sys.executable, "-c", code], cwd=directory, env=environment, capture_output=True)
                assert done.stdout.decode() == f"[{text}]\n", done.stderr
