"""Damage is named or mended, never a wrong result.

Files that are missing, cut or changed, disks that are full or read-only, two writers, little
memory.
"""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import GENERATED, ROOT, refusal
from digit_files import idx_header
from hypothesis import assume, given
from hypothesis import strategies as st
from methods import ESTIMATORS, samples
from sklearn.base import clone

from fmnist_cluster import core, data
from fmnist_cluster.baseline import fit_row
from fmnist_cluster.runs import Stage, load_recorded, stage_folder, stage_metrics
from fmnist_cluster.saving import load_artefact, save_artefact

COMMON = dict(dataset="digits", seed=0, run="r")
N = 80


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    "The runs folder of this module, one complete stage in it."
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FMNIST_CLUSTER_RUNS", str(folder))
        stage = Stage("05_ae_kmeans", **COMMON)
        model = stage.fit("ae_kmeans", ESTIMATORS["ae_kmeans"], samples("ae_kmeans", N))
        stage.keep(
            "ae_kmeans",
            model,
            samples("ae_kmeans", 20, "test"),
            model.transform(samples("ae_kmeans", 20, "test")),
        )
        stage.save("ae_kmeans/history.csv", pd.DataFrame({"epoch": [1, 2], "loss": [0.5, 0.25]}))
        stage.finish()
        yield SimpleNamespace(root=folder, stage=stage.folder)


KEPT = [
    "metrics.json",
    "ae_kmeans/config.json",
    "ae_kmeans/fit.json",
    "ae_kmeans/history.csv",
    "ae_kmeans/labels_test.npy",
    "ae_kmeans/labels_train.npy",
    "ae_kmeans/embedding_test.npy",
    "ae_kmeans/model.safetensors",
]


def read(path):
    "Read an artefact as a chapter would."
    return (
        type(ESTIMATORS["ae_kmeans"]).load(path.parent)
        if path.suffix == ".safetensors" or path.name == "config.json"
        else load_recorded(path)
    )


def with_content(path, content, check):
    "`check()` while the file holds something else."
    whole = path.read_bytes()
    path.write_bytes(content)
    try:
        check()
    finally:
        path.write_bytes(whole)


def test_everything_that_is_read_is_watched(runs):
    found = {
        file.relative_to(runs.stage).as_posix()
        for file in runs.stage.rglob("[!.]*")
        if file.is_file()
    }
    assert found == set(KEPT) and set(stage_metrics(runs.stage)["files"]) == found - {
        "metrics.json"
    }
    for name in KEPT:
        read(runs.stage / name)


@pytest.mark.parametrize("name", KEPT)
@GENERATED
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed(name, position, bit, runs):
    "Wherever it is: never a result, always one line that names the file or that of its stage."
    path = runs.stage / name
    content = bytearray(path.read_bytes())
    place = int(position * len(content))
    if name == "metrics.json":
        # this name lost, the check is lost and nothing else
        assume(not 0 <= place - content.rindex(b'"sha256"') < 8)
    content[place] ^= 1 << bit
    with_content(path, bytes(content), lambda: refusal(lambda: read(path), str(path.parent)))


@pytest.mark.parametrize("name", KEPT)
@GENERATED
@given(keep=st.floats(0, 1, exclude_max=True))
def test_a_cut_file_is_noticed(name, keep, runs):
    path = runs.stage / name
    with_content(
        path,
        path.read_bytes()[: int(keep * (path.stat().st_size - 1))],
        lambda: refusal(lambda: read(path), str(path.parent)),
    )


@pytest.mark.parametrize("name", KEPT[1:])
def test_a_missing_file_is_named(name, runs):
    path = runs.stage / name
    whole = path.read_bytes()
    path.unlink()
    try:
        refusal(lambda: read(path), str(path))
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("name", KEPT[1:])
def test_a_file_of_another_run_is_noticed(name, runs, tmp_path, monkeypatch):
    "Whole and well formed, and not the one that this stage had when it was finished."
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(tmp_path))
    stage = Stage("05_ae_kmeans", **COMMON | {"seed": 1})
    model = stage.fit(
        "ae_kmeans",
        clone(ESTIMATORS["ae_kmeans"]).set_params(random_state=1),
        samples("ae_kmeans", N + 10),
    )
    stage.keep(
        "ae_kmeans",
        model,
        samples("ae_kmeans", 30, "test"),
        model.transform(samples("ae_kmeans", 30, "test")),
    )
    stage.save("ae_kmeans/history.csv", pd.DataFrame({"epoch": [1], "loss": [0.125]}))
    with_content(
        runs.stage / name,
        (stage.folder / name).read_bytes(),
        lambda: refusal(lambda: read(runs.stage / name), "checksum"),
    )


