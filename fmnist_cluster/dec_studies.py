"""Old name of `fmnist_cluster.dec_questions`; it goes with version 0.3."""

from ._old_names import old_names

__getattr__ = old_names(__name__)
