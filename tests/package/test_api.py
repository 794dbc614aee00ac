"""What scikit-learn's users may expect of every estimator, those on images included.

scikit-learn's own checks know only vectors. Here: clone, parameters, save and load in another
process, float32 and float64, pandas, pipelines, meta-estimators.
"""

import json
import re
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, call
from methods import ESTIMATORS, ON_IMAGES, ON_VECTORS, answer, samples
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler
from sklearn.utils.validation import NotFittedError

from fmnist_cluster.core import InputError
from fmnist_cluster.dec import IDEC
from fmnist_cluster.related import AugmentedAutoencoder

every = pytest.mark.parametrize("name", ESTIMATORS)
on_vectors = pytest.mark.parametrize("name", ON_VECTORS)
on_images = pytest.mark.parametrize("name", ON_IMAGES)
N = 120


@pytest.fixture(scope="module")
def fitted():
    "Every method, fitted once."
    return {name: clone(estimator).fit(samples(name, N)) for name, estimator in ESTIMATORS.items()}


@every
def test_clone_has_the_parameters_and_nothing_found(name, fitted):
    copy = clone(fitted[name])
    assert str(copy.get_params()) == str(fitted[name].get_params())
    assert [attribute for attribute in vars(copy) if attribute.endswith("_")] == []


@every
def test_parameters_are_set_and_kept_as_given(name):
    model = clone(ESTIMATORS[name])
    given = model.get_params(deep=False)
    assert all(getattr(model, key) is value for key, value in given.items())
    assert model.set_params(random_state=7) is model and model.get_params()["random_state"] == 7
    with pytest.raises(ValueError, match="nonsense"):
        model.set_params(nonsense=1)


@every
def test_a_fit_changes_no_parameter_and_not_its_data(name):
    model, X = clone(ESTIMATORS[name]), samples(name, N)
    before, kept = str(model.get_params()), X.copy()
    assert model.fit(X) is model
    assert str(model.get_params()) == before and np.array_equal(X, kept)
    if name == "ae_kmeans":
        assert not hasattr(model.autoencoder, "network_")


@every
def test_nothing_is_answered_before_a_fit(name):
    with pytest.raises(NotFittedError):
        answer(name, clone(ESTIMATORS[name]), samples(name, 2))


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "ae"])
def test_labels_are_what_predict_says(name, fitted):
    model = fitted[name]
    assert model.labels_.shape == (N,) and set(model.labels_) <= set(range(5))
    # k-means's own sums may tip a point on a border
    assert np.mean(model.labels_ == model.predict(samples(name, N))) > 0.99
    if hasattr(model, "predict_proba"):
        assert np.array_equal(
            model.predict_proba(samples(name, N)).argmax(1), model.predict(samples(name, N))
        )


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "ae"])
def test_fit_predict_is_fit_and_labels(name, fitted):
    assert np.array_equal(
        clone(ESTIMATORS[name]).fit_predict(samples(name, N)), fitted[name].labels_
    )


@every
def test_one_sample_is_answered_as_among_others(name, fitted):
    X, model = samples(name, N), fitted[name]
    alone, together = answer(name, model, X[3:4]), answer(name, model, X)[3:4]
    assert np.allclose(alone, together, atol=1e-4) and alone.dtype == together.dtype


@every
def test_y_is_ignored(name, fitted):
    X, model = samples(name, N), clone(ESTIMATORS[name])
    model.fit(X, np.random.default_rng(0).integers(5, size=N))
    assert np.array_equal(answer(name, model, X), answer(name, fitted[name], X))


# kept and read elsewhere

LOAD = """
import json, sys
import numpy as np
from fmnist_cluster.saving import SafeModel
from methods import ESTIMATORS, answer, samples
for name in sys.argv[2:]:
    model = type(ESTIMATORS[name]).load(f"{sys.argv[1]}/{name}")
    np.save(f"{sys.argv[1]}/{name}.npy", answer(name, model, samples(name, 40, "test")))
    with open(f"{sys.argv[1]}/{name}.json", "w") as file:
        json.dump([str(model.get_params()), sorted(vars(model))], file)
"""


