"""The verbs that Ultralytics carries out: what they answer, and what is refused beforehand."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from tests.cli.commands import TINY
from yolomix import data
from yolomix.cli import DONE, FAILED, USAGE, main, passed
from yolomix.cli.verbs import VERBS
from yolomix.host import weights


def test_training_answers_with_weights_and_metrics(trained, folder):
    answer, log = trained
    assert Path(answer["weights"]).samefile(folder / "train" / "weights" / "best.pt")
    assert Path(answer["save_dir"]).samefile(folder / "train")
    assert 0 <= answer["metrics"]["metrics/mAP50(B)"] <= 1
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


def test_validation_of_a_checkpoint_that_remembers_no_dataset(tmp_path, capsys):
    """Ultralytics would take one of its own, and download it."""
    file = weights.write(weights.from_yaml("yolov8n-cls.yaml"), tmp_path / "start.pt")
    for more in ([], ["data=None"]):
        assert main(["val", f"model={file}", *more]) == USAGE
        assert "val needs data: data=FILE.yaml, or data=sample" in capsys.readouterr().err


def test_a_folder_is_no_target(tmp_path, capsys):
    file = weights.write(weights.from_yaml("yolov8n-cls.yaml"), tmp_path / "start.pt")
    assert main(["transfer", f"source={file}", "target=/", f"save={tmp_path / 'out.pt'}"]) == FAILED
    assert "/ is no model YAML" in capsys.readouterr().err


def test_prediction_for_people_and_programs(trained, folder, capsys):
    image = folder / "cache" / data.FOLDER / "images" / "val" / "0000.jpg"
    words = [
        "predict",
        f"model={trained[0]['weights']}",
        f"source={image}",
        f"project={folder}",
        "conf=0.0001",
        *TINY,
    ]
    assert main([*words, "max_det=2", "name=saved"]) == DONE
    assert capsys.readouterr().out.splitlines()[1] == f"save_dir: {folder / 'saved'}"
    assert (folder / "saved" / image.name).is_file()
    assert main([*words, "max_det=3", "save=False", "name=none", "--json"]) == DONE
    answer = json.loads(capsys.readouterr().out)
    assert answer["save_dir"] is None
    (found,) = answer["images"]
    assert found["file"] == str(image)
    assert len(found["detections"]) == 3
    assert {"name", "class", "confidence", "box"} <= found["detections"][0].keys()


def test_an_image_that_cannot_be_read_is_a_failure(trained, tmp_path, capsys):
    (tmp_path / "junk.jpg").write_bytes(b"no image")
    words = ["predict", f"model={trained[0]['weights']}", f"source={tmp_path / 'junk.jpg'}", f"project={tmp_path}"]
    assert main([*words, *TINY]) == FAILED
    assert "nothing could be read from the source" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["yolo11n-mlla.yaml", "yolo11n+MLLABlock@p5.yaml"])
@pytest.mark.parametrize("resume", ["resume", "resume=True"])
def test_a_model_yaml_has_no_training_to_resume(model, resume, capsys):
    """Ultralytics would start one of a hundred epochs on a dataset of its own."""
    assert main(["train", f"model={model}", resume]) == USAGE
    err = capsys.readouterr().err
    assert f"{model} has no training to resume; give the checkpoint that the training left: train model=runs/" in err


def test_a_training_to_resume_is_named_as_the_model(capsys):
    assert main(["train", "resume=last.pt"]) == USAGE
    assert "a training is resumed by its checkpoint: train model=last.pt resume=True" in capsys.readouterr().err
    assert main(["train", "model=yolo11n-mlla.yaml", "resume=last.pt", "data=sample"]) == FAILED
    assert "no checkpoint 'last.pt' on disk" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["predict", "track"])
def test_nothing_to_look_at_is_asked_for(verb, capsys):
    assert main([verb, "model=yolo11n-mlla.yaml"]) == USAGE
    assert f"{verb} needs what to look at: source=FILE, a folder," in capsys.readouterr().err


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        ("smple", "; did you mean sample"),
        ("coco8", "; did you mean coco8.yaml"),
        ("coc8.yaml", "; did you mean coco8.yaml"),
        ("mine.yml", "; did you mean mine.yaml"),
        ("qqq.yaml", ": it is a file, one that comes with Ultralytics (coco8.yaml), or sample"),
    ],
)
@pytest.mark.parametrize("verb", ["train", "val", "benchmark"])
def test_a_dataset_that_is_not_there_is_refused_at_once(verb, data, hint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").touch()
    assert main([verb, "model=yolo11n-mlla.yaml", f"data={data}"]) == USAGE
    told = capsys.readouterr().err
    assert f"no dataset {data!r}{hint}" in told
    assert "linear_attention runs" not in told  # nothing was built


@pytest.mark.parametrize("words", [["task=segment"], ["segment"]])
def test_a_task_that_the_model_is_not_for(words, capsys):
    assert main(["train", "model=yolo11n-mlla.yaml", "data=sample", *words]) == FAILED
    assert "yolo11n-mlla.yaml is a model for detect, its last row is Detect" in capsys.readouterr().err


def test_a_graft_of_a_checkpoint_is_a_model_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    weights.write(weights.from_yaml("yolov8n-seg.yaml"), tmp_path / "mine-seg.pt")
    Image.new("RGB", (32, 32)).save("a.png")
    words = ["predict", "model=mine-seg+MLLABlock@head-inputs", "source=a.png", "imgsz=32", "save=False", "--json"]
    assert main(words) == DONE
    assert len(json.loads(capsys.readouterr().out)["images"]) == 1


def test_a_finished_training_is_not_resumed_as_another_one(trained, capsys):
    assert main(["train", f"model={trained[0]['weights']}", "resume=True"]) == USAGE
    assert "is a finished training, there is nothing to resume" in capsys.readouterr().err


def test_a_dataset_yaml_is_no_model(trained, folder, capsys):
    dataset = folder / "cache" / data.FOLDER / "data.yaml"
    assert main(["predict", f"model={dataset}", *TINY]) == USAGE
    assert "describes no model, it has no backbone; a dataset YAML goes to data=" in capsys.readouterr().err


def test_a_classified_image_has_likeliest_classes_and_no_counts():
    classes = [{"name": "cat", "class": 0, "confidence": 0.75}, {"name": "dog", "class": 1, "confidence": 0.25}]
    answer = {"verb": "predict", "save_dir": None, "images": [{"file": "a.jpg", "detections": classes}]}
    assert passed._lines(answer) == ["a.jpg: cat 0.75, dog 0.25"]


def test_frames_of_a_video_have_numbers():
    frames = [SimpleNamespace(path="a.mp4", save_dir=None, summary=list) for _ in range(2)]
    answer = passed.summary("track", None, frames)
    assert [(image["file"], image["frame"]) for image in answer["images"]] == [("a.mp4", 0), ("a.mp4", 1)]
    assert passed._lines(answer) == ["a.mp4 frame 0: no detections", "a.mp4 frame 1: no detections"]
    assert "frame" not in passed.summary("predict", None, frames[:1])["images"][0]


def test_an_unknown_argument_is_answered_with_those_that_can_be_given(capsys):
    for key, said in [("modle", "did you mean model?"), ("zzz", "known: task, model, data, epochs, ")]:
        assert main(["train", "model=yolo11n.yaml", "data=sample", f"{key}=1"]) == USAGE
        assert f"train takes no {key!r}; {said}" in capsys.readouterr().err


def test_export_prints_the_file(trained, capsys):
    assert main(["export", f"model={trained[0]['weights']}", "format=torchscript", *TINY[:1], "--json"]) == DONE
    assert Path(json.loads(capsys.readouterr().out)["file"]).is_file()


def test_a_table_of_formats_is_passed_on():
    answer = passed.summary("benchmark", None, "| onnx | 12 ms |")
    assert answer == {"verb": "benchmark", "table": "| onnx | 12 ms |"}
    assert passed._lines(answer) == ["| onnx | 12 ms |"]


def test_spaces_around_equal_signs_and_dashes_are_allowed():
    words = passed._merged(["epochs", "=", "3", "imgsz=", "64", "--batch=2", "half"])
    assert words == ["epochs=3", "imgsz=64", "batch=2", "half"]
    words = ["segment", "model=yolo11n.pt", "data=sample", "half", "hide_labels=True", *words]
    given = passed._given(VERBS["train"], words)
    assert (given["segment"], given["imgsz"]) == ("", "64")
    passed._check(VERBS["train"], given)
