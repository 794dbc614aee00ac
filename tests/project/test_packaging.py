"The package as others get it: built, installed, imported far from the checkout."

import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, copy_project
from PIL import Image

MODULES = sorted(file.stem for file in (ROOT / "fmnist_cluster").glob("[a-z]*.py"))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Make a wheel from the sdist, as an index would get them.

    Built from a copy, so that the checkout gets no build folder.
    """
    out, copy = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("copy") / "source"
    copy_project(copy)
    process = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return out


def test_wheel_holds_every_module_and_the_licence(built):
    names = zipfile.ZipFile(next(built.glob("*.whl"))).namelist()
    assert {f"fmnist_cluster/{name}.py" for name in MODULES} | {"fmnist_cluster/py.typed"} <= set(
        names
    )
    assert any(name.endswith("LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "nbs", "workflow", "tools"))]


def test_sdist_can_be_built_again(built):
    names = {Path(name).name for name in tarfile.open(next(built.glob("*.tar.gz"))).getnames()}
    assert {"settings.ini", "setup.py", "pyproject.toml", "README.md", "LICENSE"} <= names


def test_links_of_the_description_lead_somewhere(built):
    wheel = zipfile.ZipFile(next(built.glob("*.whl")))
    description = wheel.read(
        next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    ).decode()
    found = re.findall(r"(!?)\[[^]]*\]\(([^)#]+)", description)
    assert found and [target for _, target in found if not target.startswith("https://")] == []
    files = [
        (picture, re.fullmatch(r"https://github\.com/[\w-]+/[\w-]+/(blob|raw)/main/(.+)", target))
        for picture, target in found
    ]
    assert [
        match[0]
        for picture, match in files
        if match and (not (ROOT / match[2]).exists() or (match[1] == "raw") != bool(picture))
    ] == []


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """Install the wheel alone into a new environment; its folder.

    The dependencies are those of this environment, seen through a .pth file, so its own editable
    install is not.
    """
    folder = tmp_path_factory.mktemp("installed") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            folder / "bin/python",
            "install",
            "--no-deps",
            "--no-index",
            "--quiet",
            next(built.glob("*.whl")),
        ],
        check=True,
    )
    (next(folder.glob("lib/python*/site-packages")) / "dependencies.pth").write_text(
        sysconfig.get_path("purelib") + "\n"
    )
    return folder


def test_wheel_works_outside_the_checkout(installed, tmp_path):
    program = (
        "import importlib, sys, numpy as np, fmnist_cluster\n"
        f"for name in {MODULES!r}: importlib.import_module(f'fmnist_cluster.{{name}}')\n"
        "from fmnist_cluster.data import load_images\n"
        "assert load_images('digits').shape == (1437, 28, 28)\n"
        "print(fmnist_cluster.__file__)"
    )
    shown = subprocess.run(
        [installed / "bin/python", "-I", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    assert Path(shown.stdout.strip()).is_relative_to(installed)
    refused = subprocess.run(
        [installed / "bin/fmnist-cluster", "sweep", "table.csv"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    told = "go into one: the notebooks and the workflow are there."
    assert refused.returncode == 1
    assert refused.stderr.strip().endswith(f"lies in no checkout of fmnist_cluster; {told}")


def test_names_and_commands_are_there_without_what_is_heavy(installed, tmp_path):
    program = (
        "import sys, fmnist_cluster\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)\n"
        "assert {'IDEC', 'Autoencoder', 'InputError'} <= set(dir(fmnist_cluster))\n"
        "from fmnist_cluster import Autoencoder, IDEC\n"
        "print(IDEC.__module__, fmnist_cluster.__version__)"
    )
    for words, expected in (
        (["-c", program], "fmnist_cluster.dec 0."),
        (["-m", "fmnist_cluster", "--version"], "fmnist-cluster 0."),
        (["-m", "fmnist_cluster", "run", "--help"], "usage: fmnist-cluster run "),
    ):
        shown = subprocess.run(
            [installed / "bin/python", "-I", *words], cwd=tmp_path, capture_output=True, text=True
        )
        assert shown.returncode == 0 and shown.stdout.startswith(expected), shown.stderr


def test_predict_works_straight_after_installation(installed, tmp_path):
    "With the model that the wheel holds: a pair of trousers on white, and a file that is none."
    picture = Image.new("RGB", (200, 300), "white")
    for corner in ((60, 30), (110, 30)):
        picture.paste((40, 40, 90), (*corner, corner[0] + 40, 280))
    picture.paste((40, 40, 90), (60, 30, 150, 80))
    picture.save(tmp_path / "photo.png")
    (tmp_path / "notes.txt").write_text("no picture")
    shown = subprocess.run(
        [installed / "bin/fmnist-cluster", "predict", "photo.png", "notes.txt"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (
        shown.returncode == 1 and shown.stderr == "notes.txt: is not a picture that can be read\n"
    )
    assert re.fullmatch(
        r"photo\.png: Trouser [01]\.\d\d \(.+ 0\.\d\d, .+ 0\.\d\d\)\n", shown.stdout
    ), shown.stdout
