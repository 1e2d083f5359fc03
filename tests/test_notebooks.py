"""The notebooks: their pages are those of their scripts, executed, and their cells run with what the code is today."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tiny_models import write_random_checkpoint

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"


def _execute() -> ModuleType:
    spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


execute = _execute()


@pytest.mark.parametrize("script", execute.NOTEBOOKS, ids=lambda script: script.stem)
def test_the_page_is_that_of_the_script_and_was_executed(script: Path) -> None:
    page = script.with_suffix(".ipynb")
    book = json.loads(page.read_text())
    written = [(cell["cell_type"], "".join(cell["source"])) for cell in book["cells"]]
    assert written == execute.cells(script.read_text())
    code = [cell for cell in book["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not any(output["output_type"] == "error" for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3
    assert page.stat().st_size < 1_500_000


@pytest.mark.cluster
@pytest.mark.parametrize("script", execute.NOTEBOOKS, ids=lambda script: script.stem)
def test_cells_run_with_any_checkpoint_that_steers(script: Path, tmp_path: Path) -> None:
    checkpoint = write_random_checkpoint(tmp_path / "random", perceptual="delta")
    code = "\n".join(text for kind, text in execute.cells(script.read_text()) if kind == "code")
    assert "default_checkpoint()" in code
    code = code.replace("default_checkpoint()", f"Path({str(checkpoint)!r})")
    environment = os.environ | {"MPLBACKEND": "agg", "TMPDIR": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
