"""Time our steps against what a reader would write or take instead, with the same result.

    make bench                      all; writes results/benchmarks/<machine>.json
    make bench ONLY=dec             those whose name holds the word; the others stay in the file

Both sides are run in turn, several times; the fastest time of each counts, because other work can
only slow a run down. A function returns ours, the peer's name, the peer, and how to see that both
did the same. `growth` has no peer: it asks whether twice the images take twice the time.
"""

import argparse
import importlib.util
import math
import re
import sys
import time
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    normalized_mutual_info_score,
)
from torch.utils.data import DataLoader, TensorDataset

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools"), str(ROOT / "workflow")]

# a script: what lies beside it is found only now
from reference import machine  # noqa: E402

from fmnist_cluster.autoencoder import Autoencoder, AutoencoderNet  # noqa: E402
from fmnist_cluster.baseline import kmeans  # noqa: E402
from fmnist_cluster.core import measure_cost  # noqa: E402
from fmnist_cluster.data import load_images, load_labels, to_vectors  # noqa: E402
from fmnist_cluster.dec import DEC, IDEC  # noqa: E402
from fmnist_cluster.metrics import external_scores  # noqa: E402
from fmnist_cluster.saving import load_artefact, save_artefact  # noqa: E402

STEPS = 20


def metrics_external_scores(dataset):
    """Chapter 02: all external scores of 60,000 labels.

    The peer counts pairs in a Python loop, as the papers' public code does.
    """
    rng, true = np.random.default_rng(0), np.resize(load_labels(dataset), 60_000)
    pred = np.where(rng.random(len(true)) < 0.6, true, rng.integers(10, size=len(true)))

    def peer():
        counts = np.zeros((10, 10), dtype=np.int64)
        for t, p in zip(true, pred):
            counts[p, t] += 1
        return {
            "acc": counts[linear_sum_assignment(-counts)].sum() / len(true),
            "nmi": normalized_mutual_info_score(true, pred),
            "ami": adjusted_mutual_info_score(true, pred),
            "ari": adjusted_rand_score(true, pred),
            "purity": counts.max(1).sum() / len(true),
        }

    same = lambda ours, theirs: all(np.isclose(ours[name], value) for name, value in theirs.items())
    return (
        lambda: external_scores(true, pred),
        "a loop over the labels, then scikit-learn",
        peer,
        same,
    )


def baseline_kmeans(dataset):
    "Chapter 03: k-means with 4 restarts on 5,000 images as vectors."
    X = to_vectors(load_images(dataset)[:5000])
    peer = lambda: KMeans(10, n_init=4, random_state=0).fit(X).inertia_
    return (
        lambda: kmeans(X, 10, 4, 0).inertia_,
        "scikit-learn's KMeans",
        peer,
        lambda ours, theirs: np.isclose(ours, theirs, rtol=0.05),
    )


def start(dataset, n=5000):
    "Images as vectors and an autoencoder of the book's size that has seen them once."
    X = to_vectors(load_images(dataset)[:n])
    return X, Autoencoder(epochs=1, device="cpu", random_state=0).fit(X)


