"No label and no test image reaches a fit: with labels shuffled or gone and test images spoilt, every method finds the very same clusters."

import gzip
import hashlib
import json

import numpy as np
import pytest
import yaml
from conftest import ROOT, TRAINING, call
from methods import ESTIMATORS, ON_IMAGES, digest
from safetensors.numpy import load_file
from sklearn.base import clone

from fmnist_cluster import data
from fmnist_cluster.core import InputError, Stage
from fmnist_cluster.data import load_images, load_labels, to_vectors

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
    "The training chapters run again, as the book runs them, on digits whose labels are shuffled."
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
    "What the methods found: labels, embeddings and the course of the training; the upper bound `supervised`, which reads labels by name, left out."
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
    "What a stage records; times, memory, checksums of files (times stand in some) and the upper bound `supervised` apart."
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


# the files themselves


def write_files(folder, n_train, n_test, labels="as they are", test_images="as they are"):
    "Digits as files of Fashion-MNIST's format below `folder`; returns their names and checksums, as torchvision keeps them."
    raw, draw, known = folder / "FashionMNIST" / "raw", np.random.default_rng(0), []
    raw.mkdir(parents=True)
    for split, part, n in (("train", "train", n_train), ("test", "t10k", n_test)):
        images, classes = (
            load_images("digits", split)[:n],
            load_labels("digits", split)[:n].astype(np.uint8),
        )
        if labels == "shuffled":
            classes = draw.permutation(classes)
        if split == "test" and test_images == "noise":
            images = draw.integers(0, 256, images.shape, dtype=np.uint8)
        for kind, content in (
            ("images", bytes(16) + images.tobytes()),
            ("labels", bytes(8) + classes.tobytes()),
        ):
            file = raw / f"{part}-{kind}-idx{3 if kind == 'images' else 1}-ubyte.gz"
            file.write_bytes(gzip.compress(content, mtime=0))
            known.append((file.name, hashlib.md5(file.read_bytes()).hexdigest()))
            if kind == "labels" and labels == "gone":
                file.unlink()
    return known


BY_EMBEDDING = (
    "ae",
    "ddc",
)  # the one has no clusters, the other may find a single one in so few images, which no noise changes
VARIANTS = {
    "undisturbed": {},
    "labels shuffled": {"labels": "shuffled"},
    "labels gone": {"labels": "gone"},
    "test images noise": {"test_images": "noise"},
}
variants = pytest.mark.parametrize(
    "variant", [variant for variant in VARIANTS if variant != "undisturbed"]
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    "For each variant of the files, what every method finds by way of a stage: digest of the train labels (of the embedding, where there are none), and of the test ones."
    found = {}
    for variant, change in VARIANTS.items():
        folder = tmp_path_factory.mktemp("files")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                data._IDX_SETS["fashion_mnist"],
                "resources",
                write_files(folder / "data", 100, 30, **change),
            )
            patch.setattr(data, "_download", lambda *_: False)
            for name, place in {"DATA": "data", "RUNS": "runs"}.items():
                patch.setenv(f"FMNIST_CLUSTER_{name}", str(folder / place))
            patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
            patch.setattr(data, "project_root", lambda folder=folder: folder)
            if variant == "labels gone":
                with pytest.raises(InputError, match="labels-idx1"):
                    load_labels("fashion_mnist")
            stage, images = (
                Stage("06_dec_idec", dataset="fashion_mnist", seed=0, run="r"),
                [load_images("fashion_mnist", split) for split in ("train", "test")],
            )
            for name, estimator in ESTIMATORS.items():
                train, test = images if name in ON_IMAGES else map(to_vectors, images)
                given = {"held_out": test} if name == "ae" else {}
                model = stage.fit(name, clone(estimator), train, **given)
                found[variant, name] = (
                    digest(model.transform(train)) if name == "ae" else digest(model.labels_),
                    digest(model.transform(test) if name in BY_EMBEDDING else model.predict(test)),
                )
    return found


@variants
@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_fit_is_the_same(name, variant, trained):
    assert trained[variant, name][0] == trained["undisturbed", name][0]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_noise_was_there(name, trained):
    "Otherwise the test above would pass for nothing."
    assert trained["test images noise", name][1] != trained["undisturbed", name][1]


LONG = ["labels gone", "test images noise"]  # labels shuffled: above
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
    "For each variant of the files, the training chapters themselves on these files, and how each ended."
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
    "The bytes of a file; of a model those of each tensor, without what was only watched: test images on their way through the network."
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
    "Where the label files are gone the chapter ends at its first evaluation cell, its stage complete before."
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
