"""The examples in the documentation run, and the model card describes the model in the package."""

import contextlib
import io
import json
import re

import nbclient
import nbformat
import pytest
from PIL import Image

from tests.helpers import findings_files, support
from tests.helpers.walls import wall


def cells(page):
    return re.findall(r"```python\n(.*?)```", (support.ROOT / page).read_text(), re.S)


def run(texts, directory, monkeypatch):
    """What the cells print, run one after the other in `directory`."""
    monkeypatch.chdir(directory)
    printed, names = io.StringIO(), {}
    with contextlib.redirect_stdout(printed):
        for text in texts:
            exec(compile(text, "cell", "exec"), names)
    return printed.getvalue()


@pytest.mark.slow
def test_the_python_page_runs_from_top_to_bottom(tmp_path, monkeypatch):
    texts = cells("docs/PYTHON.md")
    assert len(texts) >= 7
    printed = run(texts, tmp_path, monkeypatch)
    assert "custom 128" in printed and "findings" in printed
    assert "expected a photograph, received 'missing.jpg': unreadable: No such file" in printed


@pytest.mark.parametrize("text", [cell for cell in cells("README.md") if "load_model()" in cell])
def test_the_readmes_example_runs(text, tmp_path, monkeypatch):
    Image.fromarray(wall()).save(tmp_path / "wall.jpg", quality=95)
    assert "wall.jpg" in run([text], tmp_path, monkeypatch)


def test_the_example_of_the_formats_reads_and_validates_findings(tmp_path, monkeypatch):
    support.put(tmp_path / "findings/findings.json", json.dumps(findings_files.content()).encode())
    printed = run(cells("docs/FORMATS.md"), tmp_path, monkeypatch)
    assert printed == "wall.jpg cracked 0.9 60 x 30 px at 10, 20\n"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Jupyter's packages
def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(support.ROOT))
    monkeypatch.delenv("CRACKFLOW_WARM", raising=False)
    notebook = nbformat.read(support.ROOT / "docs/quickstart.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    texts = ["".join(output.get("text", "") for output in cell.outputs) for cell in cells]
    assert "epoch 2/2: loss" in "".join(texts), "training says how it goes"
    assert not [name for name in map(str, cells) if "\\r" in name], "no progress bar leaves its steps in a cell"
    assert any("image/png" in output.get("data", {}) for cell in cells for output in cell.outputs)
    assert (tmp_path / "runs/first/model.h5").exists() and (tmp_path / "exported/parity.json").exists()


def test_the_model_card_names_what_it_must():
    text = (support.ROOT / "docs/MODEL_CARD.md").read_text()
    for wanted in ("10.17632/5y9wdsg2zt.2", "CC BY 4.0", "Özgenel", "Limits", "benchmarks/results/shipped.json"):
        assert wanted in text


def test_the_model_card_is_of_the_model_that_is_there():
    text = (support.ROOT / "docs/MODEL_CARD.md").read_text()
    assert support.sha256(support.ROOT / "crackflow/assets/crackflow.h5") in text
    assert (support.ROOT / "crackflow/assets/crackflow.h5").stat().st_size <= 2_500_000  # 600,000 parameters in float32