@pytest.fixture(scope="module")
def reloaded(fitted, tmp_path_factory):
    "Every fitted method saved here, and what another process that loads it answers."
    folder = tmp_path_factory.mktemp("models")
    for name, model in fitted.items():
        model.save(folder / name)
    process = subprocess.run(
        [sys.executable, "-c", LOAD, folder, *fitted],
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return folder


@every
def test_another_process_loads_the_same_model(name, fitted, reloaded):
    model = fitted[name]
    assert (
        np.load(reloaded / f"{name}.npy").tobytes()
        == answer(name, model, samples(name, 40, "test")).tobytes()
    )
    parameters, attributes = json.loads((reloaded / f"{name}.json").read_text())
    # a tuple comes back as a list
    plainly = lambda text: re.sub(r"[()\[\]\s]|,(?=[)\]])", "", text)
    assert plainly(parameters) == plainly(str(model.get_params()))
    assert attributes == sorted(vars(model))
    assert {file.name for file in (reloaded / name).iterdir()} == {
        "config.json",
        "model.safetensors",
    }


def test_saving_again_replaces_the_model(fitted, tmp_path):
    fitted["ae_kmeans"].save(tmp_path)
    other = (
        clone(ESTIMATORS["ae_kmeans"])
        .set_params(n_clusters=3)
        .fit(samples("ae_kmeans", N))
        .save(tmp_path)
    )
    assert type(fitted["ae_kmeans"]).load(other).n_clusters == 3


def test_another_class_is_refused(fitted, tmp_path):
    with pytest.raises(InputError, match="holds a DEC, not a IDEC"):
        type(ESTIMATORS["idec"]).load(fitted["dec"].save(tmp_path))


def test_a_class_of_another_module_of_the_package_is_found(tmp_path):
    X = samples("IDEC", N)
    start = AugmentedAutoencoder(4, hidden=(16,), epochs=1, device="cpu", random_state=0)
    IDEC(3, autoencoder=start, n_init=2, max_iter=2, device="cpu", random_state=0).fit(X).save(
        tmp_path / "model"
    )
    code = (
        "from fmnist_cluster.dec import IDEC; "
        f"print(type(IDEC.load({str(tmp_path / 'model')!r}).autoencoder).__name__)"
    )
    assert call("-c", code).stdout == "AugmentedAutoencoder\n"
    config = (tmp_path / "model" / "config.json").read_text()
    (tmp_path / "model" / "config.json").write_text(
        config.replace("fmnist_cluster.related", "antigravity").replace(
            "AugmentedAutoencoder", "Unknown"
        )
    )
    with pytest.raises(InputError):
        IDEC.load(tmp_path / "model")
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("name", ["random", "ae_kmeans", "pseudo_label_random"])
def test_a_random_state_is_drawn_from_and_not_kept(name, tmp_path):
    model = (
        clone(ESTIMATORS[name])
        .set_params(random_state=np.random.RandomState(0))
        .fit(samples(name, N))
    )
    again = type(model).load(model.save(tmp_path))
    assert again.random_state is None and np.array_equal(
        answer(name, again, samples(name, 9)), answer(name, model, samples(name, 9))
    )


# what the data comes as


@on_vectors
@pytest.mark.parametrize(
    "change",
    [
        lambda X: X.astype(np.float64),
        np.asfortranarray,
        lambda X: np.ascontiguousarray(X[::-1])[::-1],
        pd.DataFrame,
        lambda X: X.tolist(),
    ],
    ids=["float64", "Fortran order", "a view", "pandas", "lists"],
)
def test_the_same_numbers_in_another_form(name, change, fitted):
    X = samples(name, N)
    with_names = (
        pd.DataFrame(X, columns=[f"pixel{i}" for i in range(X.shape[1])])
        if change is pd.DataFrame
        else change(X)
    )
    model = clone(ESTIMATORS[name]).fit(with_names)
    assert np.allclose(answer(name, model, with_names), answer(name, fitted[name], X), atol=1e-6)


@on_vectors
def test_a_table_is_fitted_without_a_warning(name):
    X = samples(name, N)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*feature names")
        clone(ESTIMATORS[name]).fit(
            pd.DataFrame(X, columns=[f"pixel{i}" for i in range(X.shape[1])])
        )


@pytest.mark.parametrize("name", ["ae", "idec"])
def test_names_of_columns_survive(name, tmp_path):
    X = pd.DataFrame(samples(name, N)[:, 200:220], columns=[f"pixel{i}" for i in range(20)])
    model = clone(ESTIMATORS[name]).fit(X)
    again = type(model).load(model.save(tmp_path))
    assert list(again.feature_names_in_) == list(X.columns)
    assert np.array_equal(answer(name, again, X), answer(name, model, X))
    with pytest.raises(ValueError, match="feature names"):
        again.transform(X[X.columns[::-1]])


@on_images
@pytest.mark.parametrize(
    "change",
    [np.asfortranarray, lambda X: np.ascontiguousarray(X[::-1])[::-1], lambda X: X.tobytes()],
    ids=["Fortran order", "a view", "read-only"],
)
def test_the_same_images_in_another_form(name, change, fitted):
    X = samples(name, N)
    given = change(X)
    if isinstance(given, bytes):
        given = np.frombuffer(given, np.uint8).reshape(X.shape)
    assert np.array_equal(fitted[name].predict(given), fitted[name].predict(X))


# among scikit-learn's own


@on_vectors
def test_in_a_pipeline(name):
    X, pipeline = samples(name, N), make_pipeline(MinMaxScaler(), clone(ESTIMATORS[name]))
    found = answer(name, pipeline.fit(X), X)
    assert np.array_equal(found, answer(name, pipeline[-1], pipeline[0].transform(X)))
    if name != "ae":
        assert (
            np.array_equal(found, clone(pipeline).fit_predict(X))
            or np.mean(found == clone(pipeline).fit_predict(X)) > 0.99
        )


@on_images
def test_images_in_a_pipeline(name):
    X, pipeline = (
        samples(name, N),
        make_pipeline(FunctionTransformer(np.fliplr), clone(ESTIMATORS[name])),
    )
    assert np.array_equal(pipeline.fit(X).predict(X), pipeline[-1].predict(np.fliplr(X)))


@pytest.mark.parametrize("name", ["ae_kmeans", "dec", "idec"])
def test_parameters_of_the_autoencoder_are_reached(name):
    model = clone(ESTIMATORS[name]).set_params(autoencoder__n_components=3)
    assert model.fit(samples(name, N)).transform(samples(name, 2)).shape == (2, 3)
