"The full recipe on other data, and in the preset for a GPU."

import numpy as np
import pytest
import yaml
from book import ROOT, defaults, overrides

from fmnist_cluster.baseline import kmeans
from fmnist_cluster.contrastive import ContrastiveClassifier
from fmnist_cluster.data import load_images, load_labels, to_vectors
from fmnist_cluster.metrics import accuracy, match_clusters
from fmnist_cluster.networks import ResidualEncoder

SIZES = ("contrastive_epochs", "min_steps", "n_heads", "head_epochs", "encoder")


@pytest.mark.long
def test_on_digits_the_chapters_own_parameters_beat_k_means_on_pixels():
    chapter = defaults("08_contrastive")
    X, y, X_test, y_test = (
        load("digits", split) for split in ("train", "test") for load in (load_images, load_labels)
    )
    full = ContrastiveClassifier(**{name: chapter[name] for name in SIZES}, random_state=0).fit(X)
    pixels = kmeans(to_vectors(X), 10, random_state=0)
    named = {
        "full": (full.labels_, full.predict(X_test)),
        "pixels": (pixels.labels_, pixels.predict(to_vectors(X_test))),
    }
    score = {
        name: accuracy(y_test, test.astype(np.int64), match_clusters(y, train.astype(np.int64)))
        for name, (train, test) in named.items()
    }
    assert score["full"] >= score["pixels"], score


def test_the_preset_for_a_gpu_runs_one_pass_on_the_processor():
    preset = yaml.safe_load((ROOT / overrides("08_contrastive", "gpu")).read_text())
    settings = {name: value for name, value in preset.items() if name in SIZES}
    assert settings.pop("contrastive_epochs") >= 100 and settings.pop("head_epochs") >= 10
    X = load_images("digits")[:200]
    model = ContrastiveClassifier(
        10, **settings, contrastive_epochs=1, head_epochs=1, n_heads=2, device="cpu", random_state=0
    ).fit(X)
    assert isinstance(model.network_.encoder, ResidualEncoder)
    np.testing.assert_allclose(model.predict_proba(X).sum(1), 1, rtol=1e-5)
