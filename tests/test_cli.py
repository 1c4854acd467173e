"""The command line: results on stdout, the rest on stderr, exit codes, clear words, and no waiting for a network."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from yolomix import data
from yolomix.cli import DONE, FAILED, INTERRUPTED, USAGE, listings, main, passed, request, verbs
from yolomix.host import offline, streams

TINY = ("imgsz=64", "workers=0", "plots=False", "device=cpu")


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``yolomix WORDS`` in a process of its own."""
    code = "import sys; from yolomix.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small sample dataset in the cache, for every test here."""
    patch, folder = pytest.MonkeyPatch(), tmp_path_factory.mktemp("cli")
    for split in data.SPLITS:
        patch.setitem(data.SPLITS, split, 4)
    patch.setenv("YOLOMIX_CACHE", str(folder / "cache"))
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def trained(folder):
    """What ``yolomix train ... --json`` wrote to stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    where = (f"project={folder}", "name=train")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["train", "model=yolo11n-mlla.yaml", "data=sample", "epochs=1", "batch=4", *where, *TINY, "--json"])
    assert code == DONE, err.getvalue()
    return json.loads(out.getvalue()), err.getvalue()


def test_training_answers_with_weights_and_measures(trained, folder):
    answer, log = trained
    assert Path(answer["weights"]).samefile(folder / "train" / "weights" / "best.pt")
    assert Path(answer["folder"]).samefile(folder / "train")
    assert 0 <= answer["measures"]["metrics/mAP50(B)"] <= 1
    assert "MLLAttention" in log
    assert "1 epochs completed" in log


def test_validation_of_a_checkpoint(trained, folder, capsys):
    words = ["val", f"model={trained[0]['weights']}", "data=sample", f"project={folder}", "name=val", *TINY]
    assert main(words) == DONE
    out = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in out[:4]] == [
        "metrics/precision(B)",
        "metrics/recall(B)",
        "metrics/mAP50(B)",
        "metrics/mAP50-95(B)",
    ]
    assert f"weights: {trained[0]['weights']}" in out


def test_prediction_for_people_and_programs(trained, folder, capsys):
    picture = folder / "cache" / data.FOLDER / "images" / "val" / "0000.jpg"
    words = [
        "predict",
        f"model={trained[0]['weights']}",
        f"source={picture}",
        f"project={folder}",
        "conf=0.0001",
        *TINY,
    ]
    assert main([*words, "max_det=2", "name=saved"]) == DONE
    assert capsys.readouterr().out.splitlines()[1] == f"folder: {folder / 'saved'}"
    assert (folder / "saved" / picture.name).is_file()
    assert main([*words, "max_det=3", "save=False", "name=none", "--json"]) == DONE
    answer = json.loads(capsys.readouterr().out)
    assert answer["folder"] is None
    (found,) = answer["pictures"]
    assert found["file"] == str(picture)
    assert len(found["things"]) == 3
    assert {"name", "class", "confidence", "box"} <= found["things"][0].keys()


def test_a_picture_that_cannot_be_read_is_a_failure(trained, tmp_path, capsys):
    (tmp_path / "junk.jpg").write_bytes(b"no picture")
    words = ["predict", f"model={trained[0]['weights']}", f"source={tmp_path / 'junk.jpg'}", f"project={tmp_path}"]
    assert main([*words, *TINY]) == FAILED
    assert "nothing could be read from the source" in capsys.readouterr().err


def test_a_finished_training_is_not_resumed_as_another_one(trained, capsys):
    assert main(["train", f"model={trained[0]['weights']}", "resume=True"]) == USAGE
    assert "is a finished training, there is nothing to resume" in capsys.readouterr().err


def test_a_description_of_pictures_is_no_model(trained, folder, capsys):
    pictures = folder / "cache" / data.FOLDER / "data.yaml"
    assert main(["predict", f"model={pictures}", *TINY]) == USAGE
    assert "describes no model, it has no backbone; a description of pictures goes to data=" in capsys.readouterr().err


def test_a_whole_picture_has_likeliest_classes_and_no_counts():
    classes = [{"name": "cat", "class": 0, "confidence": 0.75}, {"name": "dog", "class": 1, "confidence": 0.25}]
    answer = {"verb": "predict", "folder": None, "pictures": [{"file": "a.jpg", "things": classes}]}
    assert passed._text(answer) == "a.jpg: cat 0.75, dog 0.25\n"


def test_pictures_of_a_video_have_numbers():
    frames = [SimpleNamespace(path="a.mp4", save_dir=None, summary=list) for _ in range(2)]
    answer = passed.summary("track", None, frames)
    assert [(p["file"], p["frame"]) for p in answer["pictures"]] == [("a.mp4", 0), ("a.mp4", 1)]
    assert passed._text(answer) == "a.mp4 frame 0: nothing found\na.mp4 frame 1: nothing found\n"
    assert "frame" not in passed.summary("predict", None, frames[:1])["pictures"][0]


def test_the_package_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "yolomix", "version"], capture_output=True, text=True, check=True)
    assert done.stdout == command("version").stdout


def test_export_prints_the_file(trained, capsys):
    assert main(["export", f"model={trained[0]['weights']}", "format=torchscript", *TINY[:1], "--json"]) == DONE
    assert Path(json.loads(capsys.readouterr().out)["file"]).is_file()


def test_stdout_of_a_process_is_only_the_answer(trained, folder):
    picture = folder / "cache" / data.FOLDER / "images" / "val" / "0001.jpg"
    done = command(
        "predict", f"model={trained[0]['weights']}", f"source={picture}", f"project={folder}", *TINY, "--json"
    )
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
        ("trian model=a.pt", USAGE, r"no verb 'trian'; near: train"),
        ("frobnicate", USAGE, r"no verb 'frobnicate'; known: demo, train"),
        ("models all=1", USAGE, r"models takes no 'all'; it takes no arguments"),
        ("demo sed=1", USAGE, r"demo takes no 'sed'; near: seed"),
        ("demo seed=1 seed=2", USAGE, r"seed is given twice: 1 and 2"),
        ("demo seed", USAGE, r"seed needs a value, seed=\.\.\.: whole number"),
        ("demo seed=x", USAGE, r"seed must be a whole number of at least 0, got 'x'"),
        ("demo epochs=0", USAGE, r"epochs must be a whole number of at least 1, got '0'"),
        ("train data=sample", USAGE, r"train needs a model: model=yolo11n-mlla\.yaml"),
        ("train model=yolo11n.yaml", USAGE, r"train needs data: data=FILE\.yaml, or data=sample"),
        ("train model=yolo11n.yaml data=sample epoch=3", USAGE, r"train takes no 'epoch'; near: epochs"),
        ("train model=yolo11n.yaml data=sample epochs", USAGE, r"epochs needs a value, in one word: epochs=100"),
        ("train --model yolo11n.yaml data=sample", USAGE, r"model needs a value, in one word: model=\.\.\."),
        ("val model=yolo11n.yaml", USAGE, r"val needs data: data=FILE\.yaml, or data=sample"),
        ("train model=yolo11n.yaml data=sample imgsz=[3", USAGE, r"cannot read .* unmatched"),
        ("train mode=val model=yolo11n.yaml data=sample", USAGE, r"one verb at a time: train is given, and mode"),
        ("train val model=yolo11n.yaml data=sample", USAGE, r"one verb at a time: train is given, and val"),
        ("predict model=yolo11n-mlla", USAGE, r"no model 'yolo11n-mlla': write model=yolo11n-mlla\.yaml"),
        ("predict model=yolo11n-mla", USAGE, r"no model 'yolo11n-mla': .* near: yolo11-mlla\.yaml"),
        ("predict model=yolo11n-mla.yaml", FAILED, r"no model file 'yolo11n-mla\.yaml'.*yolo11-mlla"),
        ("val model=yolo11nn.pt data=sample", FAILED, r"no checkpoint 'yolo11nn\.pt'.*near: yolo11n\.pt"),
        ("predict model=yolo11n.yaml source=none.jpg", FAILED, r"none\.jpg does not exist"),
        ("train model=yolo11n.yaml data=none.yaml imgsz=64", FAILED, r"'none\.yaml' does not exist"),
        ("train model=yolo11n.yaml data=sample epochs=many", FAILED, r"'epochs' must be an int"),
        ("train model=yolo11n-pose.yaml data=sample epochs=1", FAILED, r"not for 'pose'; give data= a file"),
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
    assert main(["predict", f"model={file}", *TINY]) == FAILED
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert re.search(r"bad\.pt (cannot be read as a|is not a loadable) checkpoint", err)


def test_a_table_of_formats_is_passed_on():
    answer = passed.summary("benchmark", None, "| onnx | 12 ms |")
    assert answer == {"verb": "benchmark", "table": "| onnx | 12 ms |"}
    assert passed._text(answer) == "| onnx | 12 ms |\n"


def test_debug_shows_where(capsys, monkeypatch):
    assert main(["trian", "--debug"]) == USAGE
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("YOLOMIX_DEBUG", "1")
    assert main(["trian"]) == USAGE
    assert "UsageError: no verb 'trian'" in capsys.readouterr().err


def test_an_interrupt_is_no_failure(monkeypatch, capsys):
    def interrupted(_: request.Request) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(listings, "version", interrupted)
    assert main(["version"]) == INTERRUPTED
    assert capsys.readouterr().err == "yolomix: interrupted\n"


def test_a_long_error_is_cut_and_an_empty_one_named(monkeypatch, capsys):
    errors = iter([ValueError("\n".join(map(str, range(30)))), RuntimeError(), KeyError("no such key")])

    def failing(_: request.Request) -> None:
        raise next(errors)

    monkeypatch.setattr(listings, "version", failing)
    said = [(main(["version"]), capsys.readouterr().err)[1] for _ in range(3)]
    assert said == [
        "yolomix: 0 (YOLOMIX_DEBUG=1 shows more)\n",
        "yolomix: RuntimeError; YOLOMIX_DEBUG=1 shows where\n",
        "yolomix: no such key\n",
    ]


def test_help_has_an_example_for_each_verb(capsys):
    for words in ([], ["help"], ["--help"]):
        assert main(words) == DONE
        overview = capsys.readouterr().out
        assert all(verb.examples[0] in overview for verb in verbs.VERBS.values())
    for name in verbs.VERBS:
        for words in ([name, "--help"], ["help", name], [name, "model=x", "-h"]):
            assert main(words) == DONE
            assert f"  yolomix {name}" in capsys.readouterr().out


def test_every_example_is_good_syntax():
    for verb in verbs.VERBS.values():
        for example in verb.examples:
            _, *words = example.split()
            asked = request.read(words, verbs.VERBS)
            assert asked.verb == verb.name
            if verb.takes is not None:
                assert request.values(asked, verb.takes).keys() <= verb.takes.keys()


@pytest.mark.parametrize(
    ("words", "verb", "rest", "about"),
    [
        ("train model=a.pt data=b.yaml", "train", ["model=a.pt", "data=b.yaml"], None),
        ("predict show model=a.pt", "predict", ["show", "model=a.pt"], None),
        ("obb val model=a.pt", "val", ["obb", "model=a.pt"], None),
        ("help", "help", [], None),
        ("help export", "help", [], "export"),
        ("export model=a.pt -h", "help", [], "export"),
        ("--version", "version", [], None),
        ("train --debug model=a.pt --json", "train", ["model=a.pt"], None),
    ],
)
def test_words_are_read_in_order(words, verb, rest, about):
    asked = request.read(words.split(), verbs.VERBS)
    assert (asked.verb, [*asked.words], asked.about) == (verb, rest, about)
    assert asked.json == ("--json" in words)


@pytest.mark.parametrize("words", ["help trian", "trian --help", "detect", "detect trian", "model=a.pt", "x=train"])
def test_words_without_a_verb_are_refused(words):
    with pytest.raises(request.UsageError, match="no verb"):
        request.read(words.split(), verbs.VERBS)


def test_near_names():
    assert request.near("epoch", ["epochs", "batch"]) == "near: epochs"
    assert request.near("zzz", ["epochs", "batch"]) == "known: epochs, batch"
    assert request.near("zzz", map(str, range(99))).endswith("11, ...")
    assert request.near("zzz", []) == "it takes no arguments"


def test_spaces_around_equal_signs_and_dashes_are_allowed():
    words = passed._merged(["epochs", "=", "3", "imgsz=", "64", "--batch=2", "half"])
    assert words == ["epochs=3", "imgsz=64", "batch=2", "half"]
    passed._check("train", ["segment", "model=yolo11n.pt", "data=sample", "half", "hide_labels=True", *words])


def test_output_goes_elsewhere_and_comes_back(capfd):
    import logging

    logger, elsewhere = logging.getLogger("ultralytics"), io.StringIO()
    handler = logging.StreamHandler(sys.stdout)
    logger.addHandler(handler)
    try:
        with streams.output_to(elsewhere):
            print("printed")
            logger.warning("logged")
        assert elsewhere.getvalue().startswith("printed\n")
        assert "logged" in elsewhere.getvalue()
        assert handler.stream is sys.stdout
    finally:
        logger.removeHandler(handler)
    capfd.readouterr()
    with streams.children_to_stderr():
        subprocess.run(["echo", "from a child"], check=True)
    subprocess.run(["echo", "afterwards"], check=True)
    assert capfd.readouterr() == ("afterwards\n", "from a child\n")


def test_a_model_file_describes_itself():
    text = (
        "# What it is\n#\n# Source: A paper, arXiv:1.\nscales:\n  n: [1] # 1,234 parameters\n  x: [3] # 5 parameters\n"
    )
    assert listings.described("a", text) == {
        "model": "a.yaml",
        "scales": {"n": 1234, "x": 5},
        "about": "What it is",
        "source": "A paper, arXiv:1",
    }
    assert listings.described("b", "nc: 1\n") == {"model": "b.yaml", "scales": {}, "about": "", "source": ""}


def test_a_reader_that_goes_away_is_no_accident():
    code = "import sys; from yolomix.cli import main; sys.exit(main(['models', '--json']))"
    shell = f'{sys.executable} -c "{code}" | true'
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_a_task_may_come_first_as_in_yolo():
    asked = request.read(["segment", "train", "model=a.yaml", "--json"], verbs.VERBS)
    assert (asked.verb, asked.words, asked.json) == ("train", ["segment", "model=a.yaml"], True)


def test_help_and_lists_are_cheap():
    code = "import sys; from yolomix.cli import main; main(['help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_models_lists_every_scale(capsys):
    from yolomix import models

    assert main(["models", "--json"]) == DONE
    rows = {row["model"]: row for row in json.loads(capsys.readouterr().out)}
    assert [*rows] == [f"{name}.yaml" for name in models.names()]
    assert rows["yolo11-c2psa-mlla.yaml"]["scales"]["n"] == 2_607_056
    assert all(row["scales"] and row["about"] and "arXiv:" in row["source"] for row in rows.values())
    assert main(["models"]) == DONE
    assert "n 2.61 M" in capsys.readouterr().out


def test_blocks_lists_arguments_rule_and_source(capsys):
    assert main(["blocks", "--json"]) == DONE
    rows = {row["block"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["C2PSAMLLA"]["arguments"] == "[c2, e=0.5, heads=4]"
    assert rows["C2PSAMLLA"]["channels"] == "(c1, c2, n, ...)"
    assert "arXiv:2405.16605" in rows["MLLAttention"]["source"]
    assert main(["blocks"]) == DONE
    assert "HaloAttention" in capsys.readouterr().out


def test_doctor_finds_nothing_wrong_here(capsys):
    assert main(["doctor", "--json"]) == DONE
    found = json.loads(capsys.readouterr().out)
    assert found["faults"] == []
    assert found["versions"]["torch"]
    assert all(found["ultralytics"]["hooks"].values())
    halo = {row["backend"]: row for row in found["backends"]["halo_attention"]}
    assert halo["eager"]["refusals"] == []
    assert not halo["reference"]["automatic"]
    assert found["network"]["offline"] is True
    assert main(["doctor"]) == DONE
    text = capsys.readouterr().out
    assert "Ultralytics sets" in text
    assert "offline, nothing is looked up" in text


def test_doctor_says_what_is_wrong(monkeypatch, capsys):
    from yolomix import doctor

    monkeypatch.setattr(doctor, "NEEDED", (*doctor.NEEDED, "no-such-package"))
    monkeypatch.setattr(doctor.selftest, "reasons", lambda row: ["broken here"])
    assert main(["doctor", "--json"]) == FAILED
    out, err = capsys.readouterr()
    assert "not installed: no-such-package: pip install no-such-package" in json.loads(out)["faults"]
    assert "nothing computes ss2d" in err


def test_doctor_knows_a_backend_that_is_none(monkeypatch, capsys):
    monkeypatch.setenv("YOLOMIX_BACKEND", "foo")
    assert main(["doctor"]) == FAILED
    assert "YOLOMIX_BACKEND=foo is no backend, and every model fails: choose from auto" in capsys.readouterr().err
    monkeypatch.setenv("YOLOMIX_BACKEND", "eager")
    assert main(["doctor"]) == DONE
    assert "backend: eager wherever an operator has it, by YOLOMIX_BACKEND" in capsys.readouterr().out


@pytest.fixture
def no_choice(monkeypatch):
    """Neither CI nor the user says anything about the network."""
    for name in ("YOLO_OFFLINE", "YOLO_AUTOINSTALL", "CI"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_ci_is_offline(no_choice, monkeypatch):
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(offline, "reachable", lambda: pytest.fail("CI needs no lookup"))
    assert offline.prepare()
    assert (os.environ["YOLO_OFFLINE"], os.environ["YOLO_AUTOINSTALL"]) == ("true", "false")


def test_what_the_user_says_stays(no_choice, monkeypatch):
    monkeypatch.setenv("YOLO_OFFLINE", "false")
    monkeypatch.setenv("CI", "true")
    assert not offline.prepare()
    assert os.environ["YOLO_OFFLINE"] == "false"
    assert "YOLO_AUTOINSTALL" not in os.environ


def test_a_network_changes_nothing(no_choice, monkeypatch):
    monkeypatch.setattr(offline, "_addresses", lambda name: [name])
    assert not offline.prepare()
    assert not {"YOLO_OFFLINE", "YOLO_AUTOINSTALL"} & {*os.environ}


def test_a_lookup_that_hangs_is_no_network(no_choice, monkeypatch):
    monkeypatch.setattr(offline, "PATIENCE", 0.05)
    monkeypatch.setattr(offline, "_addresses", lambda name: time.sleep(3) or [])
    assert offline.prepare()


def test_offline_asks_no_server_for_a_font(no_choice, monkeypatch):
    import requests
    from ultralytics.utils import downloads

    monkeypatch.setattr(offline, "reachable", lambda: False)
    monkeypatch.setattr(requests, "head", lambda *a, **k: pytest.fail("asked a server"))
    monkeypatch.setattr(downloads, "is_url", getattr(downloads.is_url, "native", downloads.is_url))
    offline.prepare()
    assert not downloads.is_url("https://example.com/Arial.ttf", check=True)
    assert downloads.is_url("https://example.com/Arial.ttf")


def test_no_setting_of_the_user_is_touched(trained):
    from ultralytics.utils import SETTINGS_FILE

    before = SETTINGS_FILE.read_bytes()
    assert main(["doctor"]) == DONE
    assert main(["predict", "model=yolo11n.yaml", "source=none.jpg"]) == FAILED
    assert SETTINGS_FILE.read_bytes() == before