def autoencoder_epoch(dataset):
    "Chapter 04: one epoch of the dense autoencoder on 5,000 images."
    X = to_vectors(load_images(dataset)[:5000])

    def peer():
        torch.manual_seed(0)
        net = AutoencoderNet(784, 500, 500, 2000, 10)
        optimizer = torch.optim.Adam(net.parameters())
        for (x,) in DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=256, shuffle=True):
            loss = F.mse_loss(net(x)[1], x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            return float(F.mse_loss(net(torch.from_numpy(X))[1], torch.from_numpy(X)))

    def ours():
        ae = Autoencoder(epochs=1, device="cpu", random_state=0).fit(X)
        return float(np.square(ae.inverse_transform(ae.transform(X)) - X).mean())

    return (
        ours,
        "plain PyTorch, DataLoader and Adam",
        peer,
        lambda ours, theirs: np.isclose(ours, theirs, rtol=0.2),
    )


def student_t(z, mu):
    "The soft assignment as it stands in the paper."
    q = 1 / (1 + ((z[:, None] - mu) ** 2).sum(2))
    return q / q.sum(1, keepdim=True)


def dec_steps(dataset):
    "Chapter 06: 20 steps of DEC and the two looks at all of 5,000 images."
    X, ae = start(dataset)
    centres = kmeans(ae.transform(X), 10, 1, 0).cluster_centers_

    def peer():
        torch.manual_seed(0)
        encoder, x, mu = (
            deepcopy(ae.network_.encoder),
            torch.from_numpy(X),
            torch.tensor(centres, requires_grad=True),
        )
        optimizer = torch.optim.SGD([*encoder.parameters(), mu], lr=0.01, momentum=0.9)
        with torch.no_grad():
            q = student_t(encoder(x), mu)
        p = (q**2 / q.sum(0)) / (q**2 / q.sum(0)).sum(1, keepdim=True)
        for _, (batch, target) in zip(
            range(STEPS), DataLoader(TensorDataset(x, p), batch_size=256, shuffle=True)
        ):
            loss = F.kl_div(student_t(encoder(batch), mu).log(), target, reduction="batchmean")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            return student_t(encoder(x), mu).argmax(1).numpy()

    def ours():
        return (
            DEC(
                10,
                autoencoder=ae,
                init=centres,
                max_iter=STEPS,
                update_interval=STEPS,
                device="cpu",
                random_state=0,
            )
            .fit(X)
            .labels_
        )

    return (
        ours,
        "plain PyTorch and DataLoader",
        peer,
        lambda ours, theirs: adjusted_rand_score(ours, theirs) > 0.8,
    )


def idec_of_ours(X, precision):
    "Reconstruction error after two passes of pretraining, k-means and two passes of IDEC."
    steps = math.ceil(len(X) / 256)
    ae = Autoencoder(epochs=2, precision=precision, device="cpu", random_state=0)
    model = IDEC(
        10,
        autoencoder=ae,
        n_init=1,
        max_iter=2 * steps,
        update_interval=steps,
        tol=0.0,
        precision=precision,
        device="cpu",
        random_state=0,
    ).fit(X)
    with torch.no_grad():
        return float(F.mse_loss(model.network_(torch.from_numpy(X))[1], torch.from_numpy(X)))


def idec_of_clustpy(X):
    "Do the same by ClustPy, called as a reader would; widths, batches, passes and steps alike."
    from clustpy.deep import IDEC as TheirIDEC
    from clustpy.deep.neural_networks import FeedforwardAutoencoder

    network = FeedforwardAutoencoder(
        [784, 500, 500, 2000, 10], activation_fn=torch.nn.ReLU, random_state=0
    )
    model = TheirIDEC(
        10,
        batch_size=256,
        pretrain_epochs=2,
        clustering_epochs=2,
        clustering_optimizer_params={"lr": 1e-3},
        neural_network=network,
        initial_clustering_params={"n_init": 1},
        device=torch.device("cpu"),
        random_state=0,
    ).fit(X)
    network, x = model.neural_network_trained_, torch.from_numpy(X)
    with torch.no_grad():
        return float(F.mse_loss(network.decode(network.encode(x)), x))


def idec_in_a_plain_loop(X):
    "Do the same in a reader's loop: DataLoader, Adam, float32, the target anew after each pass."
    torch.manual_seed(0)
    net, x = AutoencoderNet(784, 500, 500, 2000, 10), torch.from_numpy(X)
    optimizer, indexed = torch.optim.Adam(net.parameters()), TensorDataset(x, torch.arange(len(x)))
    for _ in range(2):
        for batch, _ in DataLoader(indexed, batch_size=256, shuffle=True):
            optimizer.zero_grad()
            F.mse_loss(net(batch)[1], batch).backward()
            optimizer.step()
    with torch.no_grad():
        mu = torch.tensor(
            KMeans(10, n_init=1, random_state=0).fit(net.encoder(x).numpy()).cluster_centers_,
            requires_grad=True,
        )
    optimizer = torch.optim.Adam([*net.parameters(), mu])
    for _ in range(2):
        with torch.no_grad():
            q = student_t(net.encoder(x), mu)
        p = (q**2 / q.sum(0)) / (q**2 / q.sum(0)).sum(1, keepdim=True)
        for batch, i in DataLoader(indexed, batch_size=256, shuffle=True):
            z, reconstruction = net(batch)
            optimizer.zero_grad()
            (
                F.mse_loss(reconstruction, batch)
                + 0.1 * F.kl_div(student_t(z, mu).log(), p[i], reduction="batchmean")
            ).backward()
            optimizer.step()
    with torch.no_grad():
        return float(F.mse_loss(net(x)[1], x))


def idec_against(peer, name, precision):
    "A benchmark of pretraining and IDEC against `peer`, in our `precision`."

    def benchmark(dataset):
        X = to_vectors(load_images(dataset)[:10_000])
        # without IDEC's passes the error is a sixth higher
        same = lambda ours, theirs: np.isclose(ours, theirs, rtol=0.1)
        return lambda: idec_of_ours(X, precision), name, lambda: peer(X), same

    benchmark.__name__ = f"idec_{precision}_{peer.__name__.rpartition('_')[2]}"
    benchmark.__doc__ = (
        "Chapters 04 and 06: two passes of pretraining, k-means and two passes of IDEC on 10,000 "
        f"images, ours with precision={precision}."
    )
    return benchmark


PEERS = {"plain PyTorch, DataLoader and Adam": idec_in_a_plain_loop}
if importlib.util.find_spec("clustpy"):
    PEERS["ClustPy"] = idec_of_clustpy
else:
    print("ClustPy is left out; `.venv/bin/pip install clustpy` (it compiles C) brings it in.")
BENCHMARKS = (
    metrics_external_scores,
    baseline_kmeans,
    autoencoder_epoch,
    dec_steps,
    *(
        idec_against(peer, name, precision)
        for name, peer in PEERS.items()
        for precision in ("auto", "float32")
    ),
)


def measure(benchmark, dataset, repeats):
    "Seconds of both sides as a record; AssertionError if they did not do the same."
    ours, peer, theirs, same = benchmark(dataset)
    # this first call warms up both
    assert same(ours(), theirs()), f"{benchmark.__name__}: ours and {peer} do not agree"
    seconds = [[], []]
    for _ in range(repeats):
        for function, times in zip((ours, theirs), seconds):
            began = time.perf_counter()
            function()
            times.append(time.perf_counter() - began)
    best = [min(times) for times in seconds]
    about = f"{dataset}, fastest of {repeats}, {torch.get_num_threads()} threads"
    # a docstring of several lines is one sentence after another
    done = " ".join(benchmark.__doc__.split())
    return {
        "ours_seconds": round(best[0], 4),
        "peer": peer,
        "peer_seconds": round(best[1], 4),
        "ratio": round(best[1] / best[0], 2),
        "note": f"{done} {about}, torch {torch.__version__}.",
    }


def growth(dataset, repeats, sizes=(10_000, 30_000, 60_000, 240_000)):
    """Yield what one pass of pretraining and one of IDEC cost, from few images to many.

    Microseconds an image and peak memory; beyond the data set moved copies of its images.
    """
    images = torch.from_numpy(to_vectors(load_images(dataset)))
    for n in sizes:
        X, steps, best = images[torch.arange(n) % len(images)], math.ceil(n / 256), {}
        for at in range(len(images), n, len(images)):
            part = slice(at, at + len(images))
            # each round a pixel further
            X[part] = X[part].roll(at // len(images), 1)
        X = X.numpy()
        for _ in range(repeats):
            with measure_cost() as pretraining:
                ae = Autoencoder(epochs=1, device="cpu", random_state=0).fit(X)
            with measure_cost() as refining:
                IDEC(
                    10,
                    autoencoder=ae,
                    init=ae.transform(X[:10]),
                    max_iter=steps,
                    update_interval=steps,
                    device="cpu",
                    random_state=0,
                ).fit(X)
            for name, cost in ("pretraining", pretraining), ("idec", refining):
                best[name] = min(best.get(name, math.inf), cost["fit_seconds"] / n * 1e6)
        record = {"images": n} | {
            f"{name}_us_an_image": round(value, 2) for name, value in best.items()
        }
        yield record | {
            "peak_memory_mb": max(pretraining["peak_memory_mb"], refining["peak_memory_mb"]),
            "data_mb": round(X.nbytes / 2**20, 1),
        }


def main(only, dataset, repeats, out):
    name = re.sub(r"\W+", "-", machine()).strip("-").lower()
    file = Path(out) / f"{name}.json"
    found = load_artefact(file) if file.exists() else {"against": {}, "growth": []}
    for benchmark in BENCHMARKS:
        if only not in benchmark.__name__:
            continue
        record = found["against"][benchmark.__name__] = measure(benchmark, dataset, repeats)
        ours, peers = (f"{record[f'{side}_seconds']:>9} s" for side in ("ours", "peer"))
        print(f"{benchmark.__name__:<26}{ours}   {peers}   x {record['ratio']:<6} {record['peer']}")
    if only in "growth":
        found["growth"] = list(growth(dataset, min(repeats, 3)))
        for record in found["growth"]:
            print(*(f"{key} {value}" for key, value in record.items()), sep=", ")
    print(f"in {save_artefact(file, found)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="those whose name holds this word")
    parser.add_argument("--dataset", default="fashion_mnist")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", default=ROOT / "results" / "benchmarks")
    main(**vars(parser.parse_args()))
