"""The text in an exported file, replaced without the packages that write graphs: machines at a line lack them.

ONNX is a protocol buffer whose message holds the text as the entry "unmask" of its field 14 (`metadata_props`, see
onnx.proto); OpenVINO is XML, with the text as an attribute. No other byte of the file changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.sax.saxutils import escape

from unmask.inspection.exported import KEY

PROPERTIES = 14
VARINT, FIXED_64, SIZED, FIXED_32 = 0, 1, 2, 5  # how a field is written: its wire type


def with_text(content: bytes, suffix: str, text: str) -> bytes:
    """The content of an exported file with another text.

    Args:
        content: of the .onnx or .xml file.
        suffix: which of them it is.
        text: to put in.

    Raises:
        ValueError: it is no such file, or holds no text.
    """
    return (_in_onnx if suffix == ".onnx" else _in_xml)(content, text)


def _in_xml(content: bytes, text: str) -> bytes:
    value = escape(text, {'"': "&quot;"}).encode()
    made, n = re.subn(rf'(<{KEY} value=")[^"]*"'.encode(), lambda found: found[1] + value + b'"', content)
    if n != 1:
        raise ValueError(f"{n} texts instead of one")
    return made


def _in_onnx(content: bytes, text: str) -> bytes:
    key = KEY.encode()
    start = b"\x0a" + _varint(len(key)) + key  # of the entry: its first field is the key, its second the value
    entry = start + b"\x12" + _varint(len(text.encode())) + text.encode()
    whole = _varint(PROPERTIES << 3 | SIZED) + _varint(len(entry)) + entry
    found = [
        (begin, end)
        for number, begin, inside, end in _fields(content)
        if number == PROPERTIES and content.startswith(start, inside)
    ]
    if len(found) != 1:
        raise ValueError(f"{len(found)} texts instead of one")
    ((begin, end),) = found
    return content[:begin] + whole + content[end:]


def _fields(content: bytes) -> Iterator[tuple[int, int, int, int]]:
    """The fields of a message: number, where the field begins, where its value begins, and where both end."""
    at = 0
    while at < len(content):
        begin = at
        tag, at = _read(content, at)
        kind = tag & 7
        if kind == SIZED:
            length, at = _read(content, at)
            end = at + length
        elif kind == VARINT:
            end = _read(content, at)[1]
        elif kind in (FIXED_64, FIXED_32):
            end = at + (8 if kind == FIXED_64 else 4)
        else:
            raise ValueError(f"a field of kind {kind}")
        if end > len(content):
            raise ValueError("it ends too early")
        yield tag >> 3, begin, at, end
        at = end


def _read(content: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and where it ends."""
    value = shift = 0
    while at < len(content):
        byte = content[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise ValueError("it ends too early")


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])
