"""No label and no test image reaches a chapter's training.

With labels shuffled or gone and test images spoilt, every method finds the very same clusters.
"""

import json

import numpy as np
import pytest
import yaml
from conftest import ROOT, TRAINING, call
from digit_files import VARIANTS, write_files
from safetensors.numpy import load_file

# IPython runs this in every kernel before a notebook's first cell
STARTUP = """
import pathlib
import numpy as np
import fmnist_cluster.data as data

_original = data.load_labels

def _shuffled(dataset="fashion_mnist", split="train"):
    pathlib.Path({marker!r}).touch()
    return np.random.default_rng(0).permutation(_original(dataset, split))

data.load_labels = _shuffled
"""


@pytest.fixture(scope="module")
def shuffled(book, tmp_path_factory):
    "Run the training chapters as the book does, on digits whose labels are shuffled."
    folder = tmp_path_factory.mktemp("shuffled")
    startup, marker = folder / "ipython/profile_default/startup", folder / "labels were asked for"
    startup.mkdir(parents=True)
    (startup / "00-shuffle.py").write_text(STARTUP.format(marker=str(marker)))
    base = folder / "runs/quick/digits/seed=42"
    process = call(
        "-m",
        "snakemake",
        "-s",
        "workflow/Snakefile",
        "--cores",
        "all",
        "--nolock",
        *(base / chapter / "metrics.json" for chapter in TRAINING),
        "--config",
        "run=quick",
        "dataset=digits",
        "preset=quick",
        "seeds='42'",
        IPYTHONDIR=str(folder / "ipython"),
        FMNIST_CLUSTER_RUNS=str(folder / "runs"),
    )
    assert process.returncode == 0, process.stderr
    assert marker.exists(), "the shuffled labels were never used: this test would pass for nothing"
    return base


def found(base):
    """Return the files of what the methods found: labels, embeddings, the course of the training.

    The upper bound `supervised`, which reads labels by name, is left out.
    """
    patterns = (
        "*/labels_*.npy",
        "*/embedding_*.npy",
        "*/history.csv",
        "grid/*/labels_*.npy",
        "spaces/*/*.npy",
    )
    return {
        str(file.relative_to(base)): file
        for chapter in TRAINING
        for pattern in patterns
        for file in (base / chapter).glob(pattern)
        if file.parent.name != "supervised"
    }


def test_same_files(book, shuffled):
    assert found(shuffled).keys() == found(book.base / "seed=42").keys()
    assert (
        sum(name.endswith("labels_train.npy") and "/grid/" not in name for name in found(shuffled))
        >= 7
    )
    assert (
        sum("/grid/" in name for name in found(shuffled)) > 10
        and sum("/spaces/" in name for name in found(shuffled)) > 5
    )


def test_only_the_upper_bound_heard_of_the_labels(book, shuffled):
    told, misled = (
        np.load(base / "07_pseudo_label/supervised/labels_train.npy")
        for base in (book.base / "seed=42", shuffled)
    )
    assert (told != misled).mean() > 0.3


def test_everything_found_is_the_same_to_the_last_byte(book, shuffled):
    undisturbed = found(book.base / "seed=42")
    assert [
        name
        for name, file in found(shuffled).items()
        if file.read_bytes() != undisturbed[name].read_bytes()
    ] == []


