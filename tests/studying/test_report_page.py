"""The page: whole, by itself, with everything escaped, and drawn by a browser."""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests import browser
from tests.studying import synthetic
from yolomix.statistics import Shares
from yolomix.studying.reporting import Analysis, analyse, analysis, drawing, markup, page, words
from yolomix.studying.reporting.drawing import Scale

EVIL = "<script>alert('x')</script>&\"amp\""


@pytest.fixture(autouse=True)
def _few_weightings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the weightings, for speed."""
    monkeypatch.setattr(analysis, "WEIGHTINGS", 200)


@functools.cache
def found() -> Analysis:
    return analyse(*synthetic.study(images=30, seeds=5))


class Read(HTMLParser):
    """What a parser makes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def read() -> Read:
    return Read(page.html(found()))


def test_every_element_is_closed_and_sections_are_there_in_order(read: Read) -> None:
    assert read.open == []
    sections = [attributes["id"] for tag, attributes in read.tags if tag == "section"]
    assert sections == ["verdicts", "table", "runs", "where", "training", "images", "notes", "made", "reading"]


def test_nothing_is_asked_of_the_network(read: Read) -> None:
    text = page.html(found())
    assert not {tag for tag, _ in read.tags} & {"script", "link", "img", "iframe", "object", "embed", "base"}
    assert not [name for _, attributes in read.tags for name in attributes if name in ("src", "href", "srcset")]
    assert not re.search(r"url\(|@import|https?://", text)


def test_question_and_verdict_come_first_in_plain_words(read: Read) -> None:
    assert read.text.index("What helps yolo11n: mlla, halo, vss?") < read.text.index("Is mlla better than yolo11n?")
    for question, _, answer in words.questions(found(), found().datasets[0]):
        assert question in read.text
        assert " ".join(answer.split()) in read.text.replace("\N{NO-BREAK SPACE}", " ")
    asked = [question for question, _, _ in words.questions(found(), found().datasets[0])]
    assert "Is mlla better than a control of its size (mlla control)?" in asked
    assert "The base against itself (A/A, yolo11n again - yolo11n): as it should be." in read.text


def test_every_run_is_a_dot_and_every_difference_an_interval(read: Read) -> None:
    kinds = [attributes.get("class") for tag, attributes in read.tags if tag in ("circle", "line", "polygon")]
    data = found().datasets[0]
    assert kinds.count("dot") == len(data.runs) == 35
    assert kinds.count("mean") == 7
    parts = [part for part in (*data.classes, *data.sizes) if part.contrast]
    assert kinds.count("interval") == len(data.differences) + len(parts)
    assert kinds.count("run") == 5 * len(data.differences)
    assert kinds.count("band of-arm") == kinds.count("band of-base") == 2 * 6


def test_versions_hashes_conditions_and_commands_are_there(read: Read) -> None:
    for part in (
        "ultralytics 8.4.190",
        "content hash bccd0a1b2c3d4e5f",
        "yolomix study study.yaml",
        "AdamW",
        "mAP50-95",
    ):
        assert part in read.text
    for term in words.HOW_TO_READ:
        assert term in read.text


def test_every_answer_has_its_own_words() -> None:
    text = {one.planned: answer for _, one, answer in words.questions(found(), found().datasets[0])}
    one = found().datasets[0].of("mlla", "base")
    assert one is not None
    assert one.verdict is not None
    said = {word: words.answer(found(), replace(one, verdict=replace(one.verdict, word=word))) for word in
            ("better", "worse", "equivalent", "undecided", "no verdict")}  # fmt: skip
    assert said["better"].startswith("Yes. mlla is better than yolo11n. Difference +0.")
    assert said["worse"].startswith("No. mlla is worse than yolo11n.")
    assert said["equivalent"].startswith("They are equivalent: mlla and yolo11n differ by less than 0.005.")
    assert said["undecided"].startswith("Undecided. To find a difference of 0.005 four times in five: ")
    assert said["no verdict"].startswith("No verdict: ")
    assert len(text) == 5


def test_names_from_outside_are_escaped() -> None:
    roles = {
        "yolo11n": ("base", EVIL, "", 1),
        EVIL: ("arm", EVIL, "", 1),
    }
    plan, specs, records = synthetic.study(arms=("yolo11n", EVIL), roles=roles, images=20, seeds=3, datasets=(EVIL,))
    broken = {}
    for key, record in records.items():
        statistics = record.statistics
        assert statistics is not None
        named = replace(statistics, classes=(EVIL, "b", "c"), images=tuple(f"{EVIL}{i}" for i in range(20)))
        broken[key] = replace(record, statistics=named)
    last = specs[-1].key
    text = page.html(analyse(plan, specs, broken, said=[EVIL]))
    broken[last] = replace(broken[last], status="failed", reason=EVIL, statistics=None, metrics={})
    for one in (text, page.html(analyse(plan, specs, broken, said=[EVIL]))):
        assert "<script" not in one
        assert EVIL in Read(one).text
        assert Read(one).open == []


