"Bad input ends in one line: what was given, what is expected, the remedy; nothing is half written."

import functools
import gzip
import hashlib
import http.server
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import refusal

from fmnist_cluster import data
from fmnist_cluster.ae_kmeans import AEKMeans
from fmnist_cluster.autoencoder import Autoencoder
from fmnist_cluster.baseline import RandomAssignment, kmeans
from fmnist_cluster.contrastive import ContrastiveClassifier
from fmnist_cluster.core import pick_device
from fmnist_cluster.data import load_images, load_labels, to_vectors
from fmnist_cluster.dec import DEC, IDEC
from fmnist_cluster.pseudo_label import PseudoLabelClassifier
from fmnist_cluster.runs import Stage


class KMeansFunction:
    "The function `kmeans`, called as the estimators are."

    def __init__(self, n_clusters=3):
        self.n_clusters = n_clusters

    def fit(self, X):
        return kmeans(X, self.n_clusters, n_init=1, random_state=0)


SMALL = Autoencoder(n_components=2, hidden=(8,), epochs=1, device="cpu")
ON_VECTORS = {
    "random": lambda k: RandomAssignment(k),
    "kmeans": KMeansFunction,
    "ae_kmeans": lambda k: AEKMeans(k, autoencoder=SMALL, n_init=1, device="cpu"),
    "dec": lambda k: DEC(k, autoencoder=SMALL, n_init=1, max_iter=2, device="cpu"),
    "idec": lambda k: IDEC(k, autoencoder=SMALL, n_init=1, max_iter=2, device="cpu"),
}
ON_IMAGES = {
    "pseudo_label": lambda k: PseudoLabelClassifier(
        k, rounds=1, epochs_per_round=1, n_init=1, device="cpu"
    ),
    "pseudo_label_full": lambda k: ContrastiveClassifier(
        k, contrastive_epochs=1, n_heads=1, head_epochs=1, device="cpu"
    ),
}
vectors = pytest.mark.parametrize("make", ON_VECTORS.values(), ids=ON_VECTORS)
images = pytest.mark.parametrize("make", ON_IMAGES.values(), ids=ON_IMAGES)
every = pytest.mark.parametrize(
    "make, on_images",
    [(make, False) for make in ON_VECTORS.values()] + [(make, True) for make in ON_IMAGES.values()],
    ids=[*ON_VECTORS, *ON_IMAGES],
)


def some(on_images, n=30):
    "A few digits, as vectors or as images."
    digits = load_images("digits")[:n]
    return digits if on_images else to_vectors(digits)


# what an estimator is given


@every
@pytest.mark.parametrize("k", [0, -1, 2.5, "3", True])
def test_number_of_clusters(make, on_images, k):
    refusal(lambda: make(k).fit(some(on_images)), "n_clusters", repr(k), "at least 1")


@every
def test_fewer_samples_than_clusters(make, on_images):
    refusal(lambda: make(5).fit(some(on_images, 3)), "n_clusters is 5", "3", "at most")


@every
def test_more_clusters_than_distinct_points(make, on_images):
    refusal(
        lambda: make(3).fit(np.repeat(some(on_images, 2), 20, axis=0)),
        "n_clusters is 3",
        "2",
        "at most 2",
    )


@every
def test_not_empty(make, on_images):
    refusal(lambda: make(3).fit(some(on_images)[:0]), "0", "expect")


@vectors
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite(make, bad):
    X = some(False)
    X[3, 5] = bad
    refusal(lambda: make(3).fit(X), "finite")


@vectors
@pytest.mark.parametrize(
    "X",
    [np.zeros(30), np.zeros((2, 3, 4)), np.array([["a", "b"]] * 30)],
    ids=["one axis", "three axes", "text"],
)
def test_not_vectors(make, X):
    refusal(lambda: make(3).fit(X), "expects X of shape (n_samples, n_features)")


@images
@pytest.mark.parametrize(
    "X",
    [
        np.zeros((30, 784), np.uint8),
        np.zeros((30, 8, 8), np.uint8),
        np.full((30, 28, 28), 255.0),
        np.full((30, 28, 28), np.nan),
    ],
    ids=["vectors", "too small", "0 to 255", "nan"],
)
def test_not_images(make, X):
    refusal(lambda: make(3).fit(X), str(X.shape), str(X.dtype), "expected")


def test_device_that_is_not_there():
    refusal(lambda: pick_device("cuda:99"), "cuda:99", "not on this machine", "device=cpu")
    refusal(
        lambda: DEC(3, autoencoder=SMALL, device="cuda:99").fit(some(False)),
        "cuda:99",
        "not on this machine",
    )


# the data


IMAGES = "t10k-images-idx3-ubyte.gz"


@pytest.mark.parametrize("load", [load_images, load_labels])
def test_missing_data(load, no_network):
    refusal(
        lambda: load("fashion_mnist", "test"),
        "t10k-",
        str(no_network),
        "FMNIST_CLUSTER_DATA",
        "dataset=digits",
    )


def whole_gz():
    return gzip.compress(bytes(784 * 10 + 16))


@pytest.mark.parametrize(
    "content", [whole_gz(), whole_gz()[:-9], b""], ids=["wrong MD5", "truncated", "empty"]
)
def test_damaged_file(content, no_network):
    (no_network / IMAGES).write_bytes(content)
    refusal(
        lambda: load_images("fashion_mnist", "test"), str(no_network / IMAGES), "MD5", "delete it"
    )
    assert (no_network / IMAGES).read_bytes() == content


def test_unknown_data_set():
    refusal(lambda: load_images("cifar"), "'cifar'", "fashion_mnist", "digits")


# the run folder

COMMON = dict(dataset="digits", seed=0, run="r")


def test_run_folder_not_writable(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(tmp_path / "file" / "runs"))
    refusal(
        lambda: Stage("03_baseline", **COMMON).save("kmeans/labels_test.npy", [0]),
        "cannot be written",
        "FMNIST_CLUSTER_RUNS",
    )


def test_upstream_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(tmp_path))
    refusal(
        lambda: Stage("05_ae_kmeans", **COMMON).upstream("04_autoencoder"),
        "05_ae_kmeans needs 04_autoencoder",
        "run nbs/04_autoencoder.ipynb",
        "run=r",
    )
    assert list(tmp_path.iterdir()) == []


def test_nothing_half_written(monkeypatch, tmp_path):
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(tmp_path))
    stage = Stage("03_baseline", **COMMON)
    with pytest.raises(TypeError):
        stage.save("facts.json", {"what": object()})
    assert [file for file in tmp_path.rglob("[!.]*") if file.is_file()] == []


@pytest.fixture
def mirror(tmp_path):
    "A server on this machine that offers one file, and its address."
    (tmp_path / "offered").mkdir()
    (tmp_path / "offered" / "a.gz").write_bytes(b"hello")
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=tmp_path / "offered"
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize("content, comes", [(b"hello", True), (b"another file", False)])
def test_a_download_leaves_the_whole_file_or_none(mirror, tmp_path, content, comes):
    source = SimpleNamespace(mirrors=[f"{mirror}not_here/", mirror])
    assert (
        data._download(source, "a.gz", hashlib.md5(content).hexdigest(), tmp_path / "to") is comes
    )
    assert [file.name for file in (tmp_path / "to").iterdir()] == (["a.gz"] if comes else [])
