"""The gallery of docs/figures.md: its commands and its images."""

from __future__ import annotations

from benchmarks import gallery
from yolomix.figures import KINDS


def test_every_kind_has_an_image_that_a_command_makes():
    commands = gallery.commands(gallery.PAGE.read_text(encoding="utf-8"))
    assert [words[:2] for words in commands.values()] == [["figures", kind] for kind in KINDS]
    assert [*commands] == [f"images/figures/{kind}.webp" for kind in KINDS]
    for image, words in commands.items():
        assert (gallery.DOCS / image).stat().st_size < 300_000
        models = next(word for word in words if word.startswith("models=")).removeprefix("models=")
        assert {*models.split(",")} <= {*gallery.MODELS}
