"The vector estimators keep scikit-learn's contract: its checks by name, exceptions with reason."

from functools import partial

from sklearn.utils.estimator_checks import parametrize_with_checks

from fmnist_cluster.ae_kmeans import AEKMeans
from fmnist_cluster.autoencoder import Autoencoder, StackedAutoencoder
from fmnist_cluster.baseline import RandomAssignment
from fmnist_cluster.dec import DEC, IDEC
from fmnist_cluster.dec_questions import FixedEncoderDEC, PixelKMeans
from fmnist_cluster.related import DCN, DDC

small = partial(Autoencoder, n_components=2, hidden=(8,), epochs=1, batch_size=64, device="cpu")
refined = dict(
    n_clusters=2, autoencoder=small(), n_init=1, max_iter=4, update_interval=2, device="cpu"
)
EXCEPTIONS = {
    RandomAssignment: dict.fromkeys(
        ["check_clustering", "check_clustering(readonly_memmap=True)"],
        "chance finds no blobs; that is what it is for",
    ),
    **dict.fromkeys(
        [Autoencoder, StackedAutoencoder],
        {"check_transformer_preserve_dtypes": "an embedding is float32 whatever came in"},
    ),
}


@parametrize_with_checks(
    [
        RandomAssignment(2),
        small(),
        AEKMeans(2, autoencoder=small(), n_init=1, device="cpu"),
        DEC(**refined),
        IDEC(**refined),
        FixedEncoderDEC(**refined),
        PixelKMeans(2, n_init=1),
        StackedAutoencoder(2, hidden=(8,), layer_steps=5, fine_steps=5, device="cpu"),
        DCN(**refined),
        DDC(2, n_init=1, epochs=1, device="cpu"),
    ],
    expected_failed_checks=lambda estimator: EXCEPTIONS.get(type(estimator), {}),
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)
