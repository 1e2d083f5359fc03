"""The report's parts: figures that are images, numbers for people, sound where there is FluidSynth."""

from __future__ import annotations

import base64
import io
import math
import wave
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from dexter_model.codec.performance_codec import decode
from dexter_model.notes import PERFORMED_NOTE, SCORE_NOTE, Performance
from dexter_model.report import audio, figures
from dexter_model.report.html import duration, metric_tables, number, short
from dexter_model.report.sections import training_section
from dexter_model.report.stages import stages_section
from dexter_model.synthesis import why_silent

PNG = b"\x89PNG\r\n\x1a\n"
silent = pytest.mark.skipif(bool(why_silent()), reason="FluidSynth or a soundfont is missing")


def decoded(uri: str) -> bytes:
    return base64.b64decode(uri.split(",", 1)[1], validate=True)


def is_svg(uri: str) -> bool:
    return uri.startswith("data:image/svg+xml;base64,") and ElementTree.fromstring(decoded(uri)).tag.endswith("svg")


def test_numbers_for_people() -> None:
    assert number(None) == "–"
    assert number(math.nan) == "–"
    assert number(1234567) == "1,234,567"
    assert number(-0.5) == "−0.50"
    assert number(-0.00001) == "0.00"
    assert number(0.00042) == "0.0004"
    assert number(2345.6) == "2,346"
    assert number(0.0123) == "0.012"
    assert number(12.345) == "12.35" or number(12.345) == "12.34"


def test_durations_for_people() -> None:
    assert duration(0.42) == "0.4 s"
    assert duration(12.3) == "12 s"
    assert duration(59.9) == "60 s"
    assert duration(200) == "3 min 20 s"
    assert duration(7500) == "2 h 5 min"
    assert short("a" * 64) == "a" * 12
    assert short(None) == "–"


def test_loss_curve() -> None:
    assert is_svg(figures.loss_curve([[1, 1.0, None], [2, 0.5, 0.6], [3, 0.4, None]]))
    assert is_svg(figures.loss_curve([[1, 0.0]]))


def test_curves_with_gaps() -> None:
    humans = {name: np.full((2, 5), np.nan) for name in ("tempo_curve", "velocity_curve")}
    for values in humans.values():
        values[0] = 60
    ours = {"tempo_curve": np.full(5, 70.0), "velocity_curve": np.full(5, 64.0)}
    uri = figures.curves(np.arange(5.0), humans, {"ours": ours, "deadpan": ours})
    assert is_svg(uri)
    assert uri == figures.curves(np.arange(5.0), humans, {"ours": ours, "deadpan": ours})


def test_codec_images_of_notes_not_played() -> None:
    codec = np.random.default_rng(0).random((20, 5))
    codec[3] = np.nan
    codec[:, 3] = np.nan  # articulation not known: a render that is MIDI alone
    assert decoded(figures.codec_images({"ours": codec, "human": codec})).startswith(PNG)


def test_piano_rolls_of_almost_nothing() -> None:
    notes = np.zeros(1, PERFORMED_NOTE)
    notes["pitch"], notes["velocity"], notes["keydown_sec"] = 60, 64, 0.5
    empty = np.zeros((0, 2))
    assert decoded(figures.piano_rolls({"one": (notes, empty), "none": (notes[:0], empty)}, 5.0)).startswith(PNG)


def test_metric_cells_say_why_there_is_no_number() -> None:
    row = {
        "system": "deadpan",
        "feature": "velocity",
        "measure": "correlation",
        "mean": None,
        "low": None,
        "high": None,
    }
    row |= {"undefined": 9, "comparisons": 9, "why": "constant prediction", "near_zero": None}
    deviation = row | {"measure": "deviation", "mean": 0.5, "low": 0.1, "high": 0.9, "undefined": 1, "near_zero": 0.2}
    table = {
        "systems": ["deadpan"],
        "rows": [row, deviation, deviation | {"measure": "absolute_deviation", "mean": 1.0}],
    }
    tables = {t["label"]: t["rows"][0] for t in metric_tables(table)}
    assert tables["Correlation"]["cells"][0] == {
        "text": "undefined",
        "interval": "constant prediction",
        "remark": "",
    }
    assert tables["Deviation"]["cells"][0]["text"] == "0.50 (1.00)"
    assert tables["Deviation"]["cells"][0]["interval"] == "0.10 … 0.90"
    assert tables["Deviation"]["remark"] == "20% of denominators near zero"


def test_stage_records_become_rows() -> None:
    digest = "ab" * 32
    record = {"name": "train", "seconds": 3.0, "result": {"step": 2000, "digest": digest, "resumed": False}}
    section = stages_section([record, {"name": "nothing"}])
    assert section is not None
    first, second = section["rows"]
    assert first["details"] == [("step", "2,000"), ("digest", digest[:12]), ("resumed", "no")]
    assert (section["heads"], first["cells"], second["cells"]) == (["Time"], ["3.0 s"], ["–"])
    assert (section["total"], section["note"], stages_section([])) == ([], "", None)


def test_stages_tell_what_they_cost_and_by_which_prices() -> None:
    build = {"name": "build", "seconds": 90.0, "cpu_seconds": 5400.0, "gpu_seconds": 0.0, "cost": 0.0612}
    train = {"name": "train", "seconds": 7230.0, "cpu_seconds": 28800.0, "gpu_seconds": 7200.0, "cost": 2.012}
    section = stages_section([build, train | {"figures": {"a": {}}, "inputs": {"data set": "ab" * 32}}])
    assert section is not None
    assert section["heads"] == ["Time", "CPU time", "GPU time", "Cost, USD (est.)"]
    assert [row["cells"][-1] for row in section["rows"]] == ["0.0612", "2.01"]
    assert section["total"] == ["2 h 2 min", "9 h 30 min", "2 h 0 min", "2.07"]
    assert section["rows"][1]["details"] == []
    assert "estimates" in section["note"]
    assert "a CPU hour 0.0408" in section["note"]
    assert "GPU (A10G) 1.006" in section["note"]
    without = stages_section([build])
    assert without is not None
    assert "GPU (" not in without["note"]


def test_training_without_history() -> None:
    section = training_section({"label": "demo", "step": 5, "history": []})
    assert section["curve"] is None
    assert "demo" in section["summary"]


def playing(seconds: float) -> Performance:
    notes = np.zeros(int(seconds * 2), SCORE_NOTE)
    notes["onset_beat"] = np.arange(len(notes))
    notes["onset_div"], notes["duration_beat"], notes["pitch"] = np.arange(len(notes)), 1, 60
    codec = np.tile(np.array([0.5, 0.6, 0, 0, 0], np.float32), (len(notes), 1))
    return decode(notes, np.array([f"n{i}" for i in range(len(notes))]), codec)


def test_only_the_beginning_is_heard() -> None:
    cut = audio.beginning(playing(30), 10)
    assert cut.notes["onset_sec"].max() < 10
    assert len(cut.note_id) == len(cut.notes) == 20


@silent
def test_sound_is_a_mono_wave_file() -> None:
    uri = audio.sound(playing(6), seconds=3)
    assert uri is not None
    with wave.open(io.BytesIO(decoded(uri))) as file:
        assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (1, 22050, 2)
        assert 3 < file.getnframes() / 22050 <= 5.1
        assert np.abs(np.frombuffer(file.readframes(10**6), "<i2")).max() > 20000


def test_silence_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "FluidSynth is not installed" in why_silent()
