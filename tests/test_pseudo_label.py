"The full recipe is not tuned to one data set alone."
import numpy as np
import pytest
from book import defaults
from fmnist_cluster.baseline import kmeans
from fmnist_cluster.data import load_images, load_labels, to_vectors
from fmnist_cluster.metrics import accuracy, match_clusters
from fmnist_cluster.pseudo_label import ContrastiveClassifier


@pytest.mark.long
def test_on_digits_the_chapters_own_parameters_beat_k_means_on_pixels():
    chapter = defaults("07_pseudo_label")
    X, y, X_test, y_test = (load("digits", split) for split in ("train", "test") for load in (load_images, load_labels))
    full = ContrastiveClassifier(**{name: chapter[name] for name in ("contrastive_epochs", "min_steps", "n_heads", "head_epochs")}, random_state=0).fit(X)
    pixels = kmeans(to_vectors(X), 10, random_state=0)
    named = {"full": (full.labels_, full.predict(X_test)), "pixels": (pixels.labels_, pixels.predict(to_vectors(X_test)))}
    score = {name: accuracy(y_test, test.astype(np.int64), match_clusters(y, train.astype(np.int64))) for name, (train, test) in named.items()}
    assert score["full"] >= score["pixels"], score
