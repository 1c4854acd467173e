"""The command as a whole: results on stdout, the rest on stderr, exit codes, clear words."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys

import pytest

from tests.cli.commands import TINY, command
from tests.terminal import terminal
from yolomix import data
from yolomix.cli import DONE, FAILED, INTERRUPTED, USAGE, listings, main


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "yolomix", "version"], capture_output=True, text=True, check=True)
    assert done.stdout == command("version").stdout


@pytest.mark.parametrize("closed", ["stdin", "stdout", "stderr"])
def test_a_closed_stream_takes_what_is_written(closed, monkeypatch, capfd):
    monkeypatch.setattr(sys, closed, None)
    assert main(["frobnicate"]) == USAGE
    assert main(["version"]) == DONE
    getattr(sys, closed).close()
    written = capfd.readouterr()
    assert ("no verb 'frobnicate'" in written.err, bool(written.out)) == (closed != "stderr", closed != "stdout")


def test_stdout_of_a_process_is_only_the_answer(trained, folder):
    image = folder / "cache" / data.FOLDER / "images" / "val" / "0001.jpg"
    done = command("predict", f"model={trained[0]['weights']}", f"source={image}", f"project={folder}", *TINY, "--json")
    assert done.returncode == DONE, done.stderr
    assert json.loads(done.stdout)["verb"] == "predict"
    assert "Speed:" in done.stderr


def test_the_first_start_greets_on_stderr(tmp_path):
    done = command("doctor", "--json", YOLO_CONFIG_DIR=str(tmp_path))
    assert json.loads(done.stdout)["faults"] == []
    assert "settings" in done.stderr.lower()


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ("trian model=a.pt", USAGE, r"no verb 'trian'; did you mean train,"),
        ("frobnicate", USAGE, r"no verb 'frobnicate'; known: demo, train"),
        ("version all=1", USAGE, r"version takes no 'all'; it takes no arguments"),
        ("models all=1", USAGE, r"models takes no 'all'; known: name"),
        ("demo sed=1", USAGE, r"demo takes no 'sed'; did you mean seed\?"),
        ("demo seed=1 seed=2", USAGE, r"seed is given twice: 1 and 2"),
        ("demo seed", USAGE, r"seed needs a value, seed=\.\.\.: whole number"),
        ("demo seed=x", USAGE, r"seed must be a whole number of at least 0, got 'x'"),
        ("demo epochs=0", USAGE, r"epochs must be a whole number of at least 1, got '0'"),
        ("train data=sample", USAGE, r"train needs a model: model=yolo11n-mlla\.yaml"),
        ("train model=yolo11n.yaml", USAGE, r"train needs data: data=FILE\.yaml, or data=sample"),
        ("train model=yolo11n.yaml data=sample epoch=3", USAGE, r"train takes no 'epoch'; did you mean epochs"),
        ("train model=yolo11n.yaml data=sample epochs", USAGE, r"epochs needs a value, in one word: epochs=100"),
        ("train --model yolo11n.yaml data=sample", USAGE, r"model needs a value, in one word: model=\.\.\."),
        ("val model=yolo11n.yaml", USAGE, r"val needs data: data=FILE\.yaml, or data=sample"),
        ("train model=yolo11n.yaml data=sample imgsz=[3", USAGE, r"cannot read .* unmatched"),
        ("train mode=val model=yolo11n.yaml data=sample", USAGE, r"one verb at a time: train is given, and mode"),
        ("train val model=yolo11n.yaml data=sample", USAGE, r"one verb at a time: train is given, and val"),
        ("predict model=yolo11n-mlla", USAGE, r"no model 'yolo11n-mlla': write model=yolo11n-mlla\.yaml"),
        ("predict model=yolo11n-mla", USAGE, r"no model 'yolo11n-mla': .* did you mean yolo11-mlla\.yaml"),
        (
            "predict model=yolo11n-mla.yaml source=a.jpg",
            FAILED,
            r"no model file 'yolo11n-mla\.yaml'.*yolo11n-mlla\.yaml",
        ),
        ("val model=yolo11nn.pt data=sample", FAILED, r"no checkpoint 'yolo11nn\.pt'.*did you mean yolo11n\.pt"),
        ("predict model=yolo11n.yaml source=none.jpg", FAILED, r"none\.jpg does not exist"),
        ("train model=yolo11n.yaml data=none.yaml imgsz=64", USAGE, r"no dataset 'none\.yaml': it is a file, one that"),
        ("train model=yolo11n.yaml data=sample epochs=many", FAILED, r"'epochs' must be an int"),
        ("train model=yolo11n-pose.yaml data=sample epochs=1", FAILED, r"not for 'pose'\. Give data= a file"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(words, code, text, folder, capsys):
    assert main(words.split()) == code
    out, err = capsys.readouterr()
    assert not out
    assert "Traceback" not in err
    message = err[err.rindex("yolomix: ") :]
    assert len(message.splitlines()) <= 3
    assert re.search(text, message.replace("\n", " ")), message


@pytest.mark.parametrize("content", [b"", b"garbage\n", b"PK\x03\x04 no archive", bytes(range(256))])
def test_a_file_that_is_no_checkpoint(content, tmp_path, capsys):
    file = tmp_path / "bad.pt"
    file.write_bytes(content)
    assert main(["predict", f"model={file}", "source=a.jpg", *TINY]) == FAILED
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert re.search(r"bad\.pt (cannot be read as a|is not a loadable) checkpoint", err)


def test_debug_shows_where(capsys, monkeypatch):
    assert main(["trian", "--debug"]) == USAGE
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("YOLOMIX_DEBUG", "1")
    assert main(["trian"]) == USAGE
    assert "UsageError: no verb 'trian'" in capsys.readouterr().err


def test_an_interrupt_is_no_failure(monkeypatch, capsys):
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(listings, "version", interrupted)
    assert main(["version"]) == INTERRUPTED
    assert capsys.readouterr().err == "yolomix: interrupted\n"


def test_a_long_error_is_cut_and_an_empty_one_named(monkeypatch, capsys):
    errors = iter([ValueError("\n".join(map(str, range(30)))), RuntimeError(), KeyError("no such key")])

    def failing() -> None:
        raise next(errors)

    monkeypatch.setattr(listings, "version", failing)
    said = [(main(["version"]), capsys.readouterr().err)[1] for _ in range(3)]
    assert said == [
        "yolomix: 0 (YOLOMIX_DEBUG=1 shows more)\n",
        "yolomix: RuntimeError; YOLOMIX_DEBUG=1 shows where\n",
        "yolomix: no such key\n",
    ]


def test_a_reader_that_goes_away_is_no_accident():
    code = "import sys; from yolomix.cli import main; sys.exit(main(['models', '--json']))"
    shell = f'{sys.executable} -c "{code}" | true'
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_the_first_line_of_a_listing(tmp_path):
    done = subprocess.run(
        f"{shlex.quote(sys.executable)} -m yolomix models | head -1", shell=True, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("mamba-yolo-t.yaml\tdetect\t6131704\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize("columns", [80, 40])
def test_a_listing_in_a_terminal(columns):
    env = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with terminal(columns) as window:
        subprocess.run([sys.executable, "-m", "yolomix", "models"], stdout=window.number, env=env, check=True)
    lines = window.text.splitlines()
    assert lines[0].split()[:2] == ["model", "task"]
    assert max(map(len, lines)) <= columns


def test_no_setting_of_the_user_is_touched(trained):
    from ultralytics.utils import SETTINGS_FILE

    before = SETTINGS_FILE.read_bytes()
    assert main(["doctor"]) == DONE
    assert main(["predict", "model=yolo11n.yaml", "source=none.jpg"]) == FAILED
    assert SETTINGS_FILE.read_bytes() == before
