"""The three floors: imports go downwards only, and cheap commands stay cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {"dexter_model": {"tasks", "flows", "prefect", "ray"}, "tasks": {"flows"}, "flows": set()}


def imported_packages(path: Path) -> set[str]:
    """Top-level packages that a module imports anywhere, inside functions included."""
    packages = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            packages.add((node.module or "").split(".")[0])
    return packages


@pytest.mark.parametrize("floor", FORBIDDEN)
def test_imports_go_downwards_only(floor: str) -> None:
    modules = sorted((ROOT / floor).rglob("*.py"))
    assert modules
    climbing = {str(m.relative_to(ROOT)): imported_packages(m) & FORBIDDEN[floor] for m in modules}
    assert not {name: packages for name, packages in climbing.items() if packages}


@pytest.mark.parametrize("package", ["codec", "corpora", "dataset", "perceptual", "reading"])
def test_no_data_set_depends_on_a_report(package: str) -> None:
    modules = sorted((ROOT / "dexter_model" / package).rglob("*.py"))
    assert modules
    assert not [module.name for module in modules if "dexter_model.report" in module.read_text()]


def test_help_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'ray', 'prefect', 'partitura', 'matplotlib', 'polars', 'scipy', 'zarr'}"
    code = f"import sys, flows.cli; print(sorted({heavy} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
