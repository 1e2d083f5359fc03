"""Resident arrays, the training loop, and going on after an interruption."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from dexter_model.diffusion.schedule import noise_schedule
from dexter_model.errors import InputError
from dexter_model.expression.config import DenoiserConfig, ExpressionConfig, TrainingConfig
from dexter_model.expression.data import LIMIT, ResidentNotes, marked_period
from dexter_model.expression.sampling import load_denoiser, sample_windows
from dexter_model.expression.train_arrays import train_on_arrays
from dexter_model.notes import SCORE_NOTE
from dexter_model.training.checkpoint import load_checkpoint
from dexter_model.training.ema import copy_weights, update_average
from dexter_model.training.loop import FitResult, Hooks, Progress, fit, step_seed

DATASET = {"version": "v1", "digest": "d1"}
CONFIG = ExpressionConfig(
    DenoiserConfig(channels=8, layers=2, window=16),
    training=TrainingConfig(
        steps=12, batch_size=4, learning_rate=1e-3, log_every=5, validate_every=6, checkpoint_every=4, warmup_steps=3
    ),
)


def piece(notes: int, performances: int, seed: int) -> SimpleNamespace:
    """A piece of made-up numbers in the data set's shape."""
    rng = np.random.default_rng(seed)
    score = np.zeros(notes, SCORE_NOTE)
    score["onset_div"], score["pitch"] = np.arange(notes) * 4, rng.integers(30, 90, notes)
    codec = rng.normal(size=(performances, notes, 5)).astype(np.float32)
    codec[..., 1] = score["pitch"] / 127 + codec[..., 1] * 0.01
    heard = rng.normal(size=(performances, notes, 7)).astype(np.float32)
    heard[0, : notes // 4] = np.nan
    return SimpleNamespace(
        score=score,
        performance=codec,
        matched=rng.random((performances, notes)) > 0.1,
        perceptual_notes=lambda *, delta: heard - 1.0 if delta else heard,
    )


@pytest.fixture
def notes() -> ResidentNotes:
    return ResidentNotes.from_pieces([piece(40, 2, 0), piece(10, 1, 1), piece(25, 3, 2)])


def train(notes: ResidentNotes, out: Path, config: ExpressionConfig = CONFIG, **options: object) -> FitResult:
    return train_on_arrays(notes, notes, config, out, dataset=DATASET, **options)  # type: ignore[arg-type]


def test_flat_arrays_hold_every_performance(notes: ResidentNotes) -> None:
    pieces = [piece(40, 2, 0), piece(10, 1, 1), piece(25, 3, 2)]
    assert notes.length.tolist() == [40, 40, 10, 25, 25, 25]
    assert len(notes.score) == 75
    assert len(notes.codec) == 165
    last = notes.codec[notes.codec_start[5] :].numpy()
    assert np.array_equal(last, pieces[2].performance[2])
    assert notes.score[notes.score_start[5] :, 2].tolist() == pieces[2].score["pitch"].tolist()


def test_perceptual_rows_come_after_those_of_the_score_and_keep_what_is_unknown() -> None:
    config = DenoiserConfig(channels=8, layers=2, window=16, perceptual="absolute")
    pieces = [piece(40, 2, 0), piece(25, 3, 2)]
    notes = ResidentNotes.from_pieces(pieces, config)
    statistics = notes.statistics()
    normal = notes.normalised(statistics)
    known = normal.perceptual[notes.matched & ~notes.perceptual.isnan().any(dim=1)]
    assert torch.allclose(known.mean(dim=0), torch.zeros(7), atol=0.05)  # but for what the limit of 3 takes
    windows = normal.cut(torch.tensor([0, 4]), torch.tensor([5, 20]), 16)
    assert windows.condition_BNR.shape == (2, 16, 4 + 7)
    assert windows.condition_BNR[0, :, 4:].isnan().all(dim=1).tolist() == [True] * 5 + [False] * 11
    assert bool((windows.condition_BNR[1, 5:] == 0).all())  # padding
    restored = windows.condition_BNR[1, :5, 4:] * torch.tensor(statistics.perceptual_std)
    expected = torch.from_numpy(pieces[1].perceptual_notes(delta=False)[2, 20:25])
    inside = (restored.abs() < 2.9 * torch.tensor(statistics.perceptual_std)).all(dim=1)
    assert torch.allclose((restored + torch.tensor(statistics.perceptual_mean))[inside], expected[inside], atol=1e-4)


def test_training_on_what_a_data_set_lacks_is_told(tmp_path: Path) -> None:
    silent = piece(20, 1, 0)
    silent.perceptual_notes = lambda *, delta: np.full((1, 20, 7), np.nan)
    config = replace(CONFIG, denoiser=replace(CONFIG.denoiser, perceptual="delta"))
    with pytest.raises(InputError) as caught:
        train(ResidentNotes.from_pieces([silent], config.denoiser), tmp_path, config)
    assert caught.value.code == "no_perceptual"


def test_robust_scale_is_that_of_expression() -> None:
    """Slow and fast pieces, and one wild row in a hundred, leave the scale of what varies within a performance."""
    slow, fast = piece(1000, 1, 0), piece(1000, 1, 1)
    for one, octaves in ((slow, 2), (fast, -2)):
        one.matched[:] = True
        one.performance[..., 0] = np.exp2(0.5 * one.performance[..., 0] + octaves)
        one.performance[0, ::100, 2] = 50.0
    notes = ResidentNotes.from_pieces([slow, fast])
    robust = notes.statistics("robust")
    assert notes.level.tolist() == pytest.approx([2, -2], abs=0.1)
    assert robust.mean[0] == pytest.approx(0, abs=0.05)
    assert robust.std[0] == pytest.approx(0.5 * 0.88, abs=0.03)  # a normal distribution bounded at 5 % has 0.88 left
    assert robust.std[2] == pytest.approx(0.9, abs=0.1)
    assert notes.statistics().std[2] > 4.0
    codec, level = notes.codec[1000:], notes.level[1]
    assert torch.allclose(robust.restore(robust.normalise(codec, level), level), codec, rtol=1e-3, atol=1e-4)
    codec = robust.normalise(codec, level).clamp(-robust.limit, robust.limit)
    assert torch.allclose(notes.normalised(robust).codec[1000:], codec)


def test_the_tempo_to_play_at_follows_from_the_mark() -> None:
    """Pianists play marked pieces a fifth of an octave slower here, and unmarked ones at 0.4 s a beat."""
    pieces = [piece(50, 2, seed) for seed in range(6)]
    for number, one in enumerate(pieces):
        one.score["tempo"] = 60 * 2.0 ** (number - 2) if number else 0
        one.performance[..., 0] = 2.0 ** (2 - number + 0.2) if number else 0.4
    statistics = ResidentNotes.from_pieces(pieces).statistics("robust")
    assert statistics.pace == pytest.approx([np.log2(0.4), 0.2, 1.0], abs=1e-4)
    levels = statistics.expected_level(torch.tensor([torch.nan, marked_period(pieces[3].score)]))
    assert levels.exp2().tolist() == pytest.approx([0.4, 0.5 * 2**0.2], rel=1e-4)
    unmarked = ResidentNotes.from_pieces(pieces[:1]).statistics("robust")
    assert unmarked.pace[1:] == (0.0, 1.0)  # a mark is taken at its word by who has seen none


def test_mixup_is_the_mean_of_two_performances_of_a_piece(notes: ResidentNotes) -> None:
    plain = notes.draw(64, 8, torch.Generator().manual_seed(3))
    mixed = notes.draw(64, 8, torch.Generator().manual_seed(3), mixup=0.999999)
    begun = [notes.codec[start : start + 8] for start in notes.codec_start.tolist()]
    means = [(first + second) / 2 for first in begun for second in begun]
    assert torch.equal(plain.mask_BN, mixed.mask_BN)
    alone = (plain.x0_BN5 == mixed.x0_BN5).all(dim=(1, 2))
    assert 0 < int(alone.sum()) < 20  # windows of the piece that one pianist played
    starts = [window for window in mixed.x0_BN5 if any(torch.allclose(window, mean) for mean in means)]
    assert starts  # some are at a piece's beginning, where the mean is told


def test_pairs_are_two_performances_of_the_same_notes(notes: ResidentNotes) -> None:
    """Every ordered pair comes about equally often; nobody is paired with himself, or if he has no partner."""
    labelled = replace(
        notes, codec=torch.repeat_interleave(torch.arange(6.0), notes.length)[:, None].expand(165, 5).contiguous()
    )
    windows = labelled.paired().draw_pairs(6000, 16, torch.Generator().manual_seed(0))
    assert windows.partner_BN5 is not None
    pairs = torch.stack([windows.x0_BN5[:, 0, 0], windows.partner_BN5[:, 0, 0]], dim=1)
    found, counts = pairs.unique(dim=0, return_counts=True)
    expected = [[0, 1], [1, 0], [3, 4], [3, 5], [4, 3], [4, 5], [5, 3], [5, 4]]
    assert found.tolist() == expected
    share = torch.tensor([25, 25, 5, 5, 5, 5, 5, 5]) / 80 * 6000  # places: 25 a performance, or 10 shared by two pairs
    assert float(((counts - share) ** 2 / share).sum()) < 30
    with pytest.raises(InputError) as caught:
        ResidentNotes.from_pieces([piece(40, 1, 0)]).paired()
    assert caught.value.code == "no_pairs"


@pytest.mark.parametrize("target", ["x_0", "v"])
def test_training_for_transfer_runs_and_resumes(tmp_path: Path, target: str) -> None:
    denoiser = replace(CONFIG.denoiser, perceptual="absolute", target=target)  # type: ignore[arg-type]
    config = replace(CONFIG, denoiser=denoiser, training=replace(CONFIG.training, train_target="transfer", mixup=0.5))
    notes = ResidentNotes.from_pieces([piece(40, 2, 0), piece(10, 1, 1), piece(25, 3, 2)], denoiser)
    whole = train(notes, tmp_path / "whole", config)
    half = replace(config, training=replace(config.training, steps=4))
    train(notes, tmp_path / "cut", half)
    assert train(notes, tmp_path / "cut", config).digest == whole.digest
    _, _, statistics = load_denoiser(load_checkpoint(whole.checkpoint))
    assert len(statistics.perceptual_mean) == 7


def test_statistics_are_those_of_matched_rows(notes: ResidentNotes) -> None:
    pieces = [piece(40, 2, 0), piece(10, 1, 1), piece(25, 3, 2)]
    rows = np.concatenate([p.performance[p.matched] for p in pieces])
    statistics = notes.statistics()
    assert statistics.mean == pytest.approx(rows.mean(axis=0, dtype=float))
    assert statistics.std == pytest.approx(rows.std(axis=0, dtype=float))
    normal = notes.normalised(statistics)
    assert torch.allclose(statistics.restore(normal.codec), notes.codec, atol=1e-5)
    notes.codec[0] = 1e6
    assert float(notes.normalised(statistics).codec.max()) == LIMIT


def test_windows_are_cut_and_padded(notes: ResidentNotes) -> None:
    windows = notes.cut(torch.tensor([1, 2]), torch.tensor([24, 0]), 16)
    assert windows.mask_BN.sum(dim=1).tolist() == [16, 10]
    assert torch.equal(windows.x0_BN5[0], notes.codec[40 + 24 : 80])
    assert torch.equal(windows.matched_BN[0], notes.matched[40 + 24 : 80])
    assert bool((windows.x0_BN5[1, 10:] == 0).all())
    assert not bool(windows.matched_BN[1, 10:].any())
    assert windows.condition_BNR[0, :, 0].tolist() == pytest.approx((np.arange(16) / 15).tolist())


def test_every_place_of_a_window_is_equally_likely(notes: ResidentNotes) -> None:
    """The first row of a window tells its place: 25 + 25 + 1 + 3 x 10 places of 16 notes."""
    firsts = replace(notes, codec=torch.arange(165.0)[:, None].expand(165, 5))
    drawn = firsts.draw(81_000, 16, torch.Generator().manual_seed(0)).x0_BN5[:, 0, 0]
    places, counts = drawn.unique(return_counts=True)
    expected = [*range(25), *range(40, 65), 80, *range(90, 100), *range(115, 125), *range(140, 150)]
    assert places.tolist() == expected
    assert float(((counts - 1000.0) ** 2 / 1000.0).sum()) < 130  # chi square, 80 degrees of freedom


def test_tiles_cover_every_note_once(notes: ResidentNotes) -> None:
    tiles = notes.tiles(16, limit=100)
    assert int(tiles.mask_BN.sum()) == 165
    assert torch.equal(tiles.x0_BN5[tiles.mask_BN], notes.codec)
    assert len(notes.tiles(16, limit=5).x0_BN5) == 5


def test_arrays_travel(notes: ResidentNotes, tmp_path: Path) -> None:
    notes.save(tmp_path / "notes.npz")
    again = ResidentNotes.load(tmp_path / "notes.npz")
    assert again.statistics() == notes.statistics()
    assert torch.equal(again.matched, notes.matched)


def test_a_split_without_performances_is_told() -> None:
    with pytest.raises(InputError) as caught:
        ResidentNotes.from_pieces([])
    assert caught.value.code == "empty_split"


@pytest.mark.parametrize("stops", [[5], [4, 9], [1, 2, 3]])
def test_an_interrupted_run_equals_an_undisturbed_one(notes: ResidentNotes, tmp_path: Path, stops: list[int]) -> None:
    """Killed right before a checkpoint would be due, or right after one, weights and loss curve are the same."""

    class KilledError(Exception):
        pass

    def killed_at(stop: int) -> Hooks:
        def check(progress: Progress) -> None:
            if progress.step >= stop:
                raise KilledError

        return Hooks(logged=check)

    config = replace(CONFIG, training=replace(CONFIG.training, log_every=1))
    whole = train(notes, tmp_path / "whole", config)
    for stop in stops:
        with pytest.raises(KilledError):
            train(notes, tmp_path / "cut", config, hooks=killed_at(stop))
    resumed = train(notes, tmp_path / "cut", config)
    assert resumed.history == whole.history
    assert resumed.digest == whole.digest
    assert resumed.step == 12


def test_a_run_stopped_by_the_clock_leaves_no_trace(notes: ResidentNotes, tmp_path: Path) -> None:
    """Not a row more in the history, wherever the time limit falls."""
    whole = train(notes, tmp_path / "whole")
    first = train(notes, tmp_path / "cut", seconds=0.0)
    assert first.step == 1
    resumed = train(notes, tmp_path / "cut")
    assert resumed.history == whole.history
    assert resumed.digest == whole.digest


def test_a_checkpoint_between_rows_of_the_history_is_exact_too(notes: ResidentNotes, tmp_path: Path) -> None:
    whole = train(notes, tmp_path / "whole")
    short = replace(CONFIG, training=replace(CONFIG.training, steps=8))
    assert train(notes, tmp_path / "cut", short).step == 8
    resumed = train(notes, tmp_path / "cut")
    weights, expected = load_checkpoint(resumed.checkpoint).state, load_checkpoint(whole.checkpoint).state
    assert all(np.array_equal(weights[name], expected[name]) for name in expected)
    assert resumed.history[-1] == whole.history[-1]


def test_the_seed_decides(notes: ResidentNotes, tmp_path: Path) -> None:
    one, same = train(notes, tmp_path / "1"), train(notes, tmp_path / "2")
    other = replace(CONFIG, training=replace(CONFIG.training, seed=14))
    assert one.digest == same.digest
    assert train(notes, tmp_path / "3", other).digest != one.digest
    assert step_seed(13, 5, 0) != step_seed(13, 5, 1) != step_seed(13, 6, 0)


def test_a_run_that_is_done_stays_done(notes: ResidentNotes, tmp_path: Path) -> None:
    first = train(notes, tmp_path)
    again = train(notes, tmp_path)
    assert (again.digest, again.loss, again.checkpoint) == (first.digest, first.loss, first.checkpoint)


def test_another_configuration_or_data_set_does_not_go_on(notes: ResidentNotes, tmp_path: Path) -> None:
    train(notes, tmp_path)
    longer = replace(CONFIG, training=replace(CONFIG.training, steps=13))
    assert train(notes, tmp_path, longer).step == 13
    with pytest.raises(InputError, match=r"another training\.learning_rate \(0\.001, not 1\.0\)\. "):
        train(notes, tmp_path, replace(CONFIG, training=replace(CONFIG.training, learning_rate=1.0)))
    with pytest.raises(InputError, match=r"another dataset\.version \(v1, not v2\), dataset\.digest \(d1, not None\)"):
        train_on_arrays(notes, notes, CONFIG, tmp_path, dataset={"version": "v2"})


def test_settings_that_came_later_stand_in_nobodys_way_unless_they_are_used(
    notes: ResidentNotes, tmp_path: Path
) -> None:
    whole = train(notes, tmp_path / "whole")
    begun = train(notes, tmp_path / "cut", replace(CONFIG, training=replace(CONFIG.training, steps=4)))
    description = begun.checkpoint / "checkpoint.json"
    meta = json.loads(description.read_text())
    del meta["config"]["denoiser"]["dilation_cycle"], meta["config"]["training"]["mixup"]
    description.write_text(json.dumps(meta))
    for part, name, value in (("denoiser", "dilation_cycle", 6), ("training", "mixup", 0.1)):
        used = replace(CONFIG, **{part: replace(getattr(CONFIG, part), **{name: value})})
        with pytest.raises(InputError, match=rf"another {part}\.{name} "):
            train(notes, tmp_path / "cut", used)
    assert train(notes, tmp_path / "cut").digest == whole.digest
    description = whole.checkpoint / "checkpoint.json"
    meta["config"]["denoiser"]["colour"] = "red"
    description.write_text(json.dumps(meta))
    with pytest.raises(InputError, match="settings unknown today") as caught:
        train(notes, tmp_path / "whole")
    assert caught.value.code == "resume_mismatch"


def test_a_run_leaves_checkpoints_history_and_event_files(notes: ResidentNotes, tmp_path: Path) -> None:
    rows: list[Progress] = []
    result = train(notes, tmp_path, hooks=Hooks(logged=rows.append))
    assert [row[0] for row in result.history] == [5, 6, 10, 12]
    assert [row[0] for row in result.history if row[2] is not None] == [6, 12]
    assert [row.step for row in rows] == [5, 6, 10, 12]
    assert sorted(folder.name for folder in (tmp_path / "checkpoints").iterdir()) == ["step_00000008", "step_00000012"]
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))
    meta = load_checkpoint(result.checkpoint).meta
    assert meta["dataset"] == DATASET
    assert meta["seed"] == 13
    assert meta["history"] == result.history
    assert ExpressionConfig.from_dict(meta["config"]) == CONFIG


