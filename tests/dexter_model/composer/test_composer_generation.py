"""Composing: what a piece depends on, what every sampler gives, and the notes and files that come of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
import torch

from dexter_model.composer.config import REFERENCE, ComposerConfig, DataConfig, NetworkConfig
from dexter_model.composer.generation import Composer
from dexter_model.composer.plan import REFERENCE as AS_THE_ORIGINAL
from dexter_model.composer.plan import Composing, noise_of
from dexter_model.composer.reconstruction import played, write_composition
from dexter_model.composer.scale import FREQUENCIES, Statistics
from dexter_model.composer.train_arrays import initial_network
from dexter_model.diffusion.config import DiffusionConfig
from dexter_model.errors import InputError
from dexter_model.reading.recording import load_recording
from dexter_model.training.checkpoint import Checkpoint, load_checkpoint, write_checkpoint

SMALL = NetworkConfig(channels=16)
CONFIG = ComposerConfig(DataConfig(notes=32), SMALL)
STATISTICS = Statistics((1.5, 0.6, 0.0), (3.4, 4.5, 3.0), (1.4, 0.6, 0.0), (3.6, 5.0, 4.0))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def checkpoint(folder: Path, config: ComposerConfig = CONFIG, statistics: dict[str, Any] | None = None) -> Checkpoint:
    """An untrained composer."""
    state = {name: value.numpy() for name, value in initial_network(config).state_dict().items()}
    told = STATISTICS.to_dict() if statistics is None else statistics
    meta = {"label": "random", "config": config.to_dict(), "statistics": told, "dataset": {}, "step": 0}
    write_checkpoint(folder, state, meta)
    return load_checkpoint(folder)


def test_a_piece_is_its_seed_and_number_whatever_is_composed_beside_it(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model")
    few = Composing(steps=3)
    composer = Composer.of(model, few)
    together = [notes.tobytes() for notes in composer.compose(range(6))]
    assert len(set(together)) == 6
    by_twos = [notes.tobytes() for first in (0, 2, 4) for notes in composer.compose([first, first + 1])]
    assert by_twos == together
    assert composer.compose([4])[0].tobytes() == together[4]
    assert Composer.of(model, few, seed=14).compose([0])[0].tobytes() not in together


@pytest.mark.parametrize("sampler", ["dpm-solver++", "ddim", "ddpm", "ddpm-beta"])
def test_every_sampler_gives_notes_that_can_be_played(sampler: Any, tmp_path: Path) -> None:
    how = Composing(steps=4, sampler=sampler, eta=0.5 if sampler == "ddim" else 0.0)
    for notes in Composer.of(checkpoint(tmp_path / "model"), how).compose(range(2)):
        assert 0 < len(notes) <= 32
        assert 21 <= notes["pitch"].min() <= notes["pitch"].max() <= 108
        assert (np.diff(notes["onset_sec"]) >= 0).all()
        assert (notes["offset_sec"] > notes["onset_sec"]).all()
        for pitch in np.unique(notes["pitch"]):
            same = notes[notes["pitch"] == pitch]
            assert (same["offset_beat"][:-1] <= same["onset_beat"][1:]).all()


def test_composing_as_the_original_is_its_reverse_step_without_bounds(tmp_path: Path) -> None:
    """Ancestral steps in float64, as published: the forward variance, nothing clipped before the end."""
    config = replace(
        REFERENCE,
        data=replace(REFERENCE.data, notes=32),
        network=replace(REFERENCE.network, channels=16),
        diffusion=DiffusionConfig(20, 0.01, 0.4),
    )
    low, high = np.array([27.5, 0.05, 0.0]), np.array([4186.009, 2.0, 2.1])
    extent = dict(zip(("low", "high", "least", "greatest"), [low.tolist(), high.tolist()] * 2, strict=True))
    composer = Composer.of(checkpoint(tmp_path / "model", config, extent), replace(AS_THE_ORIGINAL, steps=20))
    seen: list[np.ndarray] = []
    composer.notes = lambda numbers: seen.append(numbers) or Composer.notes(composer, numbers)  # type: ignore
    (notes,) = composer.compose([3])

    beta = np.linspace(0.01, 0.4, 20)
    alpha_bar = np.cumprod(1.0 - beta)
    net, x = composer.model.double(), noise_of(13, 3, 0, (1, 32, 3)).astype(np.float64)
    program, active = torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1, dtype=torch.bool)
    for i in reversed(range(20)):
        with torch.no_grad():
            noise = net(torch.from_numpy(x)[None], torch.tensor([i]), program, active)[0].numpy()
        x = (x - beta[i] / np.sqrt(1.0 - alpha_bar[i]) * noise) / np.sqrt(1.0 - beta[i])
        x += np.sqrt(beta[i]) * noise_of(13, 3, 20 - i, x.shape) * (i > 0)
    assert x.min() < -0.5
    assert x.max() > 1.5  # beyond the scale: bounds would tell
    np.testing.assert_allclose(seen[0], x, rtol=0, atol=1e-3)

    frequency, duration, delta = np.clip(low + (high - low) * x[0], low, high).T
    pitch = np.abs(FREQUENCIES[:, None] - frequency).argmin(axis=0)
    assert (notes["pitch"] != pitch).sum() <= 1  # of those that lie between two
    np.testing.assert_allclose(notes["onset_sec"], np.cumsum(delta), atol=0.01)
    np.testing.assert_allclose(notes["offset_sec"] - notes["onset_sec"], duration, atol=0.01)
    assert set(notes["velocity"]) == {100}


def test_instruments_are_rows(tmp_path: Path) -> None:
    config = replace(CONFIG, data=DataConfig(notes=16, rows=3, programs="all"))
    model = checkpoint(tmp_path / "model", config)
    (notes,) = Composer.of(model, Composing(steps=2, programs=(0, 42))).compose([0])
    assert sorted(set(zip(notes["track"].tolist(), notes["program"].tolist(), strict=True))) == [(0, 0), (1, 42)]
    write_composition(notes, tmp_path / "a.mid")
    tracks = mido.MidiFile(tmp_path / "a.mid").tracks
    assert [m.program for track in tracks for m in track if m.type == "program_change"] == [0, 42]
    with pytest.raises(InputError, match="more than the model's rows"):
        Composer.of(model, Composing(programs=(0, 1, 2, 3)))


def test_beats_are_played_at_the_tempo_asked_for_and_files_say_so(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "model", replace(CONFIG, data=DataConfig(notes=32, clock="beats", ends="key")))
    composer = Composer.of(model, Composing(steps=2, tempo=120.0))
    (notes,) = composer.compose([0])
    np.testing.assert_allclose(notes["onset_sec"], notes["onset_beat"] / 2)
    write_composition(notes, tmp_path / "a.mid", composer.tempo)
    read = load_recording(tmp_path / "a.mid")
    np.testing.assert_allclose(read["onset_sec"], notes["onset_sec"], atol=1e-6)
    np.testing.assert_array_equal(read["pitch"], notes["pitch"])


GOLDEN = np.array([[261.626, 0.5, 0.0], [329.628, 0.25, 0.125], [391.995, 1.0, 0.5]])


@pytest.mark.parametrize("shortest", [None, 1 / 32])
def test_files_are_the_golden_ones(shortest: float | None, tmp_path: Path) -> None:
    write_composition(played(GOLDEN, 0, 0, 60.0, shortest), tmp_path / "a.mid")
    file = mido.MidiFile(tmp_path / "a.mid")
    assert file.ticks_per_beat == 960
    events = [m for track in file.tracks for m in track]
    assert [m.tempo for m in events if m.type == "set_tempo"] == [1_000_000]
    sounding = [(m.type, m.note, m.velocity, m.time) for m in events if m.type.startswith("note")]
    assert sounding == [
        ("note_on", 60, 100, 0),
        ("note_on", 64, 100, 120),
        ("note_off", 64, 100, 240),
        ("note_off", 60, 100, 120),
        ("note_on", 67, 100, 120),
        ("note_off", 67, 100, 960),
    ]
    read = load_recording(tmp_path / "a.mid")
    np.testing.assert_allclose(read["onset_sec"], [0, 0.125, 0.625])
    np.testing.assert_allclose(read["offset_sec"], [0.5, 0.375, 1.625])


def test_notes_are_made_playable_or_left_as_the_original_leaves_them() -> None:
    c, e = FREQUENCIES[[60, 64]]
    values = np.array([[c, 2.0, 0.0], [e, 0.0, 0.5], [c, 1.0, 0.5], [c, 1.0, 0.0]])
    left = played(values, 0, 0, 60.0, None)
    assert left["pitch"].tolist() == [60, 64, 60, 60]
    assert (left["offset_beat"] - left["onset_beat"]).tolist() == [2.0, 0.0, 1.0, 1.0]
    mended = played(values, 9, 5, 120.0, 1 / 32)
    assert mended["pitch"].tolist() == [60, 64, 60]
    assert (mended["offset_beat"] - mended["onset_beat"]).tolist() == [1.0, 1 / 32, 1.0]
    assert mended["onset_sec"].tolist() == [0.0, 0.25, 0.5]
    assert set(mended["channel"]) == {10}  # the drums' is left out
    assert len(played(np.zeros((0, 3)), 0, 0, 60.0, 1 / 32)) == 0


def test_what_is_no_composer_is_refused(tmp_path: Path) -> None:
    names = ("low", "high", "least", "greatest")
    for wrong in ({"mean": [0.0], "std": [1.0]}, dict.fromkeys(names, [0.0] * 3), dict.fromkeys(names, [None] * 3)):
        with pytest.raises(InputError) as refused:
            Composer.of(checkpoint(tmp_path / "model", statistics=wrong))
        assert refused.value.code == "checkpoint_unreadable"
    model = checkpoint(tmp_path / "model")
    other = replace(model, config=CONFIG.to_dict() | {"network": {"channels": 32}})
    for each in (other, replace(model, config={"denoiser": {}})):
        with pytest.raises(InputError) as refused:
            Composer.of(each)
        assert refused.value.code == "checkpoint_unreadable"
    nan = replace(model, state={name: value * np.nan for name, value in model.state.items()})
    with pytest.raises(InputError, match="not numbers"):
        Composer.of(nan, Composing(steps=1)).compose([0])
    with pytest.raises(InputError, match="more than the model's diffusion"):
        Composer.of(model, Composing(steps=1001))


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"sampler": "euler"},
        {"eta": 0.5},
        {"programs": (128,)},
        {"lowest": 109},
    ],
)
def test_options_without_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError) as refused:
        Composing(**wrong)
    assert refused.value.code == "option_invalid"
