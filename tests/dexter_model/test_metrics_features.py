"""Performance features: the golden values of the original's definitions, closed forms, masks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dexter_model.codec.performance_codec import pedal_at
from dexter_model.metrics import articulation, asynchrony, dynamics
from dexter_model.metrics.curves import mean_per_onset, onset_starts
from dexter_model.reading.match import load_match

GOLDEN = Path(os.environ.get("DEXTER_GOLDEN", "")) / "features.npz"
golden = pytest.mark.skipif(not GOLDEN.is_file(), reason="DEXTER_GOLDEN names no folder with features.npz")
NAN = np.nan


def golden_rows() -> Iterator[tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Row, ids, note table, features and mask of notes without key overlap of each performance."""
    arrays = np.load(GOLDEN)
    for row in json.loads(str(arrays["rows"])):
        k = row["index"]
        yield row, arrays[f"i{k}"], arrays[f"m{k}"], arrays[f"f{k}"], arrays[f"no_kor{k}"]


def close(ours: np.ndarray, golden: np.ndarray) -> None:
    np.testing.assert_allclose(np.nan_to_num(ours), golden, rtol=1e-5, atol=1e-6)


@golden
def test_golden_articulation_and_asynchrony() -> None:
    for _, _, notes, features, no_overlap in golden_rows():
        everything = np.ones(len(notes), bool)
        starts = onset_starts(notes["onset"])
        group = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(notes)))
        offset, p_offset = notes["onset"] + notes["duration"], notes["p_onset"] + notes["p_duration"]
        where = articulation.transitions(notes["onset"], offset, notes["pitch"], notes["voice"])
        overlap = articulation.key_overlap(notes["p_onset"], p_offset, everything, where)
        np.testing.assert_array_equal(np.isnan(overlap), no_overlap)
        close(overlap[~no_overlap], features["articulation_feature.kor"][~no_overlap])
        delta = asynchrony.spread(notes["p_onset"], everything, starts)
        close(delta[group], features["asynchrony_feature.delta"])
        leads = asynchrony.pitch_correlation(notes["p_onset"], notes["pitch"], everything, starts)
        close(leads[group], features["asynchrony_feature.pitch_cor"])


@golden
@pytest.mark.corpora
def test_golden_pedal(corpora_root: Path) -> None:
    for row, _, notes, features, _ in golden_rows():
        performance, _ = load_match(corpora_root / "vienna4x22" / row["key"])
        close(127 * pedal_at(performance.pedal, notes["p_onset"]), features["pedal_feature.onset_value"])


def written_markings(corpora_root: Path, piece: str, note_id: np.ndarray) -> tuple[np.ndarray, ...]:
    """Marking in force, and how far crescendi and diminuendi have got, at each note, as the original reads a score.

    Equal figures need more than SCORE_NOTE holds. There a ramp rises from 0 to 1 and stays until the next loudness, or
    for a quarter if there is none; ramps add up; and in op. 38 one that stands at 1 passes for a marking.
    """
    import partitura
    from partitura import score as pt

    part = partitura.load_musicxml(corpora_root / f"vienna4x22/musicxml/{piece}.musicxml", force_note_ids="keep")[0]
    notes = part.note_array()
    onset = notes["onset_div"][[list(notes["id"]).index(name) for name in note_id]]
    loudness = [d for d in part.iter_all(pt.ConstantLoudnessDirection)]
    columns: dict[str, np.ndarray] = {}
    for direction in part.iter_all(pt.LoudnessDirection, include_subclasses=True):
        start, end = direction.start.t, direction.end.t if direction.end else direction.start.t
        kind = type(direction)
        name = {pt.IncreasingLoudnessDirection: "incr", pt.DecreasingLoudnessDirection: "decr"}.get(
            kind, direction.text
        )
        if name in ("incr", "decr"):
            until = min(
                (d.start.t for d in loudness if d.start.t > start), default=end + part.quarter_durations()[0, 1]
            )
            values = np.interp(onset, [start, end], [0, 1]) * (onset < until)
        else:
            values = ((onset >= start) & (onset < max(end, start + 1))).astype(float)
        columns[name] = columns.get(name, 0) + values
    in_force = np.full(len(onset), "", "U8")
    for name in reversed(columns):
        in_force[columns[name] == 1] = name
    nothing = np.zeros(len(onset))
    return in_force, columns.get("incr", nothing), columns.get("decr", nothing)


@golden
@pytest.mark.corpora
def test_golden_dynamics(corpora_root: Path) -> None:
    for row, note_id, notes, features, _ in golden_rows():
        everything = np.ones(len(notes), bool)
        starts = onset_starts(notes["onset"])
        group = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(notes)))
        piece = Path(row["key"]).stem.rsplit("_p", 1)[0]
        written = (values[starts] for values in written_markings(corpora_root, piece, note_id))
        marks = dynamics.markings(notes["onset"][starts], *written)
        velocity = mean_per_onset(notes["velocity"], everything, starts)
        found = {
            "agreement": dynamics.agreement(velocity, marks),
            "consistency_std": dynamics.consistency(velocity, marks),
            "ramp_cor": dynamics.ramp_correlation(velocity, marks),
            "tempo_cor": dynamics.tempo_correlation(notes["beat_period"][starts].astype(float), velocity, marks),
        }
        for name, values in found.items():
            close(values[group], features[f"dynamics_feature.{name}"])