def test_runs_that_are_not_whole_are_said_above_everything() -> None:
    plan, specs, records = synthetic.study(images=20, seeds=3)
    some = {key: record for key, record in records.items() if record.spec.arm != "halo"}
    text = Read(page.html(analyse(plan, specs, some))).text
    assert text.index("3 of 21 runs are not whole. Contrasts with these arms have no verdict.") < text.index(
        "Is mlla better"
    )
    assert "No verdict: halo seed 0 missing, halo seed 1 missing and 1 more." in text


def test_of_many_classes_those_that_differ_most_are_open() -> None:
    analysed = found()
    data = analysed.datasets[0]
    many = tuple(replace(data.classes[i % 3], name=f"class {i}", arm="mlla") for i in range(40))
    text = page.html(replace(analysed, datasets=(replace(data, classes=many),)))
    assert "28 with smaller differences" in text
    assert all(f"class {i} (" in text for i in range(40))


def test_several_datasets_have_their_sections_and_a_summary_first() -> None:
    analysed = analyse(*synthetic.study(images=20, seeds=3, datasets=("a", "b"), arms=("yolo11n", "mlla")))
    read = Read(page.html(analysed))
    sections = [attributes["id"] for tag, attributes in read.tags if tag == "section"]
    assert sections[:2] == ["datasets", "verdicts-0"]
    assert "verdicts-1" in sections
    assert len(sections) == len(set(sections))
    assert "from fewer than five nothing is said of others" in read.text


def test_axes_have_round_ticks_inside() -> None:
    for low, high in ((-0.0113, 0.0321), (0.0, 1.0), (0.41, 0.412), (-5.0, 300.0)):
        ticks = Scale(low, high).ticks()
        assert 3 <= len(ticks) <= 8
        assert low <= ticks[0] < ticks[-1] <= high
        assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])
    assert drawing.scale([float("nan")]).low < drawing.scale([float("nan")]).high
    assert drawing.scale([0.5, 0.5]).low < 0.5 < drawing.scale([0.5, 0.5]).high


def test_shares_fill_their_bar() -> None:
    drawn = drawing.shares([("a - b", Shares(0.5, 0.4, 0.1))])
    assert re.findall(r'x="([\d.]+)%" width="([\d.]+)%"', drawn) == [
        *(("0.00", "50.00"), ("50.00", "40.00"), ("90.00", "10.00"))
    ]
    assert "50 / 40 / 10 %" in drawn


def test_colours_of_shares_stay_apart_in_greyscale() -> None:
    grey = [np.dot([int(colour[i : i + 2], 16) for i in (1, 3, 5)], (0.299, 0.587, 0.114))
            for colour in (drawing.DARK, drawing.MIDDLE, drawing.LIGHT)]  # fmt: skip
    assert np.diff(grey).min() > 50


def test_markup_escapes_attributes() -> None:
    assert markup.element("p", class_='a" onclick="b') == '<p class="a&quot; onclick=&quot;b"></p>'
    assert markup.table([("<a>",), ("<b>",)]).count("&lt;") == 2


@browser.needs_chromium
@pytest.mark.parametrize("width", [1000, 500])
def test_a_browser_draws_it(tmp_path: Path, width: int) -> None:
    file, shot = tmp_path / "report.html", tmp_path / "shot.png"
    file.write_text(page.html(found()), "utf-8")
    height = 3000
    with browser.Browser() as opened:
        opened.page(file.as_uri(), width=width, height=height).screenshot(shot)
    pixels = cv2.imread(str(shot))
    assert pixels.shape == (height, width, 3)
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    strips = np.array_split(grey, 10)
    assert all(strip.std() > 5 for strip in strips), "a part of the page is blank"
    assert (grey[:, -8:] > 245).mean() > 0.9, "something runs over the right edge"
    # Marks in the dark blue of intervals and dots, BGR of #123570.
    assert (np.abs(pixels.astype(int) - (0x70, 0x35, 0x12)).sum(axis=2) < 30).sum() > 500


def test_differences_per_size_are_said_to_be_approximate() -> None:
    assert "Differences per size are approximate: which object a detection found is not recorded" in page.html(found())
