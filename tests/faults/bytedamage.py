"""Bytes of a file after an accident: cut, flipped, zeroed, packed anew by another program, or of another program."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from typing import Any

MAGIC = {
    "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "pdf": b"%PDF-1.7\n",
    "html": b"<!doctype html><title>404 Not Found</title>",
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "sqlite": b"SQLite format 3\0",
    "elf": b"\x7fELF\x02\x01\x01", "safetensors": struct.pack("<Q", 2) + b"{}", "hdf5": b"\x89HDF\r\n\x1a\n",
    "empty": b"",
    "onnx": b"\x08\x08\x12\x07pytorch", "gzip": b"\x1f\x8b\x08\0\0\0\0\0", "json": b'{"model": 1}',
    "yaml": b"nc: 2\nbackbone: []\n",
    "pickle": b"\x80\x02}q\x00.", "stop": b".", "zip of nothing": b"PK\x05\x06" + bytes(18),
    "bytes": bytes(range(256)) * 9,
}  # fmt: skip


def damage(raw: bytes, steps: list[list[Any]]) -> bytes:
    """The bytes after damage; places are fractions of the length."""
    for how, *rest in steps:
        raw = BYTES[how](raw, *rest)
    return raw


def _flip(raw: bytes, where: float, count: int) -> bytes:
    at = min(int(where * len(raw)), len(raw) - 1)
    return raw[:at] + bytes(b ^ 0xA5 for b in raw[at : at + count]) + raw[at + count :] if raw else raw


def _zero(raw: bytes, where: float, count: int) -> bytes:
    at = int(where * len(raw))
    return (raw[:at] + bytes(count) + raw[at + count :])[: len(raw)]


def _index(raw: bytes, offset: int, value: int) -> bytes:
    """One byte of the end record or the directory before it."""
    at = max(len(raw) - 1 - offset, 0)
    return raw[:at] + bytes([value]) + raw[at + 1 :]


PARTS = (
    "missing", "duplicated", "compressed", "renamed", "folder", "up", "cut", "flipped", "grown", "bomb", "opcode",
    "opcode", "opcode",
)  # fmt: skip


def _entries(raw: bytes, how: str, which: int, seed: int = 0) -> bytes:
    """The archive written anew by another program, with one entry damaged."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw))
        entries = [(i.filename, archive.read(i)) for i in archive.infolist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError):
        return raw  # an earlier step was enough
    if not entries:
        return raw
    entries.sort(key=lambda entry: not entry[0].endswith("data.pkl"))  # which 0 is the pickle
    at = which % len(entries)
    name, inside = entries[at]
    chance = random.Random(seed)
    place = chance.randrange(len(inside) + 1)
    compression = zipfile.ZIP_STORED
    if how == "missing":
        del entries[at]
    elif how == "duplicated":
        entries.append((name, inside[: len(inside) // 2]))
    elif how == "compressed":
        compression = zipfile.ZIP_DEFLATED
    elif how == "renamed":
        entries[at] = (name + "x", inside)
    elif how == "folder":
        entries = [("other/" + n.partition("/")[2], inner) for n, inner in entries]
    elif how == "up":
        entries[at] = ("../" + name, inside)
    elif how == "cut":
        entries[at] = (name, inside[:place])
    elif how == "flipped":
        entries[at] = (name, _flip(inside, chance.random(), chance.choice((1, 2, 16))))
    elif how == "grown":
        entries[at] = (name, inside + bytes(64))
    elif how == "bomb":
        entries[at], compression = (name, bytes(2**28)), zipfile.ZIP_DEFLATED
    elif how == "opcode":
        entries[at] = (name, inside[:place] + bytes([chance.randrange(256)]) + inside[place + 1 :])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as out:
        for name, inside in entries:
            out.writestr(name, inside)
    return buffer.getvalue()


BYTES: dict[str, Any] = {
    "cut": lambda raw, where: raw[: int(where * len(raw))],
    "behead": lambda raw, where: raw[int(where * len(raw)) :],
    "flip": _flip,
    "zero": _zero,
    "index": _index,
    "entries": _entries,
    "before": lambda raw, name: MAGIC[name] + raw,
    "after": lambda raw, name: raw + MAGIC[name],
    "instead": lambda raw, name: MAGIC[name],
    "twice": lambda raw: raw + raw,
    "text": lambda raw: raw.replace(b"\n", b"\r\n"),
    "utf-8": lambda raw: raw.decode("latin-1").encode("utf-8"),
}
