"""The grammar of names: what it takes, that writing and reading agree, and where its errors point."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolomix.surgery.grammar import GraftNameError, Name, Part, arguments, parse
from yolomix.surgery.writing import written

VALUES = st.recursive(
    st.one_of(
        st.integers(-999, 999),
        st.floats(-1e3, 1e3, allow_nan=False),
        st.booleans(),
        st.none(),
        st.text(
            st.characters(codec="ascii", exclude_characters="'\"/\\", min_codepoint=32, max_codepoint=126), max_size=6
        ),
    ),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)
PARTS = st.builds(
    Part,
    block=st.from_regex(r"[A-Z][a-z0-9_]{0,8}(\([A-Z][a-z0-9_]{0,8}[1-9]\))?", fullmatch=True),
    at=st.lists(st.sampled_from(["p4", "p5", "10", "neck", "head-inputs", "C2*", "*"]), min_size=1, max_size=3).map(
        tuple
    ),
    args=st.tuples(
        st.lists(VALUES, max_size=3),
        st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True), VALUES, max_size=2),
    ).map(lambda both: (*both[0], both[1]) if both[1] else tuple(both[0])),
    n=st.integers(1, 12),
    mode=st.sampled_from(["after", "wrap", "replace"]),
    gate=st.none(),
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("yolo11n+HaloAttention(2,1)@p5.yaml", ("yolo11n.yaml", Part("HaloAttention", ("p5",), (2, 1)))),
        ("yolo26s-seg+MLLABlock@p4,p5", ("yolo26s-seg.pt", Part("MLLABlock", ("p4", "p5")))),
        ("runs/a+b/best.pt+MLLABlock@10", ("runs/a+b/best.pt", Part("MLLABlock", ("10",)))),
        ("yolov8n+A(-1,2.5e-1,True,None,'a,)',[1,[2]])*3@neck:wrap:plain.yml", (
            "yolov8n.yml", Part("A", ("neck",), (-1, 0.25, True, None, "a,)", [1, [2]]), 3, "wrap", False))),
        ("yolo11n+C3k2(MLLABlock)@C3k2:replace.yaml", (
            "yolo11n.yaml", Part("C3k2(MLLABlock)", ("C3k2",), mode="replace"))),
        ("yolo11n+C2f(Gate)(n=2)*3@4:replace", (
            "yolo11n.pt", Part("C2f(Gate)", ("4",), ({"n": 2},), 3, "replace"))),
        ("yolov8n+A(True)@4.yaml", ("yolov8n.yaml", Part("A", ("4",), (True,)))),
        ("yolov8n+A()@*.pt", ("yolov8n.pt", Part("A", ("*",)))),
    ],
)  # fmt: skip
def test_names(text: str, name: tuple[str, Part]) -> None:
    assert parse(text) == Name(text, name[0], (name[1],))


def test_several_grafts_in_order() -> None:
    name = parse("yolo11n+A@p3+B(1)@p4,p5+C@*.yaml")
    assert [(p.block, p.at) for p in name.parts] == [("A", ("p3",)), ("B", ("p4", "p5")), ("C", ("*",))]
    assert name.is_yaml
    assert not parse("yolo11n+A@p3").is_yaml


@settings(max_examples=200, deadline=None)
@given(st.lists(PARTS, min_size=1, max_size=3))
def test_what_is_written_is_read(parts: list[Part]) -> None:
    assert parse(f"yolo11n{written(parts)}.yaml").parts == tuple(parts)


@settings(max_examples=300, deadline=None)
@given(st.text("yA1+@(),.[]'*:p5 -", max_size=25))
def test_any_text_is_a_name_or_a_name_error(text: str) -> None:
    try:
        parse(text)
    except GraftNameError as error:
        *_, shown, caret = str(error).splitlines()
        assert shown == f"  {text}"
        assert 2 <= caret.index("^") <= len(text) + 2


@pytest.mark.parametrize(
    ("text", "what", "caret"),
    [
        ("yolo11n+A(2,1@p5.yaml", "needed ',' or ')', got '@'", "@"),
        ("yolo11n+A(2,1.yaml", "the bracket that opens here is not closed", "("),
        ("yolo11n+A([2,1)@p5", "needed ',' or ']', got ')'", ")"),
        ("yolo11n+A2,1)@p5", "needed '(' and arguments, or '@' and an insertion point, got ','", ","),
        ("yolo11n+MLLABlock(x)@p5", "needed a number, True, False, None, a quoted text or a list, got 'x'", "x"),
        ("yolo11n+A(__import__('os'))@p5", "needed a number", "__import__"),
        ("yolo11n+A( 1)@p5", "needed a number, True, False, None, a quoted text or a list, got ' '", " 1"),
        ("yolo11n+A(1+1)@p5", "needed ',' or ')', got '+'", "+1)"),
        ("yolo11n+A@", "needed an insertion point, like p5, neck", None),
        ("yolo11n+A@p5:warp", "one of after, wrap, replace, plain after ':' (did you mean wrap?), got 'w'", "warp"),
        ("yolo11n+A*0@p5", "needed a number of repeats after '*', got '0'", "0@"),
        ("yolo11n+", "needed the name of a block, got the end", None),
        ("yolo11n+A@p5 +B@p4", "needed '+' and another graft, or the end, got ' '", " +B"),
        ("+A@p5", "needed a model, '+' and a graft", "+A"),
        ("best.pt+A@p5.yaml", "the base is a .pt file and the name ends in .yaml; one of them is enough", ".yaml"),
    ],
)
def test_errors_point_at_the_character(text: str, what: str, caret: str | None) -> None:
    with pytest.raises(GraftNameError) as caught:
        parse(text)
    message, shown, pointer = str(caught.value).splitlines()
    assert what in message
    assert shown.strip() == text
    assert pointer.index("^") - 2 == (len(text) if caret is None else text.index(caret))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("2,1", [2, 1]),
        ("[2,1]", [2, 1]),  # as a model YAML has it
        ("[[1,2]]", [[1, 2]]),
        ("[1,2],3", [[1, 2], 3]),
        ("mlp=plain", [{"mlp": "plain"}]),
        ("2, 1, residual=False, name='a b'", [2, 1, {"residual": False, "name": "a b"}]),
    ],
)
def test_arguments_with_and_without_names(text: str, values: list) -> None:
    assert arguments(text.replace(", ", ",")) == values


@pytest.mark.parametrize(("text", "what"), [("a=1,2", "needed name=value, as before it"), ("a=", "got the end")])
def test_arguments_that_are_wrong(text: str, what: str) -> None:
    with pytest.raises(GraftNameError, match=what):
        arguments(text)


def test_a_named_word_needs_no_quotes() -> None:
    (part,) = parse("yolo11n+VSSBlock(mlp=plain)@p5.yaml").parts
    assert part.args == ({"mlp": "plain"},)
    assert written([part]) == "+VSSBlock(mlp=plain)@p5"
