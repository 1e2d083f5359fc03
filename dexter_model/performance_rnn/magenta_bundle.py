"""Published bundles (``.mag``) read without TensorFlow.

A bundle is a protobuf message around a checkpoint in TensorFlow's first format. Only what is needed is read, nothing of
it is run.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dexter_model.digests import array_digest, json_digest
from dexter_model.errors import InputError
from dexter_model.performance_rnn.config import PUBLISHED, NetworkConfig, PerformanceRnnConfig
from dexter_model.performance_rnn.encodings import heads, input_width
from dexter_model.performance_rnn.tensorflow_checkpoint import read_tensors
from dexter_model.places import local
from dexter_model.reading.protobuf import Value, fields, message, text
from dexter_model.training.checkpoint import Checkpoint

MAX_BYTES = 512 << 20  # the published ones have 25 to 130 MB
_DETAILS, _CHECKPOINT, _TOLD = 1, 2, 4  # fields: id of the generator, checkpoints, what is said about the bundle


class MagentaBundle(NamedTuple):
    """What a bundle holds: the generator's id, what is said about it, tensors by TensorFlow's names."""

    id: str
    description: str
    tensors: dict[str, np.ndarray]


def load_magenta_bundle(path: str | Path) -> Checkpoint:
    """A published bundle as a checkpoint of ours.

    Raises:
        InputError: it is none, is damaged, or holds another kind of model (``bundle_unreadable``).
    """
    bundle = read_magenta_bundle(path)
    try:
        network, state = _network(bundle)
    except (ValueError, InputError) as error:
        raise _unreadable(path, str(error)) from None
    config = PerformanceRnnConfig(network).to_dict()
    digest = json_digest([array_digest(*state.values()), config])
    meta = {"label": bundle.id, "description": bundle.description, "dataset": {}, "step": 0, "history": []}
    meta["system"] = PerformanceRnnConfig.system
    return Checkpoint(local(path), config, {"mean": [], "std": []}, state, meta, digest)


def read_magenta_bundle(path: str | Path) -> MagentaBundle:
    """The contents of a bundle file.

    Raises:
        InputError: it is none, or is damaged (``bundle_unreadable``).
    """
    file = local(path)
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES >> 20} MiB")
        return _bundle(memoryview(file.read_bytes()))
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    except (ValueError, IndexError, struct.error) as error:
        raise _unreadable(path, str(error) or "it ends too soon") from error


def _network(bundle: MagentaBundle) -> tuple[NetworkConfig, dict[str, np.ndarray]]:
    """Settings and weights by our names; sizes of layers are those of the kernels."""
    if bundle.id not in PUBLISHED:
        raise ValueError(f"it is a bundle of {bundle.id!r}, none of Performance RNN's")
    state: dict[str, np.ndarray] = {}
    cells: list[int] = []
    while (name := f"rnn/multi_rnn_cell/cell_{len(cells)}/basic_lstm_cell") + "/kernel" in bundle.tensors:
        layer = f"layers.{len(cells)}"
        state[f"{layer}.kernel"], state[f"{layer}.bias"] = (
            _tensor(bundle, f"{name}/{part}") for part in ("kernel", "bias")
        )
        cells.append(len(state[f"{layer}.bias"]) // 4)
    for part in ("weights", "biases"):
        state[f"head.{part}"] = _tensor(bundle, f"fully_connected/{part}")
    network = replace(PUBLISHED[bundle.id], layers=tuple(cells))
    _check_shapes(network, state)
    return network, state


def _check_shapes(network: NetworkConfig, state: dict[str, np.ndarray]) -> None:
    widths, classes = [input_width(network), *network.layers], sum(heads(network))
    expected: dict[str, tuple[int, ...]] = {"head.weights": (widths[-1], classes), "head.biases": (classes,)}
    for layer, (inputs, cells) in enumerate(zip(widths[:-1], network.layers, strict=True)):
        expected |= {f"layers.{layer}.kernel": (inputs + cells, 4 * cells), f"layers.{layer}.bias": (4 * cells,)}
    for name, shape in expected.items():
        if state[name].shape != shape:
            raise ValueError(f"{name} is {state[name].shape}, expected {shape}")


def _tensor(bundle: MagentaBundle, name: str) -> np.ndarray:
    if name not in bundle.tensors:
        raise ValueError(f"it lacks {name}")
    return bundle.tensors[name]


def _bundle(data: memoryview) -> MagentaBundle:
    found: dict[int, list[Value]] = {}
    for number, value in fields(data):
        found.setdefault(number, []).append(value)
    checkpoints = found.get(_CHECKPOINT, [])
    if len(checkpoints) != 1:
        raise ValueError(f"it holds {len(checkpoints)} checkpoints, not one")
    details, description = (_first(found[number][-1]) if number in found else "" for number in (_DETAILS, _TOLD))
    return MagentaBundle(details, description, read_tensors(message(checkpoints[0])))


def _first(data: Value) -> str:
    """The first text of a message."""
    return next((text(value) for number, value in fields(message(data)) if number == 1), "")


def _unreadable(path: str | Path, reason: str) -> InputError:
    return InputError(path, reason, "Give a bundle of Performance RNN, fetched anew", "bundle_unreadable")
