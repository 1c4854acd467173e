"""What a TAB offers: all that the declarations know, nothing that is refused, and without waiting for PyTorch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from yolomix import models
from yolomix.cli import DONE, USAGE, completion, main
from yolomix.cli.completion import candidates
from yolomix.cli.request import FLAGS, TASKS
from yolomix.cli.verbs import VERBS
from yolomix.host import declared
from yolomix.nn import origins
from yolomix.nn.registry import BLOCKS

SHELLS = VERBS["completion"].argument("shell").kind.choices
LINES = (
    "yolomix ",
    "yolomix train ",
    "yolomix train model=",
    "yolomix export format=",
    "yolomix graft block=",
    "yolomix graft at=",
    "yolomix blocks ",
)


def offered(line: str) -> list[str]:
    """What a shell that asks for whole words is offered."""
    return [*candidates(completion.split(line)[0][1:])]


def answered(capfdbinary: pytest.CaptureFixture[bytes], *question: str) -> list[bytes]:
    """The lines of an answer to a script."""
    assert main([completion.ASKED, *question]) == DONE
    return capfdbinary.readouterr().out.splitlines()


def test_verbs_are_offered_with_what_they_do() -> None:
    assert candidates([""]) == {verb.name: verb.does for verb in VERBS.values()} | {"help": FLAGS["--help"]}
    assert offered("yolomix tra") == ["train", "track", "transfer"]
    assert offered("yolomix segment tra") == offered("yolomix import=mine --json tra") == offered("yolomix tra")
    assert offered("yolomix help ver") == ["verify", "version"]
    assert offered("yolomix --j") == ["--json"]


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_every_declared_argument_is_offered_once(verb) -> None:
    named = [argument for argument in verb.arguments if not argument.bare]
    found = candidates([verb.name, ""])
    for argument in named:
        assert found[f"{argument.name}="] == argument.described
        assert f"{argument.name}=" not in candidates([verb.name, f"{argument.name}=x", ""])
        for choice in argument.kind.choices:
            assert f"{argument.name}={choice}" in candidates([verb.name, f"{argument.name}={choice[:1]}"])


def test_verbs_that_ultralytics_carries_out_take_its_arguments() -> None:
    theirs = {f"{name}=" for name in declared.arguments()} - {"mode="}
    assert theirs <= {*offered("yolomix train ")}
    assert "mode=" not in offered("yolomix train ")
    assert not theirs & {*offered("yolomix doctor ")}
    assert offered("yolomix train cos_lr=t") == ["cos_lr=true"]
    assert offered("yolomix export format=onn") == ["format=onnx"]
    assert offered(f"yolomix {TASKS[0]} train epoch") == ["epochs="]


def test_words_that_stand_alone_are_offered_once() -> None:
    assert offered("yolomix completion ") == [*SHELLS]
    assert offered("yolomix completion bash ") == []
    assert offered("yolomix blocks Halo") == ["HaloAttention"]


def test_every_packaged_model_is_offered_at_every_scale(tmp_path, monkeypatch) -> None:
    import yaml

    from yolomix.host import names

    monkeypatch.chdir(tmp_path)
    found = [word.removeprefix("model=") for word in offered("yolomix train model=")]
    meant = {(resolved.file, resolved.scale) for resolved in map(names.resolve, found)}
    files = [models.FOLDER / f"{name}.yaml" for name in models.names()]
    assert meant == {(file, scale) for file in files for scale in yaml.safe_load(file.read_text("utf-8"))["scales"]}
    assert len(found) == len(meant)


def test_blocks_are_those_that_are_registered() -> None:
    assert {*completion.BLOCKS} == {name for name, block in BLOCKS.items() if block.is_ours and "." not in name}
    assert [*completion.BLOCKS] == sorted(completion.BLOCKS)
    assert offered("yolomix graft block=Hal") == ["block=HaloAttention"]
    assert offered("yolomix edit swap=C3k2:Hal") == ["swap=C3k2:HaloAttention"]


def test_blocks_that_packages_announce_are_offered(tmp_path, monkeypatch) -> None:
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{origins.GROUP}]\nTheirBlock = no_module:Gate\nmodule = no_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert offered("yolomix graft block=Their") == ["block=TheirBlock"]
    assert offered("yolomix graft block=modu") == []


def test_insertion_points_are_those_of_a_model() -> None:
    from yolomix.host import names, survey
    from yolomix.surgery import insertion

    layers = survey.survey(names.described("yolo11n.yaml"))
    for point in completion.INSERTION_POINTS:
        assert insertion.resolve(point, layers)
    assert {*insertion.GROUPS} <= {*completion.INSERTION_POINTS}
    assert offered("yolomix graft at=p4,head") == ["at=p4,head-inputs"]
    assert offered("yolomix graft at=p3,p4,p") == ["at=p3,p4,p5"]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working folder and home, with files of several kinds."""
    for name in ("a.pt", "b.yaml", "c.onnx", ".hidden.pt", "my file.pt", "line\nbreak.pt"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.pt").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return tmp_path


@pytest.mark.skipif(sys.platform == "win32", reason="file names with a line break, and shells that read slashes")
def test_files_are_those_of_the_right_suffix(folder) -> None:
    assert offered("yolomix transfer source=") == ["source=a.pt", "source=my file.pt", "source=sub/"]
    assert [word for word in offered("yolomix graft model=") if "yolo" not in word] == [
        f"model={name}" for name in ("a.pt", "b.yaml", "my file.pt", "sub/")
    ]
    assert offered("yolomix val data=") == ["data=sample", "data=b.yaml", "data=sub/"]
    assert offered("yolomix demo out=") == ["out=sub/"]
    assert offered("yolomix graft save=sub/") == ["save=sub/x.pt"]
    assert offered("yolomix graft save=~/sub/") == ["save=~/sub/x.pt"]
    assert offered("yolomix transfer source=.") == ["source=.hidden.pt"]
    assert offered("yolomix graft n=") == []


@pytest.mark.skipif(sys.platform == "win32", reason="shells that read slashes")
def test_other_files_are_offered_where_none_of_the_right_suffix_is(folder) -> None:
    assert offered("yolomix predict model=c") == ["model=c.onnx"]
    assert offered("yolomix demo out=c") == []
    assert offered("yolomix predict model=no/such/folder/") == []


@pytest.mark.parametrize(
    ("line", "text", "lines"),
    [
        ("yolomix trai", "trai", [b"train "]),
        ("yolomix train epoch", "epoch", [b"epochs="]),
        ("yolomix val model=my", "my", [rb"my\ file.pt "]),
        (r"yolomix val model=my\ f", r"my\ f", [rb"my\ file.pt "]),
        ("yolomix val model='my f", "my f", [b"my file.pt"]),
        ('yolomix val model="my f', "my f", [b"my file.pt"]),
        ("yolomix val model=su", "su", [b"sub/"]),
        ("yolomix edit swap=C3k2:XSS", "XSS", [b"XSSBlock "]),
        ("yolomix graft at=neck,*", "neck,*", [rb"neck,\* "]),
        ("yolomix graft mode=", "", [b"after ", b"wrap ", b"replace "]),
    ],
)
def test_bash_is_told_what_replaces_the_end_of_the_line(line, text, lines, folder, capfdbinary) -> None:
    assert answered(capfdbinary, "bash", line, text) == lines


def test_zsh_and_fish_are_told_whole_words_and_meanings(capfdbinary) -> None:
    described = VERBS["graft"].argument("mode").described.encode()
    assert answered(capfdbinary, "fish", "yolomix graft mod") == [
        b"model=\t" + VERBS["graft"].argument("model").described.encode(),
        b"mode=\t" + described,
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="file names of bytes that are no characters")
def test_a_file_name_that_is_no_text(tmp_path, monkeypatch, capfdbinary) -> None:
    monkeypatch.chdir(tmp_path)
    Path(tmp_path, "\udcff.pt").touch()
    assert answered(capfdbinary, "zsh", "yolomix transfer source=") == [b"source=\xff.pt\t"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_knows_no_word_that_could_change(shell, capsys) -> None:
    assert main(["completion", shell]) == DONE
    script = capsys.readouterr().out
    assert f"{completion.ASKED} {shell}" in script
    code = [line for line in script.splitlines() if not line.startswith("#")]
    assert not {word for line in code for word in line.split()} & {*VERBS}
    assert main(["completion", f"shell={shell}", "--json"]) == DONE
    assert json.loads(capsys.readouterr().out)["script"].strip() == script.strip()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["completion"], "completion needs a shell, bash, zsh or fish, as in: yolomix completion bash"),
        (["completion", "bsh"], "shell must be one of bash, zsh, fish, got 'bsh'; did you mean bash"),
        (["completion", "bash", "zsh"], "shell is given twice: bash and zsh"),
        ([completion.ASKED], f"no verb '{completion.ASKED}'"),
    ],
)
def test_what_is_wrong_is_said(words, text, capsys) -> None:
    assert main(words) == USAGE
    assert text in capsys.readouterr().err


def test_a_tab_imports_nothing_heavy() -> None:
    code = (
        "import sys; from yolomix.cli import main; "
        "[main(['__complete', 'fish', line]) for line in sys.argv[1:]]; "
        "sys.exit(' '.join({'torch', 'ultralytics', 'numba', 'cv2', 'numpy', 'rich', 'yaml'} & {*sys.modules}) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code, *LINES], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "HaloAttention" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="a folder that is in use cannot be removed")
def test_a_question_from_a_folder_that_is_gone_is_answered(tmp_path) -> None:
    code = (
        "import os, sys; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); "
        "from yolomix.cli import main; sys.exit(main(['__complete', 'zsh', 'yolomix train data=']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (DONE, "data=sample\t\n", "")
