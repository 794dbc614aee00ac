"""Names of version 0.1 in the modules where they stood: they work, with a warning, until 0.3."""

import importlib
import warnings

MOVED = {
    "core": {
        "saving": "atomic save_artefact load_artefact SafeModel Checkpoint plain=to_jsonable",
        "runs": "runs_root commit versions unknown_parameters stage_folder "
        "changed_parameters fingerprint Stage completed=stage_metrics",
        "core": "enough_memory=explain_out_of_memory measured=measure_cost",
    },
    "baseline": {
        "core": "check_n_clusters check_at_least check_vectors",
        "grid": "Ward relative_validity TunedHDBSCAN neighbour_radius",
    },
    "autoencoder": {
        "networks": "mlp apply_in_batches",
        "training": "batches autocast make_optimizer check_not_diverged",
    },
    "pseudo_label": {
        "networks": "ENCODERS image_tensor ConvEncoder ResidualBlock ResidualEncoder "
        "with_temperature ClusterNet",
        "views": "random_affine random_light random_blemish augment",
        "metrics": "has_collapsed",
        "contrastive": "contrastive_loss neighbour_loss nearest_neighbours agreement "
        "best_temperature ContrastiveClassifier reference_model",
    },
    "dec_kin": {
        "related": "turn_and_shift AugmentedAutoencoder AugmentedConvAutoencoder AugmentedIDEC "
        "nearest_centre kmeans_loss running_means DCN mixture_log_joint mixture_kl "
        "BernoulliAutoencoder VaDENet VaDE cauchy_schwarz gaussian_kernel ddc_loss DDCNet DDC"
    },
    "dec_studies": {
        "dec_questions": "FixedEncoderDEC PixelKMeans generalizability relative_falls sharp_drop "
        "retention thin passes=epochs_for belief_loss=self_target_loss"
    },
}


def old_names(module):
    "A module's `__getattr__` that finds a name where it stands today, and says so."
    old, found = module.rpartition(".")[2], {}
    for new, names in MOVED.get(old, {}).items():
        for name in names.split():
            before, _, now = name.partition("=")
            found[before] = (f"fmnist_cluster.{new}", now or before)

    def __getattr__(name):
        if name not in found:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, now = found[name]
        warnings.warn(
            f"{module}.{name} is {place}.{now} now; the old name goes with version 0.3",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(importlib.import_module(place), now)

    return __getattr__
