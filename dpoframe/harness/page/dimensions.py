"""How large a picture is once decoded, read from its header alone: a file of a few kilobytes may unpack to gigabytes."""

from __future__ import annotations

import struct

MOST_PIXELS = 2**25
"""Pixels of the largest picture that is decoded or handed to a browser: 134 MB at 4 bytes each."""


def is_bearable(data: bytes) -> bool:
    """Whether a PNG, GIF, JPEG or WebP says its size in its header, and that size can be decoded without harm."""
    found = _size(data)
    return found is not None and 0 < found[0] * found[1] <= MOST_PIXELS


def _size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels; None where the header does not say."""
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            width, height = struct.unpack(">II", data[16:24])
            return width, height
        if data.startswith(b"GIF8"):
            width, height = struct.unpack("<HH", data[6:10])
            return width, height
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        return _jpeg(data) if data.startswith(b"\xff\xd8\xff") else None
    except struct.error:
        return None


def _webp(data: bytes) -> tuple[int, int] | None:
    """RFC 9649: the first chunk is lossy (VP8), lossless (VP8L), or tells of the canvas (VP8X)."""
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        (bits,) = struct.unpack("<I", data[21:25])
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", data[26:30])
    return (width & 0x3FFF, height & 0x3FFF) if kind == b"VP8 " else None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    """ITU-T T.81: segments of a marker and a length, up to the one that begins a frame (SOF0 to SOF15 but DHT, JPG, DAC)."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        alone = marker == 0x01 or 0xD0 <= marker <= 0xD8
        at += 2 if alone else 2 + int(struct.unpack(">H", data[at + 2 : at + 4])[0])
    return None