@pytest.mark.parametrize("text", ["3", "[]", "null", '"done"', '{"parameters": 3}'])
def test_metrics_that_are_none(text, runs):
    with_content(
        runs.stage / "metrics.json",
        text.encode(),
        lambda: refusal(lambda: Stage("05_ae_kmeans", n=1, **COMMON), "metrics.json is damaged"),
    )


@pytest.mark.parametrize("name", ["fit.json", "config.json", "model.safetensors"])
def test_a_damaged_fit_is_made_anew(name, tmp_path, monkeypatch):
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(tmp_path))
    X, stage = samples("ae_kmeans", N), Stage("05_ae_kmeans", **COMMON)
    once = stage.fit("ae_kmeans", ESTIMATORS["ae_kmeans"], X)
    file = stage.folder / "ae_kmeans" / name
    file.write_bytes(file.read_bytes()[:-3])
    again = stage.fit("ae_kmeans", clone(ESTIMATORS["ae_kmeans"]), X)
    assert np.array_equal(once.labels_, again.labels_)
    assert np.array_equal(type(again).load(stage.folder / "ae_kmeans").labels_, once.labels_)


@pytest.mark.parametrize(
    "harm",
    [
        lambda file: file.unlink(),
        lambda file: file.write_bytes(file.read_bytes()[:-3]),
        lambda file: file.write_bytes(file.read_bytes()[:-1] + b"\x01"),
    ],
    ids=["missing", "cut", "changed"],
)
@pytest.mark.parametrize(
    "name",
    ["spaces/pca2/train.npy", "grid/kmeans@pca2/labels_test.npy", "grid/kmeans@pca2/made.json"],
)
@pytest.mark.parametrize("complete", [True, False])
def test_a_damaged_pair_of_the_grid_is_made_anew(complete, name, harm, tmp_path, monkeypatch):
    "Chapter 03 keeps its pairs one by one: noticed in a complete stage and in a broken one."
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(tmp_path))
    X, stage = samples("ae", N), Stage("03_baseline", **COMMON)
    file, made = stage.folder / name, (stage.folder / name).parent / "made.json"
    times = []

    def run():
        labels = fit_row(stage, "kmeans@pca2", X, X[:20], 3)[0]
        times.append(made.stat().st_mtime_ns)
        return labels

    once = run()
    if complete:
        stage.finish()
    harm(file)
    if complete:
        refusal(lambda: read(file), str(file))
    assert all(
        np.array_equal(once[split], labels[split]) for labels in (run(), run()) for split in once
    )
    assert times[0] != times[1] == times[2], "made again, once"


def test_a_model_cut_off_between_its_two_files_is_noticed(tmp_path):
    "Killed after the tensors of the second model were in place and before its facts were."
    first, second = (
        clone(ESTIMATORS["ae_kmeans"]).set_params(random_state=seed).fit(samples("ae_kmeans", N))
        for seed in (0, 1)
    )
    first.save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(
        (second.save(tmp_path / "other") / "model.safetensors").read_bytes()
    )
    refusal(lambda: type(first).load(tmp_path), "checksum")


def test_what_an_earlier_version_saved_can_be_read(tmp_path):
    import json

    model = clone(ESTIMATORS["ae_kmeans"]).fit(samples("ae_kmeans", N))
    config = json.loads((model.save(tmp_path) / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps(
            {name: value for name, value in config.items() if name not in ("sha256", "tensors")}
        )
    )
    assert np.array_equal(type(model).load(tmp_path).labels_, model.labels_)


# the data set: a small one in the real format


@pytest.fixture
def idx(tmp_path, monkeypatch):
    "Make files as Fashion-MNIST's, ten images each, known by their checksums; no network."
    raw, resources = tmp_path / "data" / "FashionMNIST" / "raw", []
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind, header, content in (
            ("images", idx_header(2051, 10, 28, 28), bytes(range(10)) * 784),
            ("labels", idx_header(2049, 10), bytes(range(10))),
        ):
            name = f"{part}-{kind}-idx{3 if kind == 'images' else 1}-ubyte.gz"
            (raw / name).write_bytes(gzip.compress(header + content))
            resources.append((name, hashlib.md5((raw / name).read_bytes()).hexdigest()))
    monkeypatch.setattr(data._IDX_SETS["fashion_mnist"], "resources", resources)
    monkeypatch.setattr(data, "_download", lambda *_: False)
    monkeypatch.setattr(data, "project_root", lambda: tmp_path)
    monkeypatch.setenv("FMNIST_CLUSTER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return raw


def test_the_small_data_set_is_read(idx):
    assert data.load_images("fashion_mnist").shape == (10, 28, 28) and list(
        data.load_labels("fashion_mnist", "test")
    ) == list(range(10))


@GENERATED
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_in_the_data_is_noticed(position, bit, idx):
    path = idx / "train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 1 << bit
    with_content(
        path,
        bytes(content),
        lambda: refusal(lambda: data.load_images("fashion_mnist"), str(path), "MD5", "delete it"),
    )


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:-5]),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.unlink(), path.symlink_to("nowhere")),
        lambda path: path.write_bytes(b""),
    ],
    ids=["missing", "cut", "a folder", "a link to nothing", "empty"],
)
def test_harmed_data_is_named(harm, idx):
    path = idx / "t10k-images-idx3-ubyte.gz"
    harm(path)
    refusal(lambda: data.load_images("fashion_mnist", "test"), path.name)
    # the other files are as good as before
    assert data.load_images("fashion_mnist").shape == (10, 28, 28)


