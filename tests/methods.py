"""Every method of the book, small.

`python methods.py THREADS` fits them on digits and prints a digest of all that each fit found.
"""

import hashlib
import json
import sys

import numpy as np
import torch

from fmnist_cluster.ae_kmeans import AEKMeans
from fmnist_cluster.autoencoder import Autoencoder
from fmnist_cluster.baseline import RandomAssignment, kmeans
from fmnist_cluster.contrastive import ContrastiveClassifier
from fmnist_cluster.data import load_images, to_vectors
from fmnist_cluster.dec import DEC, IDEC
from fmnist_cluster.pseudo_label import PseudoLabelClassifier
from fmnist_cluster.related import DCN, DDC, BernoulliAutoencoder, VaDE
from fmnist_cluster.saving import to_jsonable

COMMON = dict(device="cpu", random_state=0)
SMALL = Autoencoder(n_components=4, hidden=(32,), epochs=2, **COMMON)
ON_VECTORS = {
    "random": RandomAssignment(5, random_state=0),
    "ae": SMALL,
    "ae_kmeans": AEKMeans(5, autoencoder=SMALL, n_init=2, **COMMON),
    "dec": DEC(5, autoencoder=SMALL, n_init=2, max_iter=6, update_interval=2, **COMMON),
    "idec": IDEC(5, autoencoder=SMALL, n_init=2, max_iter=6, update_interval=2, **COMMON),
    "dcn": DCN(5, autoencoder=SMALL, n_init=2, max_iter=6, update_interval=2, **COMMON),
    "vade": VaDE(
        5,
        autoencoder=BernoulliAutoencoder(4, hidden=(32,), epochs=2, **COMMON),
        n_init=2,
        epochs=1,
        **COMMON,
    ),
    "ddc": DDC(5, n_init=1, epochs=1, **COMMON),
}
ON_IMAGES = {
    "pseudo_label_random": PseudoLabelClassifier(
        5, rounds=1, epochs_per_round=1, n_init=1, **COMMON
    ),
    "pseudo_label_ae": PseudoLabelClassifier(
        5, start="autoencoder", start_epochs=1, rounds=1, epochs_per_round=1, n_init=1, **COMMON
    ),
    "pseudo_label_full": ContrastiveClassifier(
        5, contrastive_epochs=1, n_heads=2, head_epochs=2, **COMMON
    ),
}
ESTIMATORS = ON_VECTORS | ON_IMAGES


def samples(name, n=300, split="train"):
    "Return the first `n` digits in the shape that the method takes."
    images = load_images("digits", split)[:n]
    return images if name in ON_IMAGES else to_vectors(images)


def answer(name, model, X):
    "Return what a fitted model says of X: clusters, or an embedding where it has none."
    return model.transform(X) if name == "ae" else model.predict(X)


def digest(*parts):
    "Hash arrays and plain values."
    found = hashlib.sha256()
    for part in parts:
        found.update(
            np.ascontiguousarray(part).tobytes()
            if isinstance(part, np.ndarray)
            else json.dumps(to_jsonable(part), sort_keys=True).encode()
        )
    return found.hexdigest()


def found(name, model):
    "Hash everything that a fit found, and what the model says of unseen images."
    tensors, values = model._state()
    return digest(
        *(tensors[key].numpy() for key in sorted(tensors)),
        values,
        answer(name, model, samples(name, 50, "test")),
    )


def fit_all():
    "Fit every method, k-means as the book calls it among them; digests by name."
    from sklearn.base import clone

    found_by = {
        name: found(name, clone(estimator).fit(samples(name)))
        for name, estimator in ESTIMATORS.items()
    }
    model = kmeans(samples("kmeans"), 5, n_init=2, random_state=0)
    return found_by | {
        "kmeans": digest(
            model.cluster_centers_,
            model.labels_.astype(np.int64),
            model.predict(samples("kmeans", 50, "test")).astype(np.int64),
        )
    }


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    print(json.dumps(fit_all()))
