"""Execute the notebooks: a notebook is written as Python with cells (``# %%``) and committed with its outputs.

python docs/notebooks/execute.py     (or `make notebook`)
"""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
NOTEBOOKS = (FOLDER / "score_to_performance.py",)


def cells(source: str) -> list[tuple[str, str]]:
    """The cells of a script: ``markdown`` or ``code``, and their text."""
    found = []
    for kind, text in re.findall(r"^# %%(.*)\n((?:(?!# %%).*\n?)*)", source, re.MULTILINE):
        if "[markdown]" in kind:
            found.append(("markdown", re.sub(r"^# ?", "", text.strip(), flags=re.MULTILINE)))
        else:
            found.append(("code", text.strip()))
    return found


def execute(script: Path) -> Path:
    """Run a script's cells in a kernel and write the notebook with what they showed."""
    import nbformat
    from nbclient import NotebookClient

    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    book = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    make = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    book.cells = [make[kind](text, id=f"cell-{k}") for k, (kind, text) in enumerate(cells(script.read_text()))]
    NotebookClient(book, timeout=1800, kernel_name="python3", resources={"metadata": {"path": FOLDER}}).execute()
    for cell in book.cells:
        cell.metadata.clear()  # times of execution
        if cell.cell_type == "code":  # standard error tells progress
            cell.outputs = [shown for shown in cell.outputs if shown.get("name") != "stderr"]
    notebook = script.with_suffix(".ipynb")
    nbformat.write(book, notebook)
    return notebook


if __name__ == "__main__":
    for script in NOTEBOOKS:
        print(execute(script))
