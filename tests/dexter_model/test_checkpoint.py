"""Checkpoints: written whole, loaded exactly, and refused when they are anything else."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from dexter_model.errors import InputError
from dexter_model.expression.config import DenoiserConfig, ExpressionConfig
from dexter_model.expression.denoiser import ClassifierFreeDenoiser
from dexter_model.expression.sampling import load_denoiser
from dexter_model.places import writing
from dexter_model.training.checkpoint import (
    export_checkpoint,
    last_meta,
    latest_checkpoint,
    load_checkpoint,
    load_training_state,
    prune_checkpoints,
    recover_checkpoint,
    step_folder,
    write_checkpoint,
)
from dexter_model.training.config import LoopConfig
from dexter_model.training.run import begin_run, publish

CONFIG = ExpressionConfig(DenoiserConfig(channels=8, layers=2, window=16))
META: dict[str, Any] = {
    "label": "test",
    "config": CONFIG.to_dict(),
    "statistics": {"mean": [0.5] * 5, "std": [2.0] * 5},
    "dataset": {"version": "v", "digest": "d"},
    "code_version": "0",
    "seed": 13,
    "step": 3,
    "history": [[3, 1.5, None]],
}


def weights() -> dict[str, np.ndarray]:
    torch.manual_seed(0)
    return {name: value.numpy() for name, value in ClassifierFreeDenoiser(CONFIG.denoiser).state_dict().items()}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "good", weights(), META)
    return tmp_path / "good"


def test_a_checkpoint_comes_back_as_it_was(checkpoint: Path) -> None:
    loaded = load_checkpoint(checkpoint)
    model, config, statistics = load_denoiser(loaded)
    assert config == CONFIG
    assert loaded.label == "test"
    assert statistics.std == (2.0,) * 5
    state = model.state_dict()
    assert all(np.array_equal(state[name].numpy(), value) for name, value in weights().items())
    assert not model.training


def test_same_content_same_bytes(checkpoint: Path, tmp_path: Path) -> None:
    digest = write_checkpoint(tmp_path / "again", weights(), META, {"x": np.ones(2, np.float32)})
    assert digest == load_checkpoint(checkpoint).digest
    for name in ("model.safetensors", "checkpoint.json"):
        assert (tmp_path / "again" / name).read_bytes() == (checkpoint / name).read_bytes()
    assert load_training_state(tmp_path / "again")["x"].tolist() == [1.0, 1.0]
    with pytest.raises(InputError, match="resume"):
        load_training_state(checkpoint)


def test_the_digest_names_what_the_model_says(tmp_path: Path) -> None:
    digest = write_checkpoint(tmp_path / "a", weights(), META)
    assert write_checkpoint(tmp_path / "b", weights(), META | {"label": "other", "code_version": "2"}) == digest
    assert load_checkpoint(tmp_path / "b").digest == digest
    louder = META | {"statistics": {"mean": [0.5, 0.6, 0.5, 0.5, 0.5], "std": [2.0] * 5}}
    assert write_checkpoint(tmp_path / "c", weights(), louder) != digest
    assert write_checkpoint(tmp_path / "d", weights() | {"input.bias": np.ones(8, np.float32)}, META) != digest


def test_the_newest_checkpoint_of_a_run_is_found_and_old_ones_go(tmp_path: Path) -> None:
    checkpoints = tmp_path / "checkpoints"
    assert latest_checkpoint(checkpoints) is None
    for step in (999, 1000, 20):
        write_checkpoint(step_folder(checkpoints, step), weights(), META | {"step": step})
    (checkpoints / ".step_00001001.tmp").mkdir()
    assert load_checkpoint(tmp_path).meta["step"] == 1000
    prune_checkpoints(checkpoints, keep=2)
    assert sorted(os.listdir(checkpoints)) == ["step_00000999", "step_00001000"]


def test_a_checkpoint_that_was_cut_short_gives_way_to_the_whole_one_before(tmp_path: Path, moto_bucket: str) -> None:
    """A writer that was killed at S3 leaves the weights of a step without what is written last."""
    meta = {name: value for name, value in META.items() if name not in ("step", "history")}
    model = ClassifierFreeDenoiser(CONFIG.denoiser)
    run = begin_run(model, LoopConfig(), tmp_path, meta)
    for run.step in (10, 20):
        publish(run)
    (step_folder(tmp_path / "checkpoints", 20) / "checkpoint.json").unlink()
    with writing(f"{moto_bucket}/out") as written:
        shutil.copytree(tmp_path, written.folder, dirs_exist_ok=True)
    for out in (tmp_path, f"{moto_bucket}/out"):
        assert load_checkpoint(out).meta["step"] == 10
        assert (last_meta(out) or {})["step"] == 10
    with writing(f"{moto_bucket}/out") as written:
        run = begin_run(model, LoopConfig(), written.folder, meta)
        assert run.step == 10
        run.step = 20
        publish(run)
    assert load_checkpoint(f"{moto_bucket}/out").meta["step"] == 20


def test_an_exported_model_is_half_the_size(checkpoint: Path, tmp_path: Path) -> None:
    export_checkpoint(checkpoint, tmp_path / "shipped", label="demo")
    shipped = load_checkpoint(tmp_path / "shipped")
    assert shipped.label == "demo"
    assert sorted(os.listdir(tmp_path / "shipped")) == ["checkpoint.json", "model.safetensors"]
    assert os.path.getsize(tmp_path / "shipped/model.safetensors") < 0.7 * os.path.getsize(
        checkpoint / "model.safetensors"
    )
    state = load_denoiser(shipped)[0].state_dict()
    assert all(np.allclose(state[name].numpy(), value, rtol=1e-3, atol=1e-6) for name, value in weights().items())


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(self: Path, data: bytes) -> int:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_checkpoint(tmp_path / "checkpoints" / "step_00000001", weights(), META)
    assert os.listdir(tmp_path / "checkpoints") == []


def test_a_checkpoint_that_cannot_be_replaced_stays(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever rename fails, and also when the process is interrupted there."""
    rename, before = Path.rename, load_checkpoint(checkpoint).digest
    for number in (1, 2):
        for failure in (OSError("no space left"), KeyboardInterrupt()):
            calls: list[Path] = []

            def failing(self: Path, target: Path, calls: list[Path] = calls, **given: Any) -> Path:
                calls.append(self)
                if len(calls) == given["number"]:
                    raise given["failure"]
                return rename(self, target)

            monkeypatch.setattr(Path, "rename", partialmethod(failing, number=number, failure=failure))
            with pytest.raises(type(failure)):
                write_checkpoint(checkpoint, weights() | {"input.bias": np.ones(8, np.float32)}, META)
            monkeypatch.undo()
            assert load_checkpoint(checkpoint).digest == before
            assert os.listdir(checkpoint.parent) == ["good"]


