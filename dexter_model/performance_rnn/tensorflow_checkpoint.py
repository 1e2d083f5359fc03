"""Checkpoints in TensorFlow's first format, read without it.

A table of sorted blocks, as LevelDB's, whose values are protobuf messages: under the empty key the shapes of all
tensors, under the others their numbers. Only floats are read, and no more than the file can hold.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

import numpy as np

from dexter_model.reading.protobuf import Value, fields, message, text, varint

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_MOST_DIMENSIONS, _LONGEST_KEY = 8, 1024


def read_tensors(table: memoryview) -> dict[str, np.ndarray]:
    """Float tensors by name of a checkpoint; all others are passed over.

    Raises:
        ValueError: it is none, or is damaged; also IndexError and struct.error.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    tensors: dict[str, np.ndarray] = {}
    for key, value in _entries(table):
        for number, part in fields(value):
            if number == 1 and key == b"":
                shapes = dict(_described(each) for field, each in fields(message(part)) if field == 1)
            elif number == 2:
                name, numbers = _slice(message(part))
                if numbers is not None:
                    tensors[name] = numbers
    return {name: _shaped(name, numbers, shapes.get(name, ())) for name, numbers in tensors.items()}


def _shaped(name: str, numbers: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if math.prod(shape) != len(numbers):
        raise ValueError(f"{name} has {len(numbers)} numbers, not those of {shape}")
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} holds values that are no numbers")
    return numbers.reshape(shape)


def _described(data: Value) -> tuple[str, tuple[int, ...]]:
    """Name and shape that the checkpoint's metadata give a tensor."""
    name = ""
    shape: tuple[int, ...] = ()
    for number, value in fields(message(data)):
        if number == 1:
            name = text(value)
        elif number == 2:
            sizes = [_size(dimension) for field, dimension in fields(message(value)) if field == 2]
            shape = tuple(sizes[:_MOST_DIMENSIONS])
    return name, shape


def _size(dimension: Value) -> int:
    return next((size for field, size in fields(message(dimension)) if field == 1 and isinstance(size, int)), 0)


def _slice(data: memoryview) -> tuple[str, np.ndarray | None]:
    """Name and numbers of a saved tensor; None if they are no floats."""
    name, numbers = "", None
    for number, value in fields(data):
        if number == 1:
            name = text(value)
        elif number == 3:
            packed = [message(floats) for field, floats in fields(message(value)) if field == 5]
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
        shared, position = varint(block, position)
        rest, position = varint(block, position)
        length, position = varint(block, position)
        if shared > len(key) or shared + rest > _LONGEST_KEY or position + rest + length > end:
            raise ValueError("an entry of its checkpoint lies outside of its block")
        key = key[:shared] + bytes(block[position : position + rest])
        position += rest + length
        yield key, block[position - length : position]


def _handle(data: memoryview, position: int) -> tuple[tuple[int, int], int]:
    offset, position = varint(data, position)
    size, position = varint(data, position)
    return (offset, size), position
