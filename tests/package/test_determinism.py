"""The same input gives the same output, to the last bit: twice in one process, and in two.

That holds for one machine, one set of versions and one number of threads. Sums are split by thread,
and floating-point sums depend on their order, so one thread and two agree nearly and not to the
last bit; each record names the threads it was made with. Only `random`, which adds nothing up, does
not care. A GPU is not promised bit identity, unless FMNIST_CLUSTER_DETERMINISTIC is set: its
kernels may add in any order.
"""

import json

import numpy as np
import pytest
from conftest import call
from methods import ESTIMATORS, ON_VECTORS, answer, fit_all, samples
from sklearn.base import clone
from sklearn.metrics import adjusted_rand_score


def in_a_process(threads, **environment):
    "Return what `fit_all` finds in a process of its own."
    process = call(
        "tests/methods.py",
        threads,
        OMP_NUM_THREADS=str(threads),
        OMP_WAIT_POLICY="PASSIVE",
        PYTHONPATH=".:tests",
        **environment,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


@pytest.fixture(scope="module")
def elsewhere():
    "Fit under the switch for a GPU, which must change nothing on a CPU and stop no method."
    return in_a_process(1, FMNIST_CLUSTER_DETERMINISTIC="1")


@pytest.fixture(scope="module")
def here():
    "Fit here, after draws of other random numbers: a fit depends on its own seed alone."
    import torch
    from threadpoolctl import threadpool_limits

    before, _ = torch.get_num_threads(), (np.random.rand(3), torch.rand(3))
    torch.set_num_threads(1)
    with threadpool_limits(1):
        found = fit_all()
    torch.set_num_threads(before)
    return found


@pytest.mark.parametrize("name", ["kmeans", *ESTIMATORS])
def test_two_processes(name, here, elsewhere):
    assert here[name] == elsewhere[name]


@pytest.mark.parametrize("name", ON_VECTORS)
def test_twice_in_one_process(name):
    model, X = clone(ON_VECTORS[name]), samples(name)
    once, twice = (answer(name, model.fit(X), X) for _ in range(2))
    assert once.tobytes() == twice.tobytes()


@pytest.mark.parametrize("name", ON_VECTORS)
def test_another_seed_finds_something_else(name):
    "Otherwise the tests above would pass for a method that draws nothing."
    X, model = samples(name), clone(ON_VECTORS[name]).set_params(random_state=1)
    if hasattr(model, "autoencoder"):
        model.set_params(autoencoder=clone(model.autoencoder).set_params(random_state=1))
    assert (
        answer(name, model.fit(X), X).tobytes()
        != answer(name, clone(ON_VECTORS[name]).fit(X), X).tobytes()
    )


@pytest.mark.long
def test_two_threads():
    "Two processes of two threads each find the same; `random` the same as with one."
    one, other = in_a_process(2), in_a_process(2)
    assert one == other and one["random"] == in_a_process(1)["random"]


@pytest.mark.parametrize("name", ["ae_kmeans", "idec"])
def test_one_thread_and_two_agree_nearly(name):
    import torch

    before, X, labels = torch.get_num_threads(), samples(name), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        labels.append(
            clone(ON_VECTORS[name])
            .set_params(autoencoder=clone(ON_VECTORS["ae"]).set_params(precision="float32"))
            .fit(X)
            .labels_
        )
    torch.set_num_threads(before)
    assert adjusted_rand_score(*labels) > 0.9
