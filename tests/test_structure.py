"""Facts about the repository itself: who imports whom, what importing does, and that the README is true."""

import ast
import pathlib
import re
import runpy
import subprocess
import sys

import pytest
import setuptools
from packaging.requirements import Requirement

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "crackflow"
# Each may import those before it.
ROOMS = [
    *("core", "data", "synthesis", "conversion", "pipeline", "model", "training", "explanation"),
    *("inference", "evaluation", "search", "report"),
]

FILLERS = set("found made told one place where shown chosen kept taken held often given".split())


def modules():
    return sorted(path for path in PACKAGE.rglob("*.py"))


def imported(path):
    """Full names of what a file imports from crackflow."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return {name for name in names if name.startswith("crackflow.")}


def room_of(path):
    inside = path.relative_to(PACKAGE).parts
    return inside[0] if len(inside) > 1 else None


def test_imports_point_one_way():
    pages = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__", "version"}
    wrong = []
    for path in modules():
        room = room_of(path)
        for name in imported(path):
            part = name.split(".")[1]
            if part in pages or (room and part in ROOMS and ROOMS.index(part) > ROOMS.index(room)):
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert not wrong


def test_every_room_has_its_rank():
    assert sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()) == sorted(ROOMS)


def test_no_function_imports():
    wrong = []
    for path in modules():
        functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
        inside = [node for function in functions for node in ast.walk(function)]
        wrong += [path for node in inside if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not wrong


def test_every_module_says_what_it_owns():
    assert not [path for path in modules() if not ast.get_docstring(ast.parse(path.read_text()))]


def test_no_module_is_longer_than_400_lines():
    assert not [path for path in modules() if len(path.read_text().splitlines()) > 400]


def test_no_class_name_stands_for_two_things():
    names = [
        node.name
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    assert sorted(names) == sorted(set(names))


def identifiers(tree):
    """Of variables, parameters, attributes, functions and classes; not of what numpy and TensorFlow have."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and not (
            isinstance(node.value, ast.Name) and node.value.id in ("np", "tf")
        ):
            yield node.attr


@pytest.mark.parametrize("folder", ["crackflow", "tests", "benchmarks"])
def test_names_say_what_a_thing_is(folder):
    """`found`, `one` and the like say nothing: at most 5 in 1,000 lines."""
    count = lines = 0
    for path in (ROOT / folder).rglob("*.py"):
        text = path.read_text()
        count += sum(name in FILLERS for name in identifiers(ast.parse(text)))
        lines += len(text.splitlines())
    assert count <= 5 * lines / 1000


def test_no_test_module_imports_another():
    wrong = []
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tests":
                names = [node.module.split(".")[-1], *(alias.name for alias in node.names)]
                wrong += [path for name in names if name.startswith("test_")]
    assert not wrong


def test_names_of_tests_are_no_longer_than_80_characters():
    names = [
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]
    assert len(names) > 1000 and not [name for name in names if len(name) > 80]


@pytest.mark.parametrize("name", ["crackflow", "crackflow.convert", "crackflow.synth"])
def test_importing_loads_no_tensorflow(name):
    code = f"import sys, {name}; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_only_the_backend_aliases_keras():
    using = [path.name for path in modules() if "sys.modules" in path.read_text()]
    assert using == ["backend.py"]


def test_the_readme_tree_is_the_disk():
    text = (ROOT / "README.md").read_text()
    tree = re.search(r"```text\n(.*?)```", text, re.S)[1]
    named = set(re.findall(r"^  ([\w/]+\.py)", tree, re.M))
    on_disk = {str(path.relative_to(PACKAGE)) for path in modules() if path.name != "__init__.py"}
    assert named == on_disk


def test_the_readme_shows_code_within_its_first_twenty_lines():
    assert "```bash" in "\n".join((ROOT / "README.md").read_text().splitlines()[:20])


def test_every_link_of_the_readme_leads_somewhere():
    links = re.findall(r"\]\((?!http|#)([^)#]+)", (ROOT / "README.md").read_text())
    assert links and not [link for link in links if not (ROOT / link).exists()]


def test_setup_is_the_one_home_of_dependencies():
    assert "dependencies" not in (ROOT / "pyproject.toml").read_text()
    constraints = (ROOT / "launch" / "constraints.txt").read_text()
    required = re.findall(r'"([A-Za-z][\w.-]*)[\[><=]', (ROOT / "setup.py").read_text())
    for name in set(required) - {"apache-beam"}:  # lives in an environment of its own
        assert re.search(rf"^{name.lower().replace('_', '-')}==", constraints, re.M | re.I), name


HAS_ADDONS = {
    ("linux", "x86_64", "3.11"): True,
    ("linux", "x86_64", "3.12"): False,
    ("linux", "aarch64", "3.11"): False,
    ("win32", "AMD64", "3.10"): False,
    ("darwin", "arm64", "3.10"): True,
}


def test_tensorflow_addons_is_asked_for_where_it_has_wheels(monkeypatch):
    asked = {}
    monkeypatch.setattr(setuptools, "setup", lambda **options: asked.update(options))
    runpy.run_path(str(ROOT / "setup.py"))
    addons = next(Requirement(line) for line in asked["install_requires"] if line.startswith("tensorflow-addons"))
    for machine, expected in HAS_ADDONS.items():
        environment = dict(zip(("sys_platform", "platform_machine", "python_version"), machine, strict=True))
        assert addons.marker.evaluate(environment) == expected, machine


@pytest.mark.slow
def test_the_readme_tables_are_made_from_the_results():
    done = subprocess.run([sys.executable, "-m", "benchmarks.report", "--check"], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr
