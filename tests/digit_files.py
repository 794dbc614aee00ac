"Digits as files in the format of Fashion-MNIST, as they are and with something spoilt."

import gzip
import hashlib

import numpy as np

from fmnist_cluster.data import load_images, load_labels

VARIANTS = {
    "undisturbed": {},
    "labels shuffled": {"labels": "shuffled"},
    "labels gone": {"labels": "gone"},
    "test images noise": {"test_images": "noise"},
}


def idx_header(*numbers):
    "First bytes of an IDX file: its kind and its sizes."
    return np.array(numbers, ">i4").tobytes()


def write_files(folder, n_train, n_test, labels="as they are", test_images="as they are"):
    """Write digits as files of Fashion-MNIST's format below `folder`.

    Returns their names and checksums, as torchvision keeps them.
    """
    raw, draw, known = folder / "FashionMNIST" / "raw", np.random.default_rng(0), []
    raw.mkdir(parents=True)
    for split, part, n in (("train", "train", n_train), ("test", "t10k", n_test)):
        images, classes = (
            load_images("digits", split)[:n],
            load_labels("digits", split)[:n].astype(np.uint8),
        )
        if labels == "shuffled":
            classes = draw.permutation(classes)
        if split == "test" and test_images == "noise":
            images = draw.integers(0, 256, images.shape, dtype=np.uint8)
        for kind, content in (
            ("images", idx_header(2051, *images.shape) + images.tobytes()),
            ("labels", idx_header(2049, len(classes)) + classes.tobytes()),
        ):
            file = raw / f"{part}-{kind}-idx{3 if kind == 'images' else 1}-ubyte.gz"
            file.write_bytes(gzip.compress(content, mtime=0))
            known.append((file.name, hashlib.md5(file.read_bytes()).hexdigest()))
            if kind == "labels" and labels == "gone":
                file.unlink()
    return known
