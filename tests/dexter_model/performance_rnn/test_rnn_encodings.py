"""Inputs and labels of the specification's examples, controls against a plain scan, the nine configurations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_pieces import CHORDS, CONTROLLED, PIECE, columns

from dexter_model.errors import InputError
from dexter_model.performance_rnn.config import PUBLISHED, NetworkConfig, PerformanceRnnConfig, published, with_hparams
from dexter_model.performance_rnn.controls import (
    controls_of_events,
    density_class,
    encoded,
    note_density,
    pitch_histogram,
)
from dexter_model.performance_rnn.encodings import (
    heads,
    input_width,
    notes_of_tuples,
    token_table,
    tokens_of_notes,
)
from dexter_model.performance_rnn.events import events_of_notes, step_notes
from dexter_model.performance_rnn.network import initial_network
from dexter_model.performance_rnn.vocabulary import bin_velocity

NOTES = PUBLISHED["performance_with_dynamics_and_note_encoding"]
MODULO = PUBLISHED["performance_with_dynamics_and_modulo_encoding"]
OPTIONAL = PUBLISHED["optional_multiconditioned_performance_with_dynamics"]
WIDTHS = [356, 388, 388, 16, 315, 396, 400, 408, 409]


def scanned_density(events: list[int]) -> list[float]:
    """The definition, event by event."""
    values: list[float] = []
    for i in range(len(events)):
        if i and not 256 <= events[i - 1] < 356:
            values.append(values[-1])
            continue
        count = steps = 0
        for event in events[i:]:
            if steps >= 300:
                break
            count += event < 128
            steps += event - 255 if 256 <= event < 356 else 0
        values.append(count * 100 / min(steps, 300) if steps else 0.0)
    return values


def scanned_histogram(events: list[int]) -> list[list[float]]:
    sounding: set[int] = set()
    values: list[list[float]] = []
    for i, event in enumerate(events):
        _heard(sounding, event)
        if i and not 256 <= events[i - 1] < 356:
            values.append(values[-1])
            continue
        histogram, now, steps = [0.01] * 12, set(sounding), 0
        for later in events[i:]:
            if steps >= 500:
                break
            _heard(now, later)
            if 256 <= later < 356:
                steps += later - 255
                for pitch in now:
                    histogram[pitch % 12] += (later - 255) / 100
        values.append(histogram)
    return values


def _heard(sounding: set[int], event: int) -> None:
    if event < 128:
        sounding.add(event)
    elif event < 256:
        sounding.discard(event - 128)


def test_widths_and_classes_of_the_published_configurations() -> None:
    assert [input_width(config) for config in PUBLISHED.values()] == WIDTHS
    assert heads(PUBLISHED["performance"]) == (356,)
    assert heads(NOTES) == (13, 77, 128, 32, 25, 40)
    assert all(heads(config) == (388,) for name, config in PUBLISHED.items() if "dynamics" in name and config != NOTES)


def test_places_on_circles() -> None:
    table = token_table(MODULO)
    expected: dict[int, tuple[int, list[float]]] = {
        60: (0, [1, -0.866025, 0.5, 1, 0]),
        128 + 64: (5, [1, -0.939693, 0.342020, -0.5, 0.866025]),
        256: (10, [1, 1, 0]),
        281: (10, [1, 0, 1]),
        355: (10, [1, 0.998027, -0.062791]),
        356: (13, [1, 1, 0]),
        380: (13, [1, 0, -1]),
    }
    for event, (slot, values) in expected.items():
        row = np.zeros(16)
        row[slot : slot + len(values)] = values
        np.testing.assert_allclose(table[event], row, atol=1e-6)
    assert token_table(NetworkConfig(velocity_bins=0, encoding="modulo")).shape == (356, 13)


def test_notes_as_six_numbers() -> None:
    notes = step_notes(*columns([(60, 97, 0, 4), (64, 97, 0, 3), (67, 121, 1, 2)]))
    tokens = tokens_of_notes(notes, NOTES)
    assert tokens is not None
    assert tokens.tolist() == [[0, 0, 60, 24, 9, 39], [0, 0, 64, 24, 7, 19], [1, 23, 67, 30, 2, 19]]
    first = np.cumsum([0, *heads(NOTES)[:-1]])
    assert np.flatnonzero(token_table(NOTES)[tokens[2] + first].sum(axis=0)).tolist() == [1, 36, 157, 248, 252, 294]
    np.testing.assert_array_equal(notes_of_tuples(tokens, 32), notes)


@pytest.mark.parametrize(
    ("onset", "end", "told"), [(10, 11, True), (10.01, 11, False), (0, 10, True), (0, 10.01, False)]
)
def test_notes_too_long_or_too_far_apart_are_not_told(onset: float, end: float, told: bool) -> None:
    assert (tokens_of_notes(step_notes(*columns([(60, 80, onset, end)])), NOTES) is not None) == told


def test_golden_controls() -> None:
    events = torch.from_numpy(events_of_notes(step_notes(*columns(CONTROLLED)), 32).astype(np.int64))[None]
    density, histogram = note_density(events)[0], pitch_histogram(events)[0]
    expected = [4 / 3] * 4 + [1.0] * 2 + [2 / 3] * 7 + [0.5, 1.0] + [1.25] * 2 + [0.0] * 3
    np.testing.assert_allclose(density, expected)
    assert density_class(density).tolist() == [1] * 6 + [0] * 8 + [1] * 3 + [0] * 3
    first = [3.01, 0.01, 0.01, 0.01, 1.31, 0.01, 0.01, 0.51, *[0.01] * 4]
    np.testing.assert_allclose(histogram[0], first)
    shares = controls_of_events(events, NetworkConfig(histogram=True))[0, 0]
    np.testing.assert_allclose(shares[[0, 1, 4, 7]], [0.61179, 0.00203, 0.26626, 0.10366], atol=5e-6)
    np.testing.assert_allclose(histogram[-1], [0.01] * 12)


def test_optional_controls_of_the_golden_piece() -> None:
    events = torch.from_numpy(events_of_notes(step_notes(*columns(CONTROLLED)), 32).astype(np.int64))[None]
    on, off = (controls_of_events(events, OPTIONAL, torch.tensor([disabled]))[0, 1] for disabled in (False, True))
    assert np.flatnonzero(on).tolist() == [2, *range(9, 21)]
    assert np.flatnonzero(off).tolist() == [0]
    network = initial_network(OPTIONAL, 0)
    first = torch.cat([on, network.table[events[0, :1] + network.first][0]])  # predicts the second event
    assert np.flatnonzero(first).tolist() == [2, *range(9, 21), 401]
    assert controls_of_events(events, OPTIONAL).shape[-1] == OPTIONAL.controls


def test_controls_are_those_of_a_plain_scan() -> None:
    generator = np.random.default_rng(7)
    pieces = []
    for size in (1, 2, 30, 200):
        kinds = [generator.integers(55, 70, size), generator.integers(183, 198, size)]
        kinds += [generator.integers(256, 356, size), generator.integers(356, 388, size)]
        pieces += [np.choose(generator.integers(0, 4, size), kinds) for _ in range(8)]
    pieces.append(events_of_notes(step_notes(*columns(PIECE)), 32).astype(np.int64))
    batch = torch.full((len(pieces), 201), -1)
    for row, piece in enumerate(pieces):
        batch[row, : len(piece)] = torch.from_numpy(piece)
    density, histogram = note_density(batch), pitch_histogram(batch)
    for row, piece in enumerate(pieces):
        np.testing.assert_allclose(density[row, : len(piece)], scanned_density(piece.tolist()), atol=1e-12)
        np.testing.assert_allclose(histogram[row, : len(piece)], scanned_histogram(piece.tolist()), atol=1e-9)


def test_classes_of_densities_and_empty_histograms() -> None:
    values = torch.tensor([0.0, 0.99, 1.0, 15.0, 63.9, 64.0, 1000.0], dtype=torch.float64)
    assert density_class(values).tolist() == [0, 0, 1, 4, 6, 7, 7]
    np.testing.assert_allclose(encoded(None, torch.zeros(1, 12), None, torch.zeros(1, 0)), np.full((1, 12), 1 / 12))


def test_hyper_parameters_in_the_originals_words() -> None:
    text = "rnn_layer_sizes=[64, 32],batch_size=16,residual_connections=True,dropout_keep_prob=0.5,use_cudnn=true"
    config = with_hparams(published("performance"), text)
    assert config.network.layers == (64, 32)
    assert (config.training.batch_size, config.network.residual, config.network.keep) == (16, True, 0.5)
    assert with_hparams(config, "") == config
    found = with_hparams(config, "learning_rate=.01, residual_connections=0,clip_norm=5,use_cudnn=anything")
    assert (found.training.learning_rate, found.training.gradient_clip, found.network.residual) == (0.01, 5.0, False)
    assert with_hparams(found, "residual_connections=1").network.residual is True
    for wrong in (
        "colour=3",
        "batch_size",
        "batch_size=many",
        "rnn_layer_sizes=[0]",
        "clip_norm=-1",
        "attn_length=1.5",
        "residual_connections=2",
        "garbage===",
        "rnn_layer_sizes=64",
        "learning_rate=nan",
    ):
        with pytest.raises(InputError):
            with_hparams(config, wrong)


def test_published_settings_and_their_way_through_json() -> None:
    for name in PUBLISHED:
        config = published(name)
        training = config.training
        assert (training.batch_size, training.learning_rate, training.gradient_clip) == (64, 0.001, 3.0)
        assert (training.gradient_clip_mode, config.network.layers) == ("per_tensor", (512, 512, 512))
        assert PerformanceRnnConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    "wrong",
    [
        {"network": {"layers": [512] * 99}},
        {"network": {"layers": [1.5]}},
        {"network": {"velocity_bins": 128}},
        {"network": {"velocity_bins": 100}},
        {"network": {"velocity_bins": 33}},
        {"network": {"encoding": "words"}},
        {"network": {"optional": True}},
        {"network": {"encoding": "notes", "density": True}},
        {"network": {"colour": 1}},
        {"training": {"fewest_events": 600}},
        {"training": {"gradient_clip_mode": "none"}},
        {"denoiser": {}},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, dict[str, object]]) -> None:
    with pytest.raises(InputError) as refusal:
        PerformanceRnnConfig.from_dict(wrong)
    assert refusal.value.code == "config_invalid"


def test_every_bin_of_allowed_velocities_is_one_of_midi() -> None:
    for bins in (1, 8, 16, 32, 64, 127):
        config = NetworkConfig(velocity_bins=bins)
        assert 1 <= bin_velocity(np.arange(1, config.velocity_bins + 1), bins).max() <= 127


def test_chords_have_no_time_to_be_dense_in() -> None:
    events = torch.from_numpy(events_of_notes(step_notes(*columns(CHORDS)), 0).astype(np.int64))[None]
    assert note_density(events[:, :2]).tolist() == [[0.0, 0.0]]
