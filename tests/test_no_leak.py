"No label reaches a fit: with all labels shuffled, every method finds the very same clusters."
import numpy as np
import pytest
from book import READS
from conftest import ROOT, call

TRAINING = [chapter for chapter in READS if "03" <= chapter[:2] <= "07"]

# IPython runs this in every kernel before a notebook's first cell
STARTUP = '''
import pathlib
import numpy as np
import fmnist_cluster.data as data

_original = data.load_labels

def _shuffled(dataset="fashion_mnist", split="train"):
    pathlib.Path({marker!r}).touch()
    return np.random.default_rng(0).permutation(_original(dataset, split))

data.load_labels = _shuffled
'''


@pytest.fixture(scope="module")
def shuffled(book, tmp_path_factory):
    "The training chapters run again, as the book runs them, on digits whose labels are shuffled."
    folder = tmp_path_factory.mktemp("shuffled")
    startup, marker = folder / "ipython/profile_default/startup", folder / "labels were asked for"
    startup.mkdir(parents=True)
    (startup / "00-shuffle.py").write_text(STARTUP.format(marker=str(marker)))
    base = folder / "runs/quick/digits/seed=42"
    process = call("-m", "snakemake", "-s", "workflow/Snakefile", "--cores", "all", "--nolock", *(base / chapter / "metrics.json" for chapter in TRAINING),
                   "--config", "run=quick", "dataset=digits", "preset=quick", "seeds='42'", IPYTHONDIR=str(folder / "ipython"), FMNIST_CLUSTER_RUNS=str(folder / "runs"))
    assert process.returncode == 0, process.stderr
    assert marker.exists(), "the shuffled labels were never used: this test would pass for nothing"
    return base


def found(base):
    "What the methods found: labels, embeddings and the course of the training; the upper bound `supervised`, which reads labels by name, left out."
    patterns = ("*/labels_*.npy", "*/embedding_*.npy", "*/history.csv")
    return {str(file.relative_to(base)): file for chapter in TRAINING for pattern in patterns for file in (base / chapter).glob(pattern)
            if file.parent.name != "supervised"}


def test_same_files(book, shuffled):
    assert found(shuffled).keys() == found(book.base / "seed=42").keys()
    assert sum(name.endswith("labels_train.npy") for name in found(shuffled)) >= 7


def test_only_the_upper_bound_heard_of_the_labels(book, shuffled):
    told, misled = (np.load(base / "07_pseudo_label/supervised/labels_train.npy") for base in (book.base / "seed=42", shuffled))
    assert (told != misled).mean() > 0.3


def test_everything_found_is_the_same_to_the_last_byte(book, shuffled):
    undisturbed = found(book.base / "seed=42")
    assert [name for name, file in found(shuffled).items() if file.read_bytes() != undisturbed[name].read_bytes()] == []