def timeless(value):
    """Return what a stage records, without what differs from run to run.

    Times, memory, checksums of files (times stand in some) and the upper bound `supervised`.
    """
    if isinstance(value, list):
        return [timeless(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: timeless(item)
        for name, item in value.items()
        if name not in ("files", "sha256", "supervised")
        and not name.endswith(("seconds", "seconds_per_1k", "memory_mb"))
    }


@pytest.mark.parametrize("chapter", TRAINING)
def test_the_same_facts_are_recorded(chapter, book, shuffled):
    "Two runs, two processes: the same JSON to the last digit."
    once, again = (
        timeless(json.loads((base / chapter / "metrics.json").read_text()))
        for base in (book.base / "seed=42", shuffled)
    )
    assert once == again and "methods" in once


# the files themselves: labels that are shuffled come above
LONG = ["labels gone", "test images noise"]
SMALL = {
    "03_baseline": {"n_init": 1, "n_single": 1, "rows": ["gmm@pca5", "ward@pca5", "hdbscan@pca5"]},
    "04_autoencoder": {"hidden": [16], "epochs": 1},
    "05_ae_kmeans": {"n_init": 1},
    "06_dec_idec": {"max_iter": 4, "update_interval": 2},
    "07_pseudo_label": {
        "n_train": 300,
        "rounds": 1,
        "epochs_per_round": 1,
        "start_epochs": 1,
        "supervised_epochs": 1,
    },
    "08_contrastive": {
        "n_train": 300,
        "contrastive_epochs": 1,
        "min_steps": 10,
        "n_heads": 2,
        "head_epochs": 1,
    },
}
FILES_STARTUP = """
import json
import fmnist_cluster.data as data
data._IDX_SETS["fashion_mnist"].resources = json.load(open({known!r}))
data._download = lambda *_: False
"""


@pytest.fixture(scope="module")
def chapters(tmp_path_factory):
    "Run the training chapters themselves on each variant of the files; how each ended."
    ended = {}
    for variant in ("undisturbed", *LONG):
        change, folder = VARIANTS[variant], tmp_path_factory.mktemp("chapters")
        startup = folder / "ipython/profile_default/startup"
        startup.mkdir(parents=True)
        (folder / "known.json").write_text(
            json.dumps(write_files(folder / "data", 600, 100, **change))
        )
        (startup / "00-files.py").write_text(FILES_STARTUP.format(known=str(folder / "known.json")))
        for chapter in TRAINING:
            ended[variant, chapter] = call(
                "-m",
                "papermill",
                f"nbs/{chapter}.ipynb",
                folder / f"{chapter}.ipynb",
                "--no-progress-bar",
                "-p",
                "run",
                "r",
                "-p",
                "dataset",
                "fashion_mnist",
                "-y",
                yaml.safe_dump(SMALL[chapter]),
                IPYTHONDIR=str(folder / "ipython"),
                FMNIST_CLUSTER_DATA=str(folder / "data"),
                FMNIST_CLUSTER_RUNS=str(folder / "runs"),
                XDG_CACHE_HOME=str(folder / "cache"),
                OMP_NUM_THREADS="1",
            )
        ended[variant] = folder / "runs/r/fashion_mnist/seed=42"
    return ended


def content(file):
    """Return the bytes of a file; of a model those of each tensor.

    What was only watched is left out: test images on their way through the network.
    """
    if file.suffix != ".safetensors":
        return file.read_bytes()
    return {
        name: tensor.tobytes()
        for name, tensor in load_file(file).items()
        if not name.startswith("watched_")
    }


@pytest.mark.long
@pytest.mark.parametrize("variant", LONG)
@pytest.mark.parametrize("chapter", TRAINING)
def test_a_chapter_s_training_is_the_same(chapter, variant, chapters):
    "Where the label files are gone it ends at its first evaluation cell, its stage complete."
    ending = chapters[variant, chapter]
    if (
        variant != "labels gone"
        or "load_labels(" not in (ROOT / f"nbs/{chapter}.ipynb").read_text()
    ):
        assert ending.returncode == 0, ending.stderr
    else:
        assert ending.returncode == 1 and "labels-idx1" in ending.stderr
    there, undisturbed = chapters[variant] / chapter, chapters["undisturbed"] / chapter
    assert (there / "metrics.json").exists()
    kept = [
        file.relative_to(undisturbed)
        for pattern in ("labels_train.npy", "embedding_train.npy", "model.safetensors")
        for file in undisturbed.rglob(pattern)
        if file.parent.name != "supervised"
    ]
    assert (
        kept
        and [name for name in kept if content(there / name) != content(undisturbed / name)] == []
    )
