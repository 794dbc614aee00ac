"""Every public estimator of the package is a whole class, and says of itself what it can do.

The classes are found, not listed: a new one is tested from its first day.
"""

import importlib
import inspect
import multiprocessing
import pickle
import pkgutil
import re

import numpy as np
import pandas as pd
import pytest
from methods import ON_VECTORS, samples
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import cross_val_score

import fmnist_cluster
from fmnist_cluster.data import load_labels

N = 120


def estimators():
    "Yield every estimator whose name does not start with an underscore, where it is defined."
    for module in pkgutil.iter_modules(fmnist_cluster.__path__):
        if module.name.startswith("_"):
            continue
        name = f"fmnist_cluster.{module.name}"
        for value in vars(importlib.import_module(name)).values():
            public = inspect.isclass(value) and not value.__name__.startswith("_")
            public = public and hasattr(value, "fit")  # bases have none
            if public and issubclass(value, BaseEstimator) and value.__module__ == name:
                yield value


ESTIMATORS = sorted(estimators(), key=lambda found: found.__name__)
every = pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda found: found.__name__)
TRANSFORMERS = [name for name, model in ON_VECTORS.items() if hasattr(model, "transform")]
CLUSTERERS = [name for name in ON_VECTORS if name != "ae"]


def function_of(value):
    "Return the function behind a method, a property or what is there under a condition."
    for name in ("__func__", "fget", "fn"):
        value = getattr(value, name, value)
    return value if inspect.isfunction(value) else None


def methods(estimator):
    "Return the public methods by name: the class of this package that has each, and its function."
    found = {}
    for owner in reversed(estimator.__mro__):
        if owner.__module__.partition(".")[0] != "fmnist_cluster":
            continue
        for name, value in vars(owner).items():
            function = function_of(value)
            if function and not name.startswith("_"):
                found[name] = owner, function
    return found


def parameters(estimator):
    "Return the constructor's parameters, without self."
    return list(inspect.signature(estimator.__init__).parameters.values())[1:]


def unfitted(estimator):
    "Make one with its defaults, or with a small part for what has none."
    needed = [given for given in parameters(estimator) if given.default is inspect.Parameter.empty]
    return estimator(**{given.name: clone(ON_VECTORS["random"]) for given in needed})


def test_the_estimators_are_found():
    names = {found.__name__ for found in ESTIMATORS}
    assert {type(model).__name__ for model in ON_VECTORS.values()} <= names
    assert len(names) == len(ESTIMATORS), "two classes share a name"


# methods


@every
def test_a_method_is_named_as_it_is_called(estimator):
    found = methods(estimator)
    assert "fit" in found
    wrong = {
        name: function.__qualname__
        for name, (owner, function) in found.items()
        if (function.__name__, function.__qualname__) != (name, f"{owner.__name__}.{name}")
    }
    assert wrong == {}


@every
def test_a_bound_method_pickles(estimator):
    model = unfitted(estimator)
    for name in methods(estimator):
        method = getattr(model, name, None)
        if not inspect.ismethod(method) or method.__self__ is not model:
            continue
        again = pickle.loads(pickle.dumps(method))
        assert again.__func__ is method.__func__ and type(again.__self__) is estimator, name


def test_a_bound_predict_works_in_other_processes():
    X = samples("ae_kmeans", N)
    model = clone(ON_VECTORS["ae_kmeans"]).fit(X)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        # a method that cannot be read over there would hang
        found = pool.map_async(model.predict, np.array_split(X, 4)).get(timeout=120)
    assert np.array_equal(np.concatenate(found), model.predict(X))


# among scikit-learn's own


@pytest.mark.parametrize("name", CLUSTERERS)
def test_scores_by_scikit_learn(name):
    scores = cross_val_score(
        clone(ON_VECTORS[name]),
        samples(name, N),
        load_labels("digits")[:N],
        scoring="adjusted_rand_score",
        cv=2,
        error_score="raise",
    )
    assert scores.shape == (2,) and (np.abs(scores) <= 1).all()


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_table_comes_out_where_one_is_asked_for(name):
    X = pd.DataFrame(samples(name, N)).rename(columns=str)
    X.index += 7
    model = clone(ON_VECTORS[name]).set_output(transform="pandas").fit(X)
    table = model.transform(X)
    assert isinstance(table, pd.DataFrame) and list(table.index) == list(X.index)
    assert list(table.columns) == list(model.get_feature_names_out())
    plain = model.set_output(transform="default").transform(X)
    assert np.array_equal(table.to_numpy(), plain)


# what a constructor takes, and what a class says of itself


@every
def test_only_the_first_parameter_may_come_by_position(estimator):
    first, *others = parameters(estimator)
    assert [given.name for given in others if given.kind != given.KEYWORD_ONLY] == []
    if others:
        with pytest.raises(TypeError, match="positional"):
            estimator(first.default, others[0].default)


@every
def test_a_class_explains_its_parameters_and_what_a_fit_leaves(estimator):
    text = inspect.cleandoc(estimator.__doc__ or "")
    _, *sections = re.split(r"^(\w[\w ]*)\n-+\n", text, flags=re.MULTILINE)
    explained = dict(zip(sections[::2], sections[1::2]))
    assert {"Parameters", "Attributes"} <= explained.keys()
    names = {
        name
        for line in re.findall(r"^\S.*$", explained["Parameters"], re.MULTILINE)
        for name in re.findall(r"\w+", line.partition(":")[0])
    }
    assert [given.name for given in parameters(estimator) if given.name not in names] == []
    assert "As in `" not in text
