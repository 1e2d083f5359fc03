"""A data set to export, and an export of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hdf5_files import WINDOW, publish_pieces

from dexter_model.dataset.hdf5 import Exported, export_hdf5
from dexter_model.dataset.store import DatasetVersion
from dexter_model.reading.sandbox import Sandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> DatasetVersion:
    return publish_pieces(str(tmp_path_factory.mktemp("data") / "store"))


@pytest.fixture
def exported(version: DatasetVersion, tmp_path: Path) -> Exported:
    return export_hdf5(version, tmp_path / "one", WINDOW, mixups=True)
