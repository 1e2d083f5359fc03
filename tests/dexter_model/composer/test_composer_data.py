"""Segments as numbers of unit size and back, drawn, saved and loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dexter_model.composer.config import REFERENCE, ComposerConfig, DataConfig
from dexter_model.composer.data import ResidentSegments
from dexter_model.composer.original import config_of_original, keys_of
from dexter_model.composer.scale import FREQUENCIES, Statistics, nearest_pitch
from dexter_model.errors import InputError
from dexter_model.notes import RECORDED_NOTE


def performance(count: int, seed: int = 0) -> np.ndarray:
    """Random notes of a piano, some 10 a second."""
    rng = np.random.default_rng(seed)
    notes = np.zeros(count, RECORDED_NOTE)
    notes["pitch"], notes["velocity"] = rng.integers(30, 100, count), 64
    notes["onset_sec"] = np.cumsum(rng.exponential(0.1, count))
    notes["offset_sec"] = notes["sustained_sec"] = notes["onset_sec"] + rng.gamma(2.0, 0.2, count)
    notes["onset_beat"], notes["offset_beat"] = notes["onset_sec"], notes["offset_sec"]
    return notes


def resident(config: DataConfig | None = None, pieces: int = 3) -> ResidentSegments:
    return ResidentSegments.of(((f"piece {i}", performance(300, i)) for i in range(pieces)), config or DataConfig())


def test_the_nearest_note_is_that_of_the_golden_table() -> None:
    frequencies = np.array([8.0, 269.3, 269.5, 440, 452.9, 453.3, 20000])
    assert nearest_pitch(frequencies).tolist() == [0, 60, 61, 69, 69, 70, 127]
    assert nearest_pitch(FREQUENCIES).tolist() == list(range(128))
    assert (FREQUENCIES[60], FREQUENCIES[69], FREQUENCIES[127]) == (261.626, 440.0, 12543.85)


def test_the_originals_scale_gives_its_example_back() -> None:
    low, high = (27.5, 0.05, 0.0), (4186.009, 2.0, 2.1)
    numbers = np.array([[0, 0, 0], [0.5, 1.2, -0.3], [1, 0.5, 0.25]])
    found = Statistics(low, high, low, high).restore(numbers, REFERENCE.data)
    np.testing.assert_allclose(found, [[27.5, 0.05, 0], [2106.7545, 2, 0], [4186.009, 1.025, 0.525]])
    assert nearest_pitch(found[:, 0]).tolist() == [21, 96, 108]


@pytest.mark.parametrize(
    "config", [DataConfig(), replace(REFERENCE.data, extraction="fixed")], ids=["fixed", "original"]
)
def test_numbers_of_unit_size_are_the_same_notes_again(config: DataConfig) -> None:
    segments = resident(config)
    statistics = segments.statistics()
    numbers = statistics.normalise(segments.values, config)
    within = numbers.reshape(-1, 3).double().quantile(torch.tensor([0.01, 0.99], dtype=torch.float64), dim=0)
    assert within[0].min() >= (0.0 if config.scale == "unit" else -1.0)
    assert within[1].max() <= 1.0
    back = statistics.restore(numbers.numpy(), config)
    np.testing.assert_array_equal(nearest_pitch(back[..., 0]), segments.values[..., 0])
    np.testing.assert_allclose(back[..., 1:], segments.values[..., 1:], atol=2e-5)
    least, greatest = statistics.bounds(config)
    np.testing.assert_allclose(numbers.reshape(-1, 3).min(dim=0).values, least, atol=1e-6)
    np.testing.assert_allclose(numbers.reshape(-1, 3).max(dim=0).values, greatest, atol=1e-6)
    far = statistics.restore(np.full((1, 3), 9.0), config)
    np.testing.assert_allclose(far[0, 1:], segments.values.reshape(-1, 3).max(dim=0).values[1:], rtol=1e-5)


def test_a_standard_scale_has_the_moments_of_the_noise() -> None:
    config = DataConfig(scale="standard")
    segments = resident(config)
    numbers = segments.statistics().normalise(segments.values, config).reshape(-1, 3)
    np.testing.assert_allclose(numbers.mean(dim=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(numbers.std(dim=0, correction=0), 1.0, atol=1e-5)
    back = segments.statistics().restore(numbers.numpy(), config)
    np.testing.assert_array_equal(nearest_pitch(back[:, 0]), segments.values[..., 0].flatten())


def test_a_split_survives_its_file(tmp_path: Path) -> None:
    segments = resident()
    assert segments.values.shape == (6, 1, 128, 3)
    assert segments.piece.tolist() == [0, 0, 1, 1, 2, 2]
    assert segments.left_out == {"left_over": 132}
    segments.save(tmp_path / "train.npz")
    loaded = ResidentSegments.load(tmp_path / "train.npz")
    assert torch.equal(loaded.values, segments.values)
    assert (loaded.names, loaded.left_out, loaded.config) == (segments.names, segments.left_out, segments.config)
    assert loaded.statistics() == segments.statistics()
    segments.save(tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "train.npz").read_bytes()
    for content in (b"", b"PK\x03\x04 no", (tmp_path / "train.npz").read_bytes()[:900]):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(InputError, match="no segments"):
            ResidentSegments.load(tmp_path / "bad.npz")


@pytest.mark.parametrize(
    "changed",
    [
        {"values": torch.zeros(6, 1, 64, 3)},
        {"values": torch.zeros(6, 2, 128, 3)},
        {"values": torch.zeros(6, 1, 128, 3, dtype=torch.float64)},
        {"values": torch.full((6, 1, 128, 3), 128.0)},
        {"values": torch.full((6, 1, 128, 3), torch.nan)},
        {"values": torch.full((6, 1, 128, 3), -1.0)},
        {"program": torch.full((6, 1), 128, dtype=torch.uint8)},
        {"active": torch.ones(6, 1, dtype=torch.uint8)},
        {"piece": torch.zeros(5, dtype=torch.int32)},
        {"piece": torch.full((6,), 3, dtype=torch.int32)},
    ],
)
def test_arrays_that_do_not_fit_are_no_segments(changed: dict[str, torch.Tensor], tmp_path: Path) -> None:
    replace(resident(), **changed).save(tmp_path / "bad.npz")  # type: ignore[arg-type]
    with pytest.raises(InputError) as refused:
        ResidentSegments.load(tmp_path / "bad.npz")
    assert refused.value.code == "segments_unreadable"


def test_draws_belong_to_their_generator_and_stay_on_the_piano() -> None:
    segments = resident()

    def drawn(seed: int, **how: float) -> torch.Tensor:
        return segments.draw(64, torch.Generator().manual_seed(seed), **how).values_BHN3  # type: ignore[arg-type]

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    moved = drawn(1, transpose=6) - drawn(1)
    assert moved[..., 0].unique().numel() > 6
    assert not moved[..., 1:].any()
    assert (moved[..., 0] == moved[:, :, :1, 0]).all()  # a segment as a whole
    assert 21 <= drawn(3, transpose=12)[..., 0].min() <= drawn(3, transpose=12)[..., 0].max() <= 108
    ratio = drawn(1, stretch=0.1)[..., 1] / drawn(1)[..., 1]
    assert 0.9 <= ratio.min() < ratio.max() <= 1.1


def test_segments_that_teach_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="are none; left out: 100 left_over"):
        ResidentSegments.of([("short", performance(100))], DataConfig()).statistics()
    same = performance(300)
    same["pitch"] = 60
    with pytest.raises(InputError, match="have one pitch throughout"):
        ResidentSegments.of([("same", same)], DataConfig()).statistics()


def test_statistics_of_a_checkpoint_are_checked() -> None:
    told = resident().statistics().to_dict()
    assert Statistics.from_dict(told) == resident().statistics()
    wrong: list[dict[str, Any]] = [
        {"low": [1.0]},
        told | {"low": [1.0, 2.0]},
        told | {"high": told["low"]},
        told | {"more": [1.0] * 3},
        told | {"greatest": [0.0] * 3},
        told | {"high": [np.nan] * 3},
        told | {"least": [-np.inf] * 3},
        dict.fromkeys(told, [None] * 3),
        dict.fromkeys(told, [[1.0]] * 3),
        dict.fromkeys(told, ["1"] * 3),
        told | {"high": [10**400] * 3},
    ]
    for values in wrong:
        with pytest.raises(ValueError, match="statistics"):
            Statistics.from_dict(values)


def test_settings_come_back_and_wrong_ones_are_refused() -> None:
    for config in (ComposerConfig(), REFERENCE):
        assert ComposerConfig.from_dict(config.to_dict()) == config
    wrong = [
        {"data": {"notes": 100}},
        {"data": {"rows": 0}},
        {"data": {"rows": 16, "programs": "all"}},  # MIDI has 16 channels, and one is drums
        {"data": {"rows": 4}},  # of pianos alone
        {"data": {"clock": "beats"}},
        {"data": {"extraction": "reference", "rows": 2, "programs": "all"}},
        {"network": {"channels": 24}},
        {"network": {"time_injection": "none"}},
        {"training": {"milestone": 2.0}},
        {"training": {"batch_size": "64"}},
        {"denoiser": {}},
    ]
    for values in wrong:
        with pytest.raises(InputError) as refused:
            ComposerConfig.from_dict(values)  # type: ignore[arg-type]
        assert refused.value.code == "config_invalid"


def test_the_originals_keys_are_settings() -> None:
    config = config_of_original({}, [640_000 * 128 + 127])
    assert config.training.steps == 200_000
    assert config.training.checkpoint_every == 20_000
    assert replace(config, training=REFERENCE.training) == REFERENCE
    keys = {"NOTES_LENGTH": 64, "USE_LOG_SCALE": True, "NOISE_STEPS": 500, "EPOCHS": 3, "BATCH_SIZE": 10, "BPM": 60}
    config = config_of_original(keys | {"VERBOSE": False, "MAX_DELTA": 960}, [50 * 64, 63, 51 * 64 + 10])
    assert (config.data.notes, config.data.frequency, config.diffusion.steps) == (64, "log", 500)
    assert (config.training.steps, config.training.checkpoint_every) == (33, 22)
    assert (config.data.longest_note, config.data.longest_delta) == (8.0, 1.0)
    for wrong in ({"MAX_DELTA": 4096}, {"STANDARDIZE": False}, {"EPOCHS": "many"}, {"OTHER": 1}, {"NOTES_LENGTH": 100}):
        with pytest.raises(InputError) as refused:
            config_of_original(wrong, [100])
        assert refused.value.code == "config_invalid"


def test_the_originals_file_is_read_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text("import os\n# Training\nEPOCHS = 3\nBATCH_SIZE = 4\nSAMPLES_PATH = os.path.join('data', 'a')\n")
    assert keys_of(path) == {"EPOCHS": 3, "BATCH_SIZE": 4}
    for content in (b"EPOCHS = 3 * 4 * x\n", b"EPOCHS = \n", b"\x00", b"(" * 5000):
        path.write_bytes(content)
        with pytest.raises(InputError) as refused:
            keys_of(path)
        assert refused.value.code == "config_invalid"
