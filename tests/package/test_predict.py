"`fmnist-cluster predict`: every kind of file gets its line, and nothing stops the rest."

import csv
import importlib.resources
import json
import os
import struct
import subprocess
import sys
import time
import warnings
import zlib

import numpy as np
import pytest
from conftest import call
from PIL import Image
from safetensors.numpy import save_file

from fmnist_cluster import cli as command
from fmnist_cluster.applications import load_classifier, prepare, read_picture

NAMES = ["hat", "sock", "scarf", "glove"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    "Write a classifier of random weights, four clusters, as `ContrastiveClassifier.save` does."
    folder, rng = tmp_path_factory.mktemp("model"), np.random.default_rng(0)
    tensors = {
        "mean": np.zeros(256),
        "scale": np.ones(()),
        "order": np.arange(4)[None],
        "temperature": np.ones(()),
        "heads.0.0.weight": rng.normal(0, 0.1, (128, 256)),
        "heads.0.0.bias": np.zeros(128),
        "heads.0.2.weight": rng.normal(0, 0.1, (4, 128)),
        "heads.0.2.bias": np.zeros(4),
    }
    for number, n_in, n_out in ((0, 1, 32), (3, 32, 48), (6, 48, 96), (9, 96, 256)):
        tensors[f"encoder.{number}.weight"] = rng.normal(
            0, (2 / 9 / n_in) ** 0.5, (n_out, n_in, 3, 3)
        )
        tensors |= {
            f"encoder.{number + 1}.{name}": value(n_out)
            for name, value in {
                "weight": np.ones,
                "bias": np.zeros,
                "running_mean": np.zeros,
                "running_var": np.ones,
            }.items()
        }
    save_file(
        {
            f"network_.{name}": value.astype(np.int64 if name == "order" else np.float32)
            for name, value in tensors.items()
        },
        folder / "model.safetensors",
    )
    (folder / "config.json").write_text(
        json.dumps(
            {"class": "ContrastiveClassifier", "parameters": {"encoder": "small"}, "fitted": {}}
        )
    )
    (folder / "names.json").write_text(json.dumps(NAMES))
    return folder


def png_that_claims(width, height):
    "Return the first bytes of a PNG of that size, and nothing after them."
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(b""), b"IEND"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        for chunk in chunks
    )


def boot():
    "Draw a dark boot on white, 120 x 160, in colour."
    picture = Image.new("RGB", (160, 120), "white")
    picture.paste((60, 20, 10), (50, 20, 80, 90))
    picture.paste((90, 30, 10), (50, 70, 120, 100))
    return picture


@pytest.fixture
def wardrobe(tmp_path):
    "Fill a folder with pictures and with what passes for them."
    folder, picture = tmp_path / "wardrobe", boot()
    folder.mkdir()
    picture.save(folder / "photo.png")
    picture.convert("CMYK").save(folder / "print.jpg")
    picture.convert("P").save(folder / "palette.png")
    Image.fromarray(prepare(picture.convert("L"))).save(folder / "small.png")
    picture.save(
        folder / "animated.gif",
        save_all=True,
        append_images=[Image.new("RGB", picture.size, "red")],
    )
    Image.merge(
        "RGBA", [*picture.split(), picture.convert("L").point(lambda level: 255 * (level < 200))]
    ).save(folder / "clear.png")
    Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257).save(
        folder / "deep.png"
    )
    (folder / "cut.png").write_bytes((folder / "photo.png").read_bytes()[:-60])
    (folder / "empty.png").touch()
    (folder / "huge.png").write_bytes(png_that_claims(30_000, 20_000))
    (folder / "larger.png").write_bytes(png_that_claims(5_000, 20_000))
    (folder / "notes.txt").write_text("no picture")
    Image.new("RGB", (300, 200), "blue").save(folder / "sky.png")
    (folder / ".hidden").write_text("not looked at")
    (folder / "older").mkdir()
    return folder


def test_every_file_gets_its_line_and_none_stops_the_rest(model, wardrobe, capsys):
    assert (
        command.main(
            ["predict", str(wardrobe), str(wardrobe / "nowhere.png"), "--model", str(model)]
        )
        == 1
    )
    out, err = capsys.readouterr()
    told = {
        line.split(": ")[0].rpartition("/")[2]: line.split(": ", 1)[1] for line in err.splitlines()
    }
    assert [line.split(": ")[0].rpartition("/")[2] for line in out.splitlines()] == [
        "animated.gif",
        "clear.png",
        "deep.png",
        "palette.png",
        "photo.png",
        "print.jpg",
        "small.png",
    ]
    assert len(err.splitlines()) == len(told) == 10
    assert told.pop("cut.png").startswith("cannot be read (")
    assert told == {
        "animated.gif": "animated, its first frame is used",
        "clear.png": "transparent, laid on white",
        "deep.png": "more than 8 bits a pixel, scaled to 8",
        "empty.png": "is empty",
        "notes.txt": "is not a picture that can be read",
        "nowhere.png": "is not there",
        "sky.png": "is of one colour, nothing is to be seen",
        "huge.png": told["huge.png"],
        "larger.png": "is too large (5000 x 20000 pixels); expected at most 50,000,000 pixels",
    }
    assert told["huge.png"].startswith("is too large (")


