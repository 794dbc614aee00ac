"The README's commands and its snippet, run as they stand: a reader's first ten minutes."

import os
import re
import subprocess
import sys

import pandas as pd
import pytest
from conftest import ROOT
from PIL import Image

pytestmark = pytest.mark.long

README = (ROOT / "README.md").read_text(encoding="utf-8")
ADDRESS = "https://github.com/fmnist-cluster/fmnist_cluster"


def blocks(language):
    return "".join(re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL))


def on_digits(commands):
    "Put digits in place of the real data."
    named = re.sub(r"\bfashion_mnist\b", "digits", commands)
    return re.sub(r"^(\S*papermill .*)$", r"\1 -p dataset digits", named, flags=re.MULTILINE)


def program(file, lines):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("#!/bin/sh\n" + lines)
    file.chmod(0o755)


@pytest.fixture
def reader(tmp_path):
    """Make the environment of somebody who has this project's .venv and a few photographs.

    No network is needed: the address leads to this checkout, digits are the data, a fresh clone
    finds .venv made (and make takes it for up to date), and a report is opened by looking whether
    it is there.
    """
    if not os.path.exists(f"{sys.prefix}/.installed"):
        pytest.skip("not in the .venv that `make` made: `make run` would install into it")
    template, tools, clone = tmp_path / "template", tmp_path / "bin", tmp_path / "fmnist_cluster"
    wardrobe = tmp_path / "pictures" / "wardrobe"
    wardrobe.mkdir(parents=True)
    picture = Image.new("RGB", (160, 120), "white")
    picture.paste((60, 20, 10), (50, 20, 100, 100))
    for file in (wardrobe.parent / "photo.jpg", wardrobe / "one.png", wardrobe / "two.gif"):
        picture.save(file)
    program(
        template / "hooks" / "post-checkout",
        f"cp -r '{wardrobe.parent}/.' .\nln -s '{sys.prefix}' .venv\n"
        "touch -d @0 requirements.lock settings.ini setup.py pyproject.toml\n",
    )
    program(tools / "xdg-open", 'test -s "$1"\n')
    git = {
        "GIT_TEMPLATE_DIR": str(template),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.file://{ROOT}.insteadOf",
        "GIT_CONFIG_VALUE_0": ADDRESS,
    }
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FMNIST_CLUSTER_", "MAKE", "MFLAGS"))
    }
    return (
        clean
        | git
        | {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(clone), "DATASET": "digits"}
    )


def test_the_commands(reader, tmp_path):
    commands = on_digits(blocks("sh"))
    assert commands.count("make run") == 2 and "papermill" in commands and "fashion" not in commands
    run = subprocess.run(
        ["bash", "-ec", commands], cwd=tmp_path, env=reader, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    runs = tmp_path / "fmnist_cluster" / "runs"
    for name, seed in {"quick": 42, "mine": 1}.items():
        table = pd.read_csv(runs / name / "digits" / "09_evaluation" / "comparison.csv").set_index(
            "method"
        )
        assert {"kmeans", "idec"} <= set(table.index) and table["ACC (map from test)"].between(
            0, 1
        ).all()
        assert (runs / name / "digits" / f"seed={seed}" / "06_dec_idec" / "metrics.json").exists()
    assert len(pd.read_csv(runs.parent / "wardrobe.csv")) == 3
    assert (runs / "gamma02.ipynb").exists() and (
        runs / "gamma02" / "digits" / "seed=42" / "06_dec_idec" / "metrics.json"
    ).exists()


def test_the_snippet(reader, tmp_path):
    shown = (
        "print(*clusters.shape, *probability.shape, *embedding.shape, "
        "probability.sum(axis=1).round(3).min(), len(classes))"
    )
    run = subprocess.run(
        [sys.executable, "-c", on_digits(blocks("python")) + shown],
        cwd=tmp_path,
        env=reader | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["5", "5", "10", "5", "10", "1.0", "6"]
    assert {file.name for file in (tmp_path / "runs" / "my_idec").iterdir()} >= {
        "config.json",
        "model.safetensors",
    }
