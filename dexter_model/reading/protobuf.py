"""Protobuf messages field by field, without their schemas; no length is believed beyond the bytes that are there."""

from __future__ import annotations

from collections.abc import Iterator

Value = int | memoryview
VARINT, DOUBLE, MESSAGE, FLOAT = 0, 1, 2, 5  # how a field is written: the last three bits of its tag


def fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """Numbers and values of a message's fields: integers, or bytes (errors as ``places``)."""
    for number, kind, begin, end in places(data):
        yield number, varint(data, begin)[0] if kind == VARINT else data[begin:end]


def places(data: bytes | memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Numbers and kinds of a message's fields, and where their values begin and end.

    Raises:
        ValueError: it is no such message.
        IndexError: it ends too soon.
    """
    position = 0
    while position < len(data):
        tag, position = varint(data, position)
        kind = tag & 7
        if kind == VARINT:
            end = varint(data, position)[1]
        elif kind == MESSAGE:
            length, position = varint(data, position)
            end = position + length
        elif kind in (DOUBLE, FLOAT):
            end = position + (8 if kind == DOUBLE else 4)
        else:
            raise ValueError(f"a field of kind {kind} is unknown")
        if end > len(data):
            raise ValueError("a field is longer than the message it is in")
        yield tag >> 3, kind, position, end
        position = end


def varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """A number of seven bits a byte, and where it ends.

    Raises:
        ValueError: it has more than 64 bits.
        IndexError: it ends too soon.
    """
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("it has a number of more than 64 bits")


def message(value: Value) -> memoryview:
    """A field's bytes.

    Raises:
        ValueError: it is a number.
    """
    if isinstance(value, int):
        raise ValueError("a number stands where a message should")
    return value


def text(value: Value) -> str:
    """A field's text.

    Raises:
        ValueError: it is none.
    """
    return bytes(message(value)).decode()
