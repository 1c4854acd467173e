"""Contents of files: remembered by size and time, read again after a change; near images told from others."""

from __future__ import annotations

import os

import cv2
import numpy as np
import pytest

from yolomix.studying import contents
from yolomix.studying.contents import BITS, NEAR, Contents, near_pairs, outline


def image(seed: int) -> np.ndarray:
    """Smooth noise, 96 x 128."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return cv2.resize(small, (128, 96), interpolation=cv2.INTER_CUBIC)


def test_what_was_read_is_not_read_again(tmp_path, monkeypatch):
    file = tmp_path / "a.png"
    cv2.imwrite(str(file), image(0))
    first = Contents(tmp_path / "study")
    found = first.of([file], images=True)
    assert found[0].outline == outline(cv2.imread(str(file)))
    first.save()
    monkeypatch.setattr(contents, "_read", lambda path: pytest.fail("it was read again"))
    assert Contents(tmp_path / "study").of([file], images=True) == found


def test_a_changed_file_is_read_again(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("0 1")
    found = Contents(tmp_path)
    before = found.of([file])
    stamp = file.stat().st_mtime_ns
    file.write_text("1 1")
    os.utime(file, ns=(stamp + 1, stamp + 1))
    assert found.of([file])[0].digest != before[0].digest


def test_a_spoilt_memory_is_read_as_none(tmp_path):
    (tmp_path / contents.FILE).write_text("{")
    assert Contents(tmp_path).known == {}


def test_equal_pixels_in_other_bytes(tmp_path):
    for name, level in (("a.png", 1), ("b.png", 9)):
        cv2.imwrite(str(tmp_path / name), image(1), [cv2.IMWRITE_PNG_COMPRESSION, level])
    a, b = Contents(tmp_path).of([tmp_path / "a.png", tmp_path / "b.png"], images=True)
    assert a.digest != b.digest
    assert a.pixels == b.pixels


def test_what_is_no_image(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"a\.png cannot be read as an image; mend it, or take it out"):
        Contents(tmp_path).of([file], images=True)


def test_near_images_are_told_from_others():
    originals = [outline(image(seed)) for seed in range(40)]
    changed = [outline(np.clip(image(seed) * 0.9 + 10, 0, 255).astype(np.uint8)[2:, 2:]) for seed in range(40)]
    assert near_pairs(originals, changed) == [(i, i) for i in range(40)]


def test_the_distance_is_counted_in_bits():
    a = np.tile([0, 1], BITS // 2).astype(np.uint8)
    at, beyond = a.copy(), a.copy()
    at[:NEAR] ^= 1
    beyond[: NEAR + 1] ^= 1
    texts = [np.packbits(bits).tobytes().hex() for bits in (a, at, beyond)]
    assert near_pairs(texts[:1], texts) == [(0, 0), (0, 1)]


def test_uniform_images_are_near_to_none():
    black = outline(np.zeros((32, 32), np.uint8))
    assert near_pairs([black], [black]) == []
