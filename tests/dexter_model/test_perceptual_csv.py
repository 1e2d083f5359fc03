"""The original's CSV files of perceptual features: their columns and times, and files that are damaged or hostile."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dexter_model.errors import InputError
from dexter_model.notes import PERCEPTUAL_FEATURES
from dexter_model.perceptual.cep_csv import MAX_BYTES, load_cep_csv

TIMES = [(469 + 156 * k) * 704 / 22050 for k in range(4)]
HEADER = ",".join(("frame_start_time", *PERCEPTUAL_FEATURES))


def written(path: Path, header: str, rows: list[list[object]]) -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def rows_of(*columns: float) -> list[list[object]]:
    """A row a time, the columns' numbers plus the row's index over ten."""
    return [[time, *(column + k / 10 for column in columns)] for k, time in enumerate(TIMES)]


def test_values_and_centres(tmp_path: Path) -> None:
    features = load_cep_csv(written(tmp_path / "a_cep_features.csv", HEADER, rows_of(*range(7))))
    assert features.source == "cep_csv"
    assert features.mask.all()
    np.testing.assert_allclose(features.times, np.array(TIMES) - 7.487, atol=5e-4)
    np.testing.assert_allclose(features.values, np.arange(7) + np.arange(4)[:, None] / 10, rtol=1e-6)
    assert np.isnan(features.reference).all()
    # 14.974 s is the end of the first window: the note right there gets it, one before that the file's last row
    notes = np.array([0.0, 14.97, 14.98, 19.9, 20.0])
    np.testing.assert_allclose(features.per_note(notes, "dexter")[:, 0], [0.3, 0.3, 0, 0, 0.1], atol=1e-6)
    np.testing.assert_allclose(features.per_note(notes, "causal")[:, 0], [0, 0, 0, 0, 0.1], atol=1e-6)


def test_other_orders_names_and_times(tmp_path: Path) -> None:
    rhythm = "rhythm_stability,rhythm_complexity"
    header = f"\ufeff,mode,Atonality ,onset_density,rms,dissonance,{rhythm},articulation,melody,frame_start_time"
    rows: list[list[object]] = [[k, 6, 0.5, 3, 4, 4, 3, 2, 1, 0, time] for k, time in enumerate(TIMES)]
    path = written(tmp_path / "b.csv", header, rows)
    features = load_cep_csv(path)
    np.testing.assert_allclose(features.values[0], [0, 1, 2, 3, 4, -0.5, 6])
    np.testing.assert_allclose(load_cep_csv(path, "centre").times, TIMES)
    np.testing.assert_allclose(load_cep_csv(path, "window_start").times - features.times, 14.974, atol=5e-4)


def test_unknown_cells_are_unknown_rows(tmp_path: Path) -> None:
    rows = rows_of(*range(7))
    rows[1][3], rows[2][7] = "", "nan"
    features = load_cep_csv(written(tmp_path / "c.csv", HEADER, rows))
    assert features.mask.tolist() == [True, False, False, True]
    assert np.isnan(features.values[1:3]).all()
    assert np.isfinite(features.per_note(np.array([0.0, 8.0, 30.0]))).all()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no column is frame_start_time"),
        (HEADER.encode(), "holds no row"),
        (b"frame_start_time,melodiousness\n1,2\n", "no column is articulation"),
        (f"{HEADER},mode\n{',1' * 9}"[1:].encode(), "column is"),
        (f"{HEADER},mode\n1{',1' * 8}".encode(), "more than one column is minorness"),
        (f"{HEADER}\n1,2,3\n".encode(), "row 2 has 3 cells, the header 8"),
        (f"{HEADER}\n1{',x' * 7}\n".encode(), "could not convert"),
        (f"{HEADER}\n{',1' * 7}\n".encode(), "not rising seconds"),
        (f"{HEADER}\n2{',1' * 7}\n1{',1' * 7}\n".encode(), "not rising seconds"),
        (f"{HEADER}\n1e300{',1' * 7}\n".encode(), "not rising seconds"),
        (f"{HEADER}\n1{',inf' * 7}\n".encode(), "no feature takes"),
        (f'{HEADER}\n"1{",1" * 7}\n'.encode(), "unexpected end of data"),
        (f"{HEADER}\n{'1' * 200_000}{',1' * 7}\n".encode(), "field larger"),
        (b"\x80\x04\x95\xff\xfe", "it is no text"),
        (b"PK\x03\x04\x00\xff", "it is no text"),
        (b" " * (MAX_BYTES + 1), "too large"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "bad_cep_features.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=told) as caught:
        load_cep_csv(path)
    assert (caught.value.path, caught.value.code) == (str(path), "perceptual_unreadable")
    with pytest.raises(InputError):
        load_cep_csv(tmp_path / "missing.csv")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda rows: f"{HEADER}\n{rows}".encode())))
@example(f"{HEADER}\n1_0,1,1,1,1,1,1,1\n".encode())
@example(f"{HEADER}\r\n\r\n1,1,1,1,1,1,1,1".encode())
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any.csv"
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        features = load_cep_csv(path)
        assert features.mask.tolist() == np.isfinite(features.values).all(axis=1).tolist()