def test_data_that_may_not_be_read_is_named(idx, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(data, "check_integrity", refuse)
    refusal(
        lambda: data.load_images("fashion_mnist"), "train-images-idx3-ubyte.gz", "Permission denied"
    )


# disks


@pytest.fixture
def small_disk(tmp_path):
    "A disk of 200 kB, to be mounted with further options."
    place = tmp_path / "disk"
    place.mkdir()

    def mount(*options):
        if not shutil.which("mount"):
            pytest.skip("there is no mount here")
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", ",".join(("size=200k", *options)), "tmpfs", str(place)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        return place

    yield mount
    while os.path.ismount(place):
        # lazily: a stage may still hold its folder there
        subprocess.run(["umount", "-l", str(place)], check=True)


def figure():
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(20, 20))
    drawn.add_subplot().imshow(np.random.default_rng(0).random((500, 500)), interpolation="none")
    return drawn


LARGE = {
    "labels.npy": np.zeros(100_000),
    "facts.json": {"values": list(range(100_000))},
    "table.csv": pd.DataFrame({"value": np.arange(100_000.0)}),
    "picture.png": figure,
}


@pytest.mark.parametrize("name", LARGE)
def test_a_full_disk_leaves_the_old_file_and_says_so(name, small_disk):
    place, value = small_disk(), LARGE[name]
    (place / name).write_text("as it was")
    refusal(
        lambda: save_artefact(place / name, value() if callable(value) else value),
        str(place / name),
        "cannot be written",
        "make room",
        "FMNIST_CLUSTER_RUNS",
    )
    assert {file.name: file.read_text() for file in place.iterdir()} == {name: "as it was"}


def test_a_full_disk_while_a_model_is_kept(small_disk, monkeypatch):
    place = small_disk()
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(place))
    stage = Stage("04_autoencoder", **COMMON)
    large = clone(ESTIMATORS["ae"]).set_params(hidden=(64,), epochs=1)
    refusal(
        lambda: stage.fit("ae", large, samples("ae", N)),
        "cannot be written",
        "No space left",
        "make room",
    )
    assert [file for file in place.rglob("[!.]*") if file.is_file()] == []
    assert stage_metrics(stage.folder) is None


def test_a_read_only_disk_is_refused_before_the_training(small_disk, monkeypatch):
    place = small_disk("ro")
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(place / "runs"))
    refusal(lambda: Stage("04_autoencoder", **COMMON), "cannot be written", "FMNIST_CLUSTER_RUNS")
    refusal(
        lambda: clone(ESTIMATORS["random"]).fit(samples("random", 9)).save(place / "model"),
        "cannot be written",
    )


def test_a_complete_run_on_a_read_only_disk_can_be_read(small_disk, runs, monkeypatch):
    place = small_disk("size=2m")
    for name in KEPT:
        file = place / runs.stage.relative_to(runs.root) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes((runs.stage / name).read_bytes())
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(place))
    folder = stage_folder("r", "digits", 0, "05_ae_kmeans")
    assert all(read(folder / name) is not None for name in KEPT)


# two writers

WRITER = """
import sys
from fmnist_cluster.runs import Stage
stage = Stage("03_baseline", dataset="digits", seed=0, run="r", who="the other")
stage.save("kmeans/labels_test.npy", [7])
print("holding", flush=True)
sys.stdin.readline()
stage.finish()
"""


@pytest.fixture
def other(tmp_path, monkeypatch):
    "Another process that is writing the stage 03_baseline; `finish` lets it end."
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout.readline() == "holding\n"
    yield process
    process.kill()
    process.wait()


