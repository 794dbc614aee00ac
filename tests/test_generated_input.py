"Whatever comes in, an estimator answers with a right result or with one line that says what it expects."

import warnings

import numpy as np
import pytest
import run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fmnist_cluster import cli, data
from fmnist_cluster.ae_kmeans import AEKMeans
from fmnist_cluster.autoencoder import Autoencoder
from fmnist_cluster.baseline import RandomAssignment, kmeans
from fmnist_cluster.dec import DEC, IDEC
from fmnist_cluster.metrics import external_scores
from fmnist_cluster.pseudo_label import ContrastiveClassifier, PseudoLabelClassifier

generated = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
COMMON = dict(device="cpu", random_state=0)
SMALL = Autoencoder(n_components=2, hidden=(4,), epochs=1, **COMMON)
ON_VECTORS = {
    "random": lambda k: RandomAssignment(k, random_state=0),
    "ae_kmeans": lambda k: AEKMeans(k, SMALL, n_init=1, **COMMON),
    "dec": lambda k: DEC(k, SMALL, n_init=1, max_iter=2, update_interval=1, **COMMON),
    "idec": lambda k: IDEC(k, SMALL, n_init=1, max_iter=2, update_interval=1, **COMMON),
}
ON_IMAGES = {
    "plain": lambda k: PseudoLabelClassifier(k, rounds=1, epochs_per_round=1, n_init=1, **COMMON),
    "plain from an autoencoder": lambda k: PseudoLabelClassifier(
        k, start="autoencoder", start_epochs=1, rounds=1, epochs_per_round=1, n_init=1, **COMMON
    ),
    "contrastive": lambda k: ContrastiveClassifier(
        k, contrastive_epochs=1, n_heads=2, head_epochs=1, n_neighbours=2, **COMMON
    ),
}