@pytest.mark.parametrize("log_every", [1, 5])
def test_a_run_that_diverges_stops_and_publishes_nothing(tmp_path: Path, log_every: int) -> None:
    config = replace(CONFIG.training, log_every=log_every)
    with pytest.raises(InputError, match="learning_rate"):
        fit(torch.nn.Linear(1, 1), lambda predict, _: predict(torch.ones(1)).sum() * torch.nan, config, tmp_path, {})
    assert not list(tmp_path.glob("checkpoints/*"))


def test_the_average_follows_the_weights() -> None:
    model = torch.nn.Linear(3, 1)
    average = copy_weights(model)
    with torch.no_grad():
        model.weight.add_(1.0)
    before = average["weight"].clone()
    update_average(average, model, decay=0.9, step=10_000)
    assert torch.allclose(average["weight"], before + 0.1, atol=1e-6)
    update_average(average, model, decay=0.9, step=0)  # early steps count more
    assert torch.allclose(average["weight"], before + 0.1 + 0.9 * 0.9, atol=1e-6)


def test_one_batch_can_be_learnt_and_sampled_back(tmp_path: Path) -> None:
    """A denoiser that knows one window by heart renders it from any noise."""
    notes = ResidentNotes.from_pieces([piece(16, 1, 7)])
    training = TrainingConfig(
        steps=150, batch_size=32, learning_rate=3e-3, ema_decay=0.95, log_every=150, condition_dropout=0.0
    )  # fmt: skip
    config = ExpressionConfig(DenoiserConfig(channels=48, layers=4, window=16, target="x_0"), training=training)
    result = train_on_arrays(notes, None, config, tmp_path, dataset=DATASET)
    model, _, statistics = load_denoiser(load_checkpoint(result.checkpoint))
    window = notes.normalised(statistics).tiles(16, 1)
    noise = torch.randn(8, 16, 5, generator=torch.Generator().manual_seed(0))
    condition, mask = window.condition_BNR.expand(8, -1, -1), window.mask_BN.expand(8, -1)
    schedule = noise_schedule(config.diffusion)
    sampled = sample_windows(model, condition, mask, noise, schedule=schedule, steps=20, guidance=1.0)
    played = window.matched_BN[0]
    error: Tensor = (sampled - window.x0_BN5)[:, played].square().mean().sqrt()
    assert float(error) < 0.05  # of a standard deviation


def test_the_command_trains_from_arrays_alone(notes: ResidentNotes, tmp_path: Path) -> None:
    notes.save(tmp_path / "train.npz")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG.to_dict()))
    command = """
import sys
sys.argv[1:] = ["dexter", "train.npz", "config.json", "--validation", "train.npz", "--out", "out", "--device", "cpu"]
for absent in "pydantic ray zarr polars rich prefect partitura matplotlib symusic music21 scipy".split():
    sys.modules[absent] = None
from dexter_model.training.on_arrays import main
main()
"""
    ran = subprocess.run(
        [sys.executable, "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300
    )
    assert "12 steps" in ran.stdout
    expected = train_on_arrays(notes, notes, CONFIG, tmp_path / "here", dataset={})
    assert load_checkpoint(tmp_path / "out").digest == expected.digest
