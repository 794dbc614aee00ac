"The model that ships: small, and its answers on the 10,000 test images are those it was made with."

import hashlib
import importlib.resources
import json
import re

import numpy as np
import pytest
import torch
from conftest import ROOT

from fmnist_cluster.contrastive import reference_model
from fmnist_cluster.core import InputError
from fmnist_cluster.data import load_images, load_labels

FOLDER = importlib.resources.files("fmnist_cluster") / "reference_model"
EXPECTED = json.loads((ROOT / "tests" / "reference_answers.json").read_text())


def sha(array):
    "Hash an array's bytes."
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def cpu_flags():
    "Return what the processor says it can do, where that is told."
    try:
        with open("/proc/cpuinfo") as file:
            return set(re.search(r"^flags\s*:(.*)$", file.read(), re.MULTILINE)[1].split())
    except (OSError, TypeError):
        return set()


@pytest.fixture(scope="module")
def probability():
    "Ask the model for the probabilities of the test images, on one thread."
    try:
        images = load_images("fashion_mnist", "test")
    except InputError as missing:
        pytest.skip(str(missing))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield reference_model().set_params(device="cpu").predict_proba(images)
    finally:
        torch.set_num_threads(threads)


def test_the_model_is_small_and_keeps_no_labels():
    assert (FOLDER / "model.safetensors").stat().st_size <= 2e6
    assert not hasattr(reference_model(), "labels_")


def test_its_answers_are_the_same(probability):
    assert sha(probability.argmax(1).astype(np.int64)) == EXPECTED["labels"]


@pytest.mark.skipif(
    "avx512_bf16" not in cpu_flags(),
    reason="the probabilities were made on a CPU with AVX512-BF16; others round otherwise",
)
def test_its_probabilities_are_the_same_to_the_last_bit(probability):
    assert torch.get_num_threads() == 1
    assert sha(probability) == EXPECTED["probability"]


def test_its_card_says_how_often_it_is_right(probability):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"Test images: accuracy (0\.\d+)", card)
    right = (probability.argmax(1) == load_labels("fashion_mnist", "test")).mean()
    assert f"{right:.3f}" == said
