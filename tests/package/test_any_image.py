"Images of other sizes, in colour, as floats, tensors or pictures; and data sets of one's own."

import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from fmnist_cluster.autoencoder import Autoencoder, ConvAutoencoder
from fmnist_cluster.contrastive import ContrastiveClassifier
from fmnist_cluster.core import InputError
from fmnist_cluster.data import load_images, to_vectors
from fmnist_cluster.dec import IDEC
from fmnist_cluster.pseudo_label import PseudoLabelClassifier

COMMON = dict(device="cpu", random_state=0)
FEW = dict(contrastive_epochs=1, n_heads=2, head_epochs=1, n_neighbours=3)
SHAPES = {"32 x 32 colour": (32, 32, 3), "64 x 64 colour": (64, 64, 3), "20 x 44 grey": (20, 44)}


def pictures(shape, n=40):
    "Draw images of which half are dark and half light, with noise."
    rng = np.random.default_rng(0)
    light = np.where(np.arange(n) % 2, 160, 60).reshape(-1, *(1 for _ in shape))
    return (light + rng.integers(0, 60, (n, *shape))).astype(np.uint8)


def classifiers(views):
    return [
        ContrastiveClassifier(2, views=views, **FEW, **COMMON),
        PseudoLabelClassifier(
            2,
            start="autoencoder",
            start_epochs=1,
            rounds=1,
            epochs_per_round=1,
            remedies=("augment",),
            views=views,
            **COMMON,
        ),
    ]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("views", ["garment", "glyph", "photo"])
def test_classifiers_take_any_image(shape, views, tmp_path):
    X = pictures(shape)
    for model in classifiers(views):
        model.fit(X)
        again = type(model).load(model.save(tmp_path / type(model).__name__))
        assert np.array_equal(again.predict_proba(X), model.predict_proba(X))
        assert tuple(again.image_shape_) == (3 if len(shape) == 3 else 1, *shape[:2])
        with pytest.raises(InputError, match="as those that were fitted"):
            again.predict(load_images("digits")[:3])


def test_one_image_in_many_forms_is_answered_alike():
    X = pictures((32, 32, 3))
    model = classifiers("photo")[0].fit(X)
    forms = [X / 255, torch.from_numpy(X), torch.from_numpy(X).permute(0, 3, 1, 2)]
    forms.append([Image.fromarray(image) for image in X])
    for form in forms:
        assert np.allclose(model.predict_proba(form), model.predict_proba(X), atol=1e-5)


def test_a_function_gives_the_views(tmp_path):
    model = ContrastiveClassifier(2, views=torch.flipud, **FEW, **COMMON)
    with pytest.raises(InputError, match="views is 'faces'"):
        ContrastiveClassifier(2, views="faces", **FEW, **COMMON).fit(pictures((32, 32)))
    model.set_params(views=lambda x: x).fit(pictures((32, 32)))
    assert "lambda" in ContrastiveClassifier.load(model.save(tmp_path)).views


@pytest.mark.parametrize("shape", [*SHAPES.values(), None], ids=[*SHAPES, "digits"])
def test_autoencoders_and_idec_take_vectors_of_any_image(shape, tmp_path):
    images = load_images("digits")[:40] if shape is None else pictures(shape)
    X, size = to_vectors(images), (3 if images.ndim == 4 else 1, *images.shape[1:3])
    conv = ConvAutoencoder(3, hidden=(8, 8, 8), image_shape=size, epochs=1, **COMMON)
    dense = Autoencoder(3, hidden=(8,), epochs=1, **COMMON)
    for start in (conv, dense):
        few = dict(n_init=1, max_iter=2, update_interval=1, **COMMON)
        model = IDEC(2, autoencoder=start, **few).fit(X)
        again = IDEC.load(model.save(tmp_path / type(start).__name__))
        assert np.array_equal(again.predict(X), model.predict(X))


# where the system knows no locks

HIDDEN = """
import os, sys
for name in sys.argv[1:]:
    sys.modules[name] = None
import numpy as np
from fmnist_cluster import IDEC, Autoencoder, InputError
from fmnist_cluster.runs import Stage
X = np.random.default_rng(0).random((40, 6), dtype=np.float32)
start = Autoencoder(2, hidden=(4,), epochs=1, device="cpu", random_state=0)
stage = Stage("06_dec_idec", dataset="digits", seed=0, run="r")
model = IDEC(2, autoencoder=start, n_init=1, max_iter=2, device="cpu", random_state=0)
print(stage.fit("idec", model, X).labels_.shape, stage.finish().name)
"""


@pytest.mark.parametrize("hidden", [["fcntl", "resource"], ["resource"]], ids="-".join)
def test_a_fit_where_modules_of_unix_are_missing(hidden, tmp_path):
    process = subprocess.run(
        [sys.executable, "-c", HIDDEN, *hidden],
        cwd=ROOT,
        env={"FMNIST_CLUSTER_RUNS": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert process.stdout.strip() == "(40,) metrics.json", process.stderr


def test_a_fit_where_files_cannot_be_locked(tmp_path):
    no_flock = (
        "import errno, fcntl\n"
        "def flock(*_): raise OSError(errno.ENOSYS, 'Function not implemented')\n"
        "fcntl.flock = flock\n"
    )
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", no_flock + HIDDEN],
        cwd=ROOT,
        env={"FMNIST_CLUSTER_RUNS": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert process.stdout.strip() == "(40,) metrics.json", process.stderr