def test_a_writer_killed_while_it_replaces_a_checkpoint_loses_none(checkpoint: Path) -> None:
    before = load_checkpoint(checkpoint).digest
    killed = checkpoint.with_name(".good.x1")
    for in_place in (False, True):
        if in_place:
            shutil.copytree(checkpoint, killed / "new")
        else:
            killed.mkdir()
            checkpoint.rename(killed / "old")
        recover_checkpoint(checkpoint)
        assert load_checkpoint(checkpoint).digest == before
        assert os.listdir(checkpoint.parent) == ["good"]


def _pickled(folder: Path, name: str) -> Path:
    (folder / name).write_bytes(pickle.dumps({"weights": [1, 2]}))
    return folder / name


def _torch_saved(folder: Path, name: str) -> Path:
    torch.save({"weights": torch.ones(2)}, folder / name)
    return folder / name


@pytest.mark.parametrize("name", ["model.pt", "model.ckpt", "model.pkl", "model.PTH", "model", "model.safetensors"])
@pytest.mark.parametrize("write", [_pickled, _torch_saved])
def test_pickles_are_refused_under_any_name(tmp_path: Path, write: Callable[[Path, str], Path], name: str) -> None:
    with pytest.raises(InputError) as caught:
        load_checkpoint(write(tmp_path, name))
    assert caught.value.code == "unsafe_checkpoint"