def put(value):
    "Something that writes `value` into one place of a float array."

    def change(X):
        X = X.astype(np.float64)
        if X.size:
            X.flat[X.size // 2] = value
        return X

    return change


HARM = {
    "none": lambda X: X,
    "NaN": put(np.nan),
    "infinite": put(-np.inf),
    "huge": put(1e30),
    "beyond float32": put(1e300),
    "negative": put(-5.0),
    "all alike": lambda X: np.repeat(X[:1], len(X), 0),
    "doubled": lambda X: np.repeat(X[: len(X) // 2], 2, 0),
    "empty": lambda X: X[:0],
    "one": lambda X: X[:1],
    "no features": lambda X: X[..., :0],
    "flat": lambda X: X.ravel(),
    "deeper": lambda X: X[..., None],
    "every second": lambda X: X[::2],
    "turned over": lambda X: X[::-1],
    "Fortran order": np.asfortranarray,
    **{
        kind: lambda X, kind=kind: X.astype(kind)
        for kind in ("float64", "float16", "uint16", "int64", "bool", "complex64", "object", "U3")
    },
}
WELL_FORMED = ["none", "every second", "turned over", "Fortran order", "doubled"]


@st.composite
def samples(draw, *, images):
    "Random images or vectors, well formed or harmed in one or two ways; now and then read-only."
    shape = (draw(st.integers(2, 24)), *((28, 28) if images else (draw(st.integers(1, 5)),)))
    X = np.random.default_rng(draw(st.integers(0, 99))).random(shape, dtype=np.float32) * 255
    if images:
        X = X.astype(np.uint8)
    for harm in draw(
        st.lists(
            st.one_of(st.sampled_from(WELL_FORMED), st.sampled_from(sorted(HARM))),
            min_size=1,
            max_size=2,
        )
    ):
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # casts that lose something: that is what they are for
            X = HARM[harm](X)
    if draw(st.booleans()):
        X.flags.writeable = False
    return X


clusters = st.one_of(
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from([0, -1, 30, None, 2.0, True, "3", np.int64(2)]),
)


def right_or_refused(make, X, k):
    "Fit and predict; a refusal must be one line of ValueError or TypeError, a result must be one."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # few points, many clusters: k-means says so
            model = make(k).fit(X)
    except (ValueError, TypeError) as refusal:
        assert str(refusal) and "\n" not in str(refusal), refusal
        return
    assert k >= 1 and model.labels_.shape == (len(X),) and set(model.labels_) <= set(range(k))
    assert np.array_equal(model.predict(X), model.predict(X.copy()))
    if hasattr(model, "predict_proba"):
        p = model.predict_proba(X)
        assert (
            p.shape == (len(X), k) and np.isfinite(p).all() and np.allclose(p.sum(1), 1, atol=1e-4)
        )


@pytest.mark.parametrize("name", ON_VECTORS)
@generated
@given(X=samples(images=False), k=clusters)
def test_vectors(name, X, k):
    right_or_refused(ON_VECTORS[name], X, k)


@pytest.mark.parametrize("name", ON_IMAGES)
@generated
@given(X=samples(images=True), k=clusters)
def test_images(name, X, k):
    right_or_refused(ON_IMAGES[name], X, k)


@generated
@given(X=samples(images=False), k=clusters)
def test_kmeans(X, k):
    right_or_refused(lambda k: Bound(k), X, k)


class Bound:
    "The function `kmeans`, called as the estimators are."

    def __init__(self, k):
        self.k = k

    def fit(self, X):
        return kmeans(X, self.k, n_init=1, random_state=0)


labels = st.lists(st.one_of(st.integers(0, 5), st.integers(-2, 9)), max_size=8).map(np.array)


@generated
@given(true=labels, found=labels)
def test_scores(true, found):
    try:
        scores = external_scores(true, found)
    except (ValueError, TypeError) as refusal:
        assert str(refusal) and "\n" not in str(refusal)
        return
    assert all(-1 <= value <= 1 + 1e-9 for value in scores.values() if value is not None)


# the command line

VALUES = [
    "",
    "digits",
    "cifar",
    "quick",
    "full",
    "fast",
    "42",
    "1,2",
    "-1",
    "042",
    "42,",
    "1e3",
    "4294967296",
    "../out",
    "/out",
    "a b",
    "a\nb",
    "~",
    "-",
    "\u00e9",
    "x" * 300,
    "06_dec_idec.gamma=0.2",
    "06_dec_idec.gamma=",
    "06_dec_idec.gama=1",
    "06_dec_idec.device=cuda:99",
    "03_baseline.rows=[1",
    "=",
    "06_dec_idec=1",
    "10_dec_paper",
    "20_classical_grid",
    "local",
    "0",
]
value = st.one_of(
    st.sampled_from(VALUES),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6),
)  # a shell hands over no NUL
option = st.sampled_from(
    [
        "--run",
        "--seeds",
        "--preset",
        "--set",
        "--studies",
        "--profile",
        "--threads",
        "--gpus",
        "--dataset",
        "--force",
        "--nonsense",
    ]
)


@generated
@given(
    command=st.sampled_from(["run", "run", "run", "sweep", "status", "collect", "compare"]),
    options=st.lists(st.tuples(option, value), max_size=3),
    more=st.lists(value, max_size=2),
)
def test_commands(command, options, more, tmp_path_factory):
    "A command is refused in one line, by argparse or by us, or goes to Snakemake; nothing is written but below the folder of the runs."
    place, words = (
        tmp_path_factory.mktemp("command"),
        [
            command,
            *(["--dataset", "digits"] if command == "run" else []),
            *(word for pair in options for word in pair),
            *more,
        ],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FMNIST_CLUSTER_RUNS", str(place / "runs"))
        patch.setattr(data, "_download", lambda *_: False)
        patch.setattr(run, "snakemake", lambda *_: None)
        patch.chdir(place)
        try:
            answer = cli.main(words)
        except SystemExit as refusal:
            answer = refusal.code
    assert answer in (0, 2, 130) or isinstance(answer, str) and answer and "\n" not in answer, (
        words,
        answer,
    )
    assert [file.name for file in place.iterdir()] in ([], ["runs"])


@generated
@given(
    lines=st.lists(st.lists(value, max_size=5).map(",".join), max_size=4),
    columns=st.lists(
        st.sampled_from(
            ["run", "dataset", "preset", "seeds", "06_dec_idec.gamma", "nonsense", "", "run"]
        ),
        max_size=5,
    ),
)
def test_tables(lines, columns, tmp_path_factory):
    "The same of a sweep's table, whatever stands in it."
    place = tmp_path_factory.mktemp("table")
    (place / "table.csv").write_text("\n".join([",".join(columns), *lines]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FMNIST_CLUSTER_RUNS", str(place / "runs"))
        patch.setattr(data, "_download", lambda *_: False)
        patch.setattr(run, "snakemake", lambda *_: None)
        patch.chdir(place)
        answer = cli.main(["sweep", str(place / "table.csv")])
    assert answer == 130 or isinstance(answer, str) and answer and "\n" not in answer, answer