def test_only_good_files_are_no_error(model, wardrobe, capsys):
    assert command.main(["predict", str(wardrobe / "photo.png"), "--model", str(model)]) == 0
    out, err = capsys.readouterr()
    name, _, answer = out.strip().rpartition(": ")
    assert name == str(wardrobe / "photo.png") and err == ""
    first, others = answer.rstrip(")").split(" (")
    shown = [each.split() for each in (first, *others.split(", "))]
    assert {word for word, _ in shown} < set(NAMES) and sorted(
        (float(p) for _, p in shown), reverse=True
    ) == [float(p) for _, p in shown]


def test_json_and_table_say_the_same(model, wardrobe, capsys, tmp_path):
    assert (
        command.main(
            [
                "predict",
                str(wardrobe),
                "--model",
                str(model),
                "--json",
                "--csv",
                str(tmp_path / "all.csv"),
            ]
        )
        == 1
    )
    rows = json.loads(capsys.readouterr().out)
    with open(tmp_path / "all.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["file"] for row in rows if "error" in row] and len(rows) == 13
    read = [row for row in rows if "error" not in row]
    assert [
        (row["file"], row["class"], row["probability"], row["alternatives"][1]["class"])
        for row in read
    ] == [(row["file"], row["class"], float(row["probability"]), row["third"]) for row in table]


def test_one_picture_in_many_forms_is_one_garment(wardrobe, tmp_path):
    def garment(file):
        return prepare(read_picture(file)[0]).astype(int)

    straight = garment(wardrobe / "photo.png")
    turned = Image.Exif()
    # it lies on its side: to be turned by 90 degrees clockwise
    turned[0x0112] = 6
    boot().transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=turned)
    for file, tolerance in {
        tmp_path / "turned.png": 0,
        wardrobe / "animated.gif": 8,
        wardrobe / "deep.png": 1,
        wardrobe / "palette.png": 40,
        wardrobe / "print.jpg": 40,
        wardrobe / "small.png": 0,
    }.items():
        assert np.abs(garment(file) - straight).max() <= tolerance, file
    assert np.abs(garment(wardrobe / "clear.png") - straight).max() <= 8
    on_black = prepare(Image.fromarray(255 - np.asarray(boot().convert("L"))))
    # levels are rounded on the way, upwards in one and downwards in the other
    assert np.abs(on_black.astype(int) - straight).max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (3, 4000), (29, 28), (5000, 4000)])
def test_any_shape_is_a_garment_or_refused_in_one_line(size):
    levels = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    with warnings.catch_warnings(action="error"):
        try:
            garment = prepare(Image.fromarray(levels))
        except ValueError as error:
            assert "\n" not in str(error)
        else:
            assert garment.shape == (28, 28) and garment.dtype == np.uint8


@pytest.mark.parametrize(
    "spoil, told",
    [
        (lambda folder: (folder / "config.json").unlink(), "holds no model"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be used"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"half"), "cannot be used"),
        (
            lambda folder: (folder / "config.json").write_text(
                '{"class": "DEC", "parameters": {}}'
            ),
            "it is a DEC",
        ),
        (lambda folder: (folder / "names.json").write_text('["hat"]'), "1 names for 4 clusters"),
    ],
)
def test_a_model_that_cannot_be_used_is_said_in_one_line(model, tmp_path, spoil, told):
    folder = tmp_path / "spoilt"
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    spoil(folder)
    said = command.main(["predict", "photo.png", "--model", str(folder)])
    assert told in said and "\n" not in said


def test_an_empty_folder_is_said(model, tmp_path):
    assert "there is no file in" in command.main(["predict", str(tmp_path), "--model", str(model)])


@pytest.mark.long
def test_a_thousand_images_take_less_than_half_a_second_on_two_cores(model):
    "In seconds of computing, which other work does not lengthen: half a second on two is one."
    classifier, images, taken = (
        load_classifier(model)[0],
        np.random.default_rng(0).integers(0, 256, (1000, 28, 28), dtype=np.uint8),
        [],
    )
    for _ in range(3):
        start = time.process_time()
        classifier.predict_proba(images)
        taken.append(time.process_time() - start)
    assert min(taken) < 1


def test_a_cold_start_takes_at_most_five_seconds(model, wardrobe):
    "In seconds of computing too; what takes long to import is not imported."
    before = os.times()
    process = call("-m", "fmnist_cluster", "predict", wardrobe / "photo.png", "--model", model)
    assert process.returncode == 0 and process.stderr == "", process.stderr
    after = os.times()
    assert (
        after.children_user + after.children_system - before.children_user - before.children_system
        <= 5
    )
    words = ["predict", str(wardrobe / "photo.png"), "--model", str(model)]
    code = f"from fmnist_cluster.cli import main; main({words}); "
    modules = call("-c", f"{code}import sys; print(*sys.modules)").stdout.split()
    assert "numpy" in modules and not {
        "torchvision",
        "sklearn",
        "scipy",
        "pandas",
        "matplotlib",
    } & set(modules)


def test_a_reader_that_has_seen_enough_is_no_error(model, wardrobe):
    "As `fmnist-cluster predict ... | head -0` does."
    process = subprocess.Popen(
        [sys.executable, "-m", "fmnist_cluster", "predict", wardrobe / "photo.png"]
        + ["--model", model],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.wait()


def test_the_help_names_every_command(capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    assert {"run", "sweep", "status", "collect", "compare", "predict"} <= set(
        capsys.readouterr().out.split()
    )


@pytest.mark.skipif(
    not (importlib.resources.files("fmnist_cluster") / "reference_model").is_dir(),
    reason="the package holds no model yet",
)
def test_without_a_model_the_packages_own_names_garments(wardrobe, capsys):
    assert command.main(["predict", str(wardrobe / "photo.png")]) == 0
    assert "boot" in capsys.readouterr().out
