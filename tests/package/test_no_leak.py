"""No label and no test image reaches a fit.

With labels shuffled or gone and test images spoilt, every method finds the very same clusters.
"""

import pytest
from digit_files import VARIANTS, write_files
from methods import ESTIMATORS, ON_IMAGES, digest
from sklearn.base import clone

from fmnist_cluster import data
from fmnist_cluster.core import InputError
from fmnist_cluster.data import load_images, load_labels, to_vectors
from fmnist_cluster.runs import Stage

# the files themselves


# the one has no clusters; the other may find a single one in so few images, which no noise changes
BY_EMBEDDING = ("ae", "ddc")
variants = pytest.mark.parametrize(
    "variant", [variant for variant in VARIANTS if variant != "undisturbed"]
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Fit every method by way of a stage on each variant of the files.

    Two digests by variant and method: of the train labels (of the embedding, where there are none),
    and of the test ones.
    """
    found = {}
    for variant, change in VARIANTS.items():
        folder = tmp_path_factory.mktemp("files")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                data._IDX_SETS["fashion_mnist"],
                "resources",
                write_files(folder / "data", 100, 30, **change),
            )
            patch.setattr(data, "_download", lambda *_: False)
            for name, place in {"DATA": "data", "RUNS": "runs"}.items():
                patch.setenv(f"FMNIST_CLUSTER_{name}", str(folder / place))
            patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
            patch.setattr(data, "project_root", lambda folder=folder: folder)
            if variant == "labels gone":
                with pytest.raises(InputError, match="labels-idx1"):
                    load_labels("fashion_mnist")
            stage, images = (
                Stage("06_dec_idec", dataset="fashion_mnist", seed=0, run="r"),
                [load_images("fashion_mnist", split) for split in ("train", "test")],
            )
            for name, estimator in ESTIMATORS.items():
                train, test = images if name in ON_IMAGES else map(to_vectors, images)
                given = {"held_out": test} if name == "ae" else {}
                model = stage.fit(name, clone(estimator), train, **given)
                found[variant, name] = (
                    digest(model.transform(train)) if name == "ae" else digest(model.labels_),
                    digest(model.transform(test) if name in BY_EMBEDDING else model.predict(test)),
                )
    return found


@variants
@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_fit_is_the_same(name, variant, trained):
    assert trained[variant, name][0] == trained["undisturbed", name][0]


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_noise_was_there(name, trained):
    "Otherwise the test above would pass for nothing."
    assert trained["test images noise", name][1] != trained["undisturbed", name][1]
