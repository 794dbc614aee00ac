"A fit is made once for its class, parameters, data and code, and anew when one of them changes."

import importlib.util

import numpy as np
import pytest

from fmnist_cluster import runs, saving
from fmnist_cluster.dec import IDEC
from fmnist_cluster.runs import Stage, code_version, fingerprint

SOURCE = """
from sklearn.base import BaseEstimator

from fmnist_cluster.saving import SafeModel

STEP = 1


def helper(X):
    "{helper_words}"
    return X.sum() {sign} STEP  # {comment}


class Mine(SafeModel, BaseEstimator):
    "{words}"

    def __init__(self, width=1):
        self.width = width

    def fit(self, X):
        self.total_ = float(helper(X))
        return self
"""
PLAIN = dict(words="A class.", helper_words="A sum.", comment="as it is", sign="+")


@pytest.fixture
def mine(tmp_path):
    "A function that gives the class as it reads after some changes to its file, never exported."
    number = iter(range(99))

    def made(**changes):
        file = tmp_path / f"mine_{next(number)}.py"
        file.write_text(SOURCE.format(**PLAIN | changes))
        spec = importlib.util.spec_from_file_location("mine", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.Mine

    return made


def test_words_refit_nothing(mine):
    before = code_version(mine())
    for change in (dict(words="Another."), dict(helper_words="More."), dict(comment="otherwise")):
        assert code_version(mine(**change)) == before


def test_an_edited_class_is_fitted_anew_though_it_was_not_exported(mine, tmp_path, monkeypatch):
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(tmp_path / "runs"))
    stage = Stage("06_dec_idec", dataset="digits", seed=0, run="r")
    X = np.ones((3, 2))
    assert stage.fit("mine", mine()(), X).total_ == 7
    assert stage.fit("mine", mine(words="Other words.")(), X).total_ == 7
    assert stage.fit("mine", mine(sign="-")(), X).total_ == 5


def test_what_a_class_uses_counts_and_what_it_does_not_use_does_not(monkeypatch):
    before = code_version(IDEC)
    monkeypatch.setattr(runs, "versions", lambda: {})
    assert code_version(IDEC) == before, "where a run records its versions moves no fit"

    def other(path):
        return path

    monkeypatch.setattr(saving, "atomic", other)
    assert code_version(IDEC) != before, "its `save` writes by another function"


def test_data_and_parameters_count():
    X = np.zeros((3, 2))
    model = IDEC(2)
    prints = {fingerprint(model, X), fingerprint(IDEC(3), X), fingerprint(model, X + 1)}
    assert len(prints) == 3
    assert fingerprint(IDEC(2, device="cpu", verbose=True), X) == fingerprint(model, X)
