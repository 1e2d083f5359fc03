"""Published bundles (``.mag``) read without TensorFlow.

A bundle is a protobuf message around a checkpoint in TensorFlow's first format: a table of sorted blocks, as LevelDB's,
whose values are protobuf messages again. Only what is needed is read, nothing is run, and no length in the file is
believed beyond the bytes that are there.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dexter_model.digests import array_digest, json_digest
from dexter_model.errors import InputError
from dexter_model.performance_rnn.config import PUBLISHED, NetworkConfig, PerformanceRnnConfig
from dexter_model.performance_rnn.encodings import heads, input_width
from dexter_model.places import local
from dexter_model.training.checkpoint import Checkpoint

MAX_BYTES = 512 << 20  # the published ones have 25 to 130 MB
_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_MOST_DIMENSIONS, _LONGEST_KEY = 8, 1024


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
    return Checkpoint(Path(path), config, {"mean": [], "std": []}, state, meta, digest)


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
    details = description = b""
    checkpoints = []
    for number, value in _fields(data):
        if number == 1:
            details = _bytes(value)
        elif number == 2:
            checkpoints.append(value)
        elif number == 4:
            description = _bytes(value)
    if len(checkpoints) != 1:
        raise ValueError(f"it holds {len(checkpoints)} checkpoints, not one")
    names, told = (_first(part).decode(errors="replace") for part in (details, description))
    return MagentaBundle(names, told, _tensors(_view(checkpoints[0])))


def _tensors(table: memoryview) -> dict[str, np.ndarray]:
    """Float tensors by name of a checkpoint; all others are passed over."""
    shapes: dict[str, tuple[int, ...]] = {}
    tensors: dict[str, np.ndarray] = {}
    for key, value in _entries(table):
        for number, part in _fields(value):
            if number == 1 and key == b"":
                shapes = dict(_described(each) for field, each in _fields(_view(part)) if field == 1)
            elif number == 2:
                name, numbers = _slice(_view(part))
                if numbers is not None:
                    tensors[name] = numbers
    return {name: _shaped(name, numbers, shapes.get(name, ())) for name, numbers in tensors.items()}


def _shaped(name: str, numbers: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if math.prod(shape) != len(numbers):
        raise ValueError(f"{name} has {len(numbers)} numbers, not those of {shape}")
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} holds values that are no numbers")
    return numbers.reshape(shape)


def _described(data: int | memoryview) -> tuple[str, tuple[int, ...]]:
    """Name and shape that the checkpoint's metadata give a tensor."""
    name = ""
    shape: tuple[int, ...] = ()
    for number, value in _fields(_view(data)):
        if number == 1:
            name = _bytes(value).decode()
        elif number == 2:
            sizes = [_size(dimension) for field, dimension in _fields(_view(value)) if field == 2]
            shape = tuple(sizes[:_MOST_DIMENSIONS])
    return name, shape


def _size(dimension: int | memoryview) -> int:
    return next((size for field, size in _fields(_view(dimension)) if field == 1 and isinstance(size, int)), 0)


def _slice(data: memoryview) -> tuple[str, np.ndarray | None]:
    """Name and numbers of a saved tensor; None if they are no floats."""
    name, numbers = "", None
    for number, value in _fields(data):
        if number == 1:
            name = _bytes(value).decode()
        elif number == 3:
            packed = [_bytes(floats) for field, floats in _fields(_view(value)) if field == 5]
            if packed:
                numbers = np.frombuffer(b"".join(packed), "<f4").copy()
    return name, numbers


def _entries(table: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Keys and values of a table in their order."""
    if len(table) < _FOOTER or struct.unpack("<Q", table[-8:])[0] != _MAGIC:
        raise ValueError("its checkpoint is none of TensorFlow's first format")
    _, position = _handle(table[-_FOOTER:], 0)  # of what this format leaves empty
    index, _ = _handle(table[-_FOOTER:], position)
    left = len(table)  # blocks do not overlap: together they are no longer than the table
    for _, handle in _block(table, *index):
        (offset, size), _ = _handle(handle, 0)
        left -= size
        if left < 0:
            raise ValueError("the blocks of its checkpoint overlap")
        yield from _block(table, offset, size)


def _block(table: memoryview, offset: int, size: int) -> Iterator[tuple[bytes, memoryview]]:
    """Keys and values of a block; a key is told by how much of the one before it begins with."""
    if offset + size + 5 > len(table) or size < 4:
        raise ValueError("a block of its checkpoint lies outside of it")
    if table[offset + size] != 0:
        raise ValueError("a block of its checkpoint is compressed")
    block = table[offset : offset + size]
    restarts = struct.unpack("<I", block[-4:])[0]
    end = size - 4 - 4 * restarts
    position, key = 0, b""
    while position < end:
        shared, position = _varint(block, position)
        rest, position = _varint(block, position)
        length, position = _varint(block, position)
        if shared > len(key) or shared + rest > _LONGEST_KEY or position + rest + length > end:
            raise ValueError("an entry of its checkpoint lies outside of its block")
        key = key[:shared] + bytes(block[position : position + rest])
        position += rest + length
        yield key, block[position - length : position]


def _handle(data: memoryview, position: int) -> tuple[tuple[int, int], int]:
    offset, position = _varint(data, position)
    size, position = _varint(data, position)
    return (offset, size), position


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Numbers and values of a protobuf message's fields: integers, or bytes."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == 0:
            number, position = _varint(data, position)
            yield tag >> 3, number
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"a field of kind {kind} is no protobuf of this sort")
        length = 8 if kind == 1 else 4
        if kind == 2:
            length, position = _varint(data, position)
        if position + length > len(data):
            raise ValueError("a field is longer than the message it is in")
        yield tag >> 3, data[position : position + length]
        position += length


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number has more than 64 bits")


def _first(message: bytes) -> bytes:
    """The first string of a message."""
    return next((_bytes(value) for number, value in _fields(memoryview(message)) if number == 1), b"")


def _view(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number stands where a message should")
    return value


def _bytes(value: int | memoryview) -> bytes:
    return bytes(_view(value))


def _unreadable(path: str | Path, reason: str) -> InputError:
    return InputError(path, reason, "Give a bundle of Performance RNN, fetched anew", "bundle_unreadable")