def test_a_pickle_inside_a_checkpoint_folder_is_refused(checkpoint: Path) -> None:
    _pickled(checkpoint, "model.safetensors")
    with pytest.raises(InputError) as caught:
        load_checkpoint(checkpoint)
    assert caught.value.code == "unsafe_checkpoint"


def test_a_header_whose_length_begins_like_a_pickle_is_no_pickle(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    for padding in range(0, 512, 8):
        save_file(weights(), path, metadata={"padding": "." * padding})
        if path.read_bytes().startswith(b"\x80"):
            break
    assert path.read_bytes().startswith(b"\x80")
    assert set(load_checkpoint(checkpoint).state) == set(weights())


def test_a_pickle_is_refused_without_importing_torch(tmp_path: Path) -> None:
    path = _pickled(tmp_path, "model.pt")
    code = f"""
import sys
from dexter_model.training.checkpoint import load_checkpoint
try:
    load_checkpoint({str(path)!r})
except Exception as error:
    print(error.code, "torch" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["unsafe_checkpoint", "False"]


def _without_meta(folder: Path) -> None:
    (folder / "checkpoint.json").unlink()


def _cut_weights(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def _huge_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")


def _missing_key(folder: Path) -> None:
    save_file({name: value for name, value in weights().items() if name != "input.bias"}, folder / "model.safetensors")


def _wrong_shape(folder: Path) -> None:
    save_file(weights() | {"input.bias": np.zeros(9, np.float32)}, folder / "model.safetensors")


def _changed_meta(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        meta = json.loads((folder / "checkpoint.json").read_text()) | changes
        (folder / "checkpoint.json").write_text(json.dumps(meta))

    return change


def _no_json(folder: Path) -> None:
    (folder / "checkpoint.json").write_text("{" * 100_000)


@pytest.mark.parametrize(
    "spoil",
    [
        _without_meta,
        _cut_weights,
        _no_weights,
        _huge_header,
        _missing_key,
        _wrong_shape,
        _no_json,
        shutil.rmtree,
        _changed_meta(format="other"),
        _changed_meta(statistics={"mean": [0.0] * 5, "std": [0.0] * 5}),
        _changed_meta(statistics={"mean": ["x"] * 5, "std": [1.0] * 5}),
        _changed_meta(statistics={"mean": [0.0] * 5, "std": []}),
        _changed_meta(statistics=[]),
        _changed_meta(statistics={"mean": [0.0] * 3, "std": [1.0] * 3}),
        _changed_meta(statistics={"mean": [1e308] * 5, "std": [1.0] * 5}),
        _changed_meta(statistics={"mean": [0.0] * 5, "std": [1.0] * 5, "pace": [0.0, 1.0]}),
        _changed_meta(statistics={"mean": [0.0] * 5, "std": [1.0] * 5, "x_mean": [0.0]}),
        _changed_meta(config=3),
        *(_changed_meta(dataset=wrong) for wrong in (None, 5, "ab", ["x"])),
        _changed_meta(config={"denoiser": {"channels": 16, "layers": 2}}),
        _changed_meta(config={"denoiser": {"channels": 10**12, "layers": 2}}),
        _changed_meta(config={"denoiser": {"channels": 8, "layers": 2.5}}),
        _changed_meta(config={"surprise": {}, "denoiser": {"surprise": 1}}),
        _changed_meta(config=CONFIG.to_dict() | {"training": {"column_weights": ["a"] * 5}}),
    ],
)
def test_broken_checkpoints_are_one_clear_error(checkpoint: Path, spoil: Callable[[Path], None]) -> None:
    spoil(checkpoint)
    with pytest.raises(InputError) as caught:
        load_denoiser(load_checkpoint(checkpoint))
    assert caught.value.code == "checkpoint_unreadable"
    assert str(checkpoint) in str(caught.value)


def test_a_file_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError) as caught:
        load_checkpoint(tmp_path / "notes.txt")
    assert caught.value.code == "checkpoint_unreadable"
