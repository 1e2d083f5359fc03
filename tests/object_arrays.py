"""An array of Python objects as `.npy` files have them, for tests that it is refused; no pickle is made for it."""

from __future__ import annotations

from pathlib import Path

from numpy.lib import format as npy


def write_object_array(path: Path) -> None:
    """A file whose header says that a pickle follows; what follows is none."""
    with path.open("wb") as file:
        npy.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (1, 2)})
        file.write(b"what nobody is to load")