def test_two_writers_do_not_mix(other, tmp_path):
    stage = Stage("03_baseline", **COMMON, who="this one")
    refusal(
        lambda: stage.save("kmeans/labels_test.npy", [8]),
        "being written by another process",
        "out_run",
    )
    refusal(
        lambda: stage.fit("kmeans", clone(ESTIMATORS["random"]), samples("random", N)),
        "being written by another process",
    )
    other.communicate("\n")
    assert stage_metrics(stage.folder)["parameters"] == {"who": "the other"} and list(
        load_artefact(stage.folder / "kmeans/labels_test.npy")
    ) == [7]
    refusal(
        lambda: Stage("03_baseline", **COMMON, who="this one"), "who='the other' (now 'this one')"
    )


def test_a_killed_writer_holds_nothing(other):
    other.kill()
    other.wait()
    stage = Stage("03_baseline", **COMMON, who="this one")
    assert stage_metrics(stage.folder) is None
    stage.save("kmeans/labels_test.npy", [8])
    stage.finish()
    assert stage_metrics(stage.folder)["parameters"] == {"who": "this one"}


def test_a_stage_may_be_opened_again_in_the_same_process(tmp_path, monkeypatch):
    "As one does in Jupyter."
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(tmp_path))
    for _ in range(2):
        Stage("03_baseline", **COMMON).save("kmeans/labels_test.npy", [1])
    Stage("03_baseline", **COMMON).finish()


def test_a_reader_sees_whole_files_while_they_are_replaced(tmp_path):
    "Five hundred reads while another thread writes: each is one of the two contents."
    path, done = tmp_path / "labels.npy", threading.Event()
    contents = [np.full(5000, value) for value in (1, 2)]
    save_artefact(path, contents[0])

    def write():
        while not done.is_set():
            for content in contents:
                save_artefact(path, content)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = {
            tuple(np.unique(load_artefact(path))) + (len(load_artefact(path)),) for _ in range(500)
        }
    finally:
        done.set()
        writer.join()
    assert seen <= {(1, 5000), (2, 5000)}


# memory


def too_small(*_, **__):
    raise torch.cuda.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 9.00 GiB.\nGPU 0 has a total capacity of 8 GiB"
    )


@pytest.mark.parametrize(
    "name, remedy",
    [
        ("ae", "batch_size smaller than 256"),
        ("idec", "batch_size smaller than 256"),
        ("pseudo_label_random", "batch_size smaller than 256"),
        ("pseudo_label_full", "fewer samples"),
    ],
)
def test_a_stage_says_what_to_make_smaller(name, remedy, tmp_path, monkeypatch):
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(tmp_path))
    monkeypatch.setattr(torch.Tensor, "backward", too_small)
    stage = Stage("06_dec_idec", **COMMON)
    refusal(
        lambda: stage.fit(name, clone(ESTIMATORS[name]), samples(name, N)),
        "CUDA out of memory",
        remedy,
    )
    left = [file for file in tmp_path.rglob("*") if file.is_file() and file.name != ".lock"]
    assert left == []


def test_too_little_memory_to_predict(tmp_path, monkeypatch):
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(tmp_path))
    stage, X = Stage("04_autoencoder", **COMMON), samples("dec", N)
    model = stage.fit("dec", clone(ESTIMATORS["dec"]), X)
    monkeypatch.setattr(type(model), "predict", too_small)
    refusal(
        lambda: stage.keep("dec", model, X), "DEC needs more memory", "batch_size smaller than 256"
    )


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED"),
    ],
    ids=["Python", "MPS", "cuBLAS"],
)
def test_the_words_of_each_library_are_understood(error):
    def allocate():
        with core.explain_out_of_memory(ESTIMATORS["ae"]):
            raise error

    refusal(allocate, "Autoencoder needs more memory", str(error) or "MemoryError", "fewer samples")


def test_the_cpu_s_own_words_are_understood():
    def allocate():
        with core.explain_out_of_memory(ESTIMATORS["ae"]):
            torch.empty(2**60, dtype=torch.uint8)

    refusal(allocate, "needs more memory", "can't allocate memory")


def test_other_errors_pass_unchanged():
    with (
        pytest.raises(RuntimeError, match="must match"),
        core.explain_out_of_memory(ESTIMATORS["ae"]),
    ):
        torch.ones(2) + torch.ones(3)


@pytest.mark.parametrize(
    "name", ["ae", "ae_kmeans", "dec", "idec", "pseudo_label_random", "pseudo_label_full"]
)
def test_an_estimator_alone_says_what_to_make_smaller(name, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "backward", too_small)
    refusal(lambda: clone(ESTIMATORS[name]).fit(samples(name, N)), "fewer samples")
