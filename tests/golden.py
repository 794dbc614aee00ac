"""Labels and histories of every method of the main line, pinned bit for bit while the code moves.

`python tests/golden.py` prints them as JSON (5,000 images, few steps, one thread); made at 6e28b7e.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from fmnist_cluster.ae_kmeans import AEKMeans
from fmnist_cluster.autoencoder import Autoencoder
from fmnist_cluster.baseline import kmeans
from fmnist_cluster.data import load_images, to_vectors
from fmnist_cluster.dec import DEC, IDEC

try:
    from fmnist_cluster.contrastive import ContrastiveClassifier, reference_model
    from fmnist_cluster.pseudo_label import PseudoLabelClassifier
except ImportError:
    from fmnist_cluster.contrastive import ContrastiveClassifier, reference_model
    from fmnist_cluster.pseudo_label import PseudoLabelClassifier

FILE = Path(__file__).with_name("golden.json")


def sha(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def found(model):
    history = [{k: repr(v) for k, v in sorted(e.items())} for e in getattr(model, "history_", [])]
    return {"labels": sha(model.labels_.astype(np.int64)), "history": history}


def compute():
    torch.set_num_threads(1)
    images = load_images("fashion_mnist")[:5000]
    X, results = to_vectors(images), {}
    results["kmeans"] = {"labels": sha(kmeans(X, 10, 3, 0).labels_.astype(np.int64))}
    for precision in ("float32", "bfloat16"):
        common = dict(precision=precision, device="cpu", random_state=0)
        start = Autoencoder(10, hidden=(128, 64), epochs=3, **common).fit(X)
        results[f"autoencoder {precision}"] = {
            "embedding": sha(start.transform(X)),
            "history": [{k: repr(v) for k, v in sorted(e.items())} for e in start.history_],
        }
        few = dict(autoencoder=start, n_init=3, max_iter=60, update_interval=20, **common)
        models = {
            "dec": (DEC(10, **few), X),
            "idec": (IDEC(10, **few), X),
            "plain": (
                PseudoLabelClassifier(10, rounds=2, epochs_per_round=1, n_init=2, **common),
                images,
            ),
            "plain, autoencoder": (
                PseudoLabelClassifier(
                    10,
                    start="autoencoder",
                    start_epochs=1,
                    rounds=2,
                    epochs_per_round=1,
                    n_init=2,
                    remedies=("normalise", "balance", "augment", "confident", "smooth"),
                    **common,
                ),
                images,
            ),
            "contrastive": (
                ContrastiveClassifier(10, contrastive_epochs=2, n_heads=4, head_epochs=3, **common),
                images,
            ),
        }
        for name, (model, data) in models.items():
            results[f"{name} {precision}"] = found(model.fit(data))
        results[f"ae_kmeans {precision}"] = found(
            AEKMeans(10, autoencoder=start, n_init=3, device="cpu", random_state=0).fit(X)
        )
    probability = (
        reference_model()
        .set_params(device="cpu")
        .predict_proba(load_images("fashion_mnist", "test"))
    )
    results["shipped"] = {
        "labels": sha(probability.argmax(1).astype(np.int64)),
        "probability": sha(probability),
    }
    return results


if __name__ == "__main__":
    print(json.dumps(compute(), indent=1))
