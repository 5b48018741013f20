"""The smallest PNG writer there is: 8-bit RGB, no filters, one chunk of data."""

from __future__ import annotations

import struct
import zlib

__all__ = ["encode_png"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_RGB = 2


def encode_png(pixels: bytes, width: int, height: int) -> bytes:
    """A PNG file from rows of red, green and blue bytes, from top to bottom.

    Raises:
        ValueError: `pixels` is not ``width * height * 3`` bytes.
    """
    row_len = width * 3
    if len(pixels) != row_len * height:
        raise ValueError(f"{width} x {height} pixels are {row_len * height} bytes, not {len(pixels)}")
    # Each row begins with the number of its filter; 0 is "none".
    rows = b"".join(b"\0" + pixels[at : at + row_len] for at in range(0, len(pixels), row_len))
    return b"".join(
        (
            _SIGNATURE,
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, _RGB, 0, 0, 0)),
            _chunk(b"IDAT", zlib.compress(rows, 1)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
