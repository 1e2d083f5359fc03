"""Protobuf messages field by field, without their schemas; no length is believed beyond the bytes that are there."""

from __future__ import annotations

from collections.abc import Iterator

Value = int | memoryview


def fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    """Numbers and values of a message's fields: integers, or bytes.

    Raises:
        ValueError: it is no such message.
        IndexError: it ends too soon.
    """
    position = 0
    while position < len(data):
        tag, position = varint(data, position)
        kind = tag & 7
        if kind == 0:
            number, position = varint(data, position)
            yield tag >> 3, number
            continue
        if kind not in (1, 2, 5):
            raise ValueError(f"a field of kind {kind} is unknown")
        length = 8 if kind == 1 else 4
        if kind == 2:
            length, position = varint(data, position)
        if position + length > len(data):
            raise ValueError("a field is longer than the message it is in")
        yield tag >> 3, data[position : position + length]
        position += length


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
