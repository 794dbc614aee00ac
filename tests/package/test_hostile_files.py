"Nothing that is read can run code, and no name leads out of the runs folder."

import json
import pickle
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save as save_tensors

from fmnist_cluster import runs
from fmnist_cluster.ae_kmeans import AEKMeans
from fmnist_cluster.autoencoder import Autoencoder
from fmnist_cluster.baseline import RandomAssignment
from fmnist_cluster.core import InputError
from fmnist_cluster.runs import Stage, stage_folder
from fmnist_cluster.saving import load_artefact, save_artefact

# files


class Bomb:
    "Unpickled, it leaves a mark."

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def malicious(mark):
    "Return files that run code in readers that trust them."
    import io

    array, archive = io.BytesIO(), io.BytesIO()
    np.save(array, np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    torch.save(Bomb(mark), archive)
    return {
        "npy": array.getvalue(),
        "pickle": pickle.dumps(Bomb(mark)),
        "torch": archive.getvalue(),
    }


@pytest.mark.parametrize("kind", ["npy", "pickle", "torch"])
@pytest.mark.parametrize("ending", [".npy", ".json", ".csv"])
def test_a_malicious_artefact_is_only_data(kind, ending, tmp_path):
    mark, file = tmp_path / "it ran", tmp_path / f"labels{ending}"
    file.write_bytes(malicious(mark)[kind])
    try:
        load_artefact(file)
    except InputError as refusal:
        assert "is damaged" in str(refusal) and "\n" not in str(refusal)
    else:
        assert ending == ".csv"  # any bytes may be a table
    assert not mark.exists()


def test_the_forged_files_would_run_where_they_are_trusted(tmp_path):
    "Otherwise the test above would pass for nothing."
    mark = tmp_path / "it ran"
    (tmp_path / "a.npy").write_bytes(malicious(mark)["npy"])
    np.load(tmp_path / "a.npy", allow_pickle=bool(1))
    assert mark.exists()


@pytest.fixture(scope="module")
def model():
    "Fit a small model with all that a file can hold: network, arrays, plain values, a model."
    return AEKMeans(
        2,
        autoencoder=Autoencoder(2, hidden=(3,), epochs=1, device="cpu", random_state=0),
        n_init=1,
        device="cpu",
        random_state=0,
    ).fit(np.random.default_rng(0).random((20, 4)))


def forged(folder, model, *, content=None, resign=True, **changes):
    "Save the model with other tensors or facts; `resign` mends the checksums, as a forger would."
    import hashlib

    model.save(folder)
    if content is not None:
        (folder / "model.safetensors").write_bytes(content)
    facts = json.loads((folder / "config.json").read_text())
    facts |= changes | (
        {"tensors": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()}
        if resign
        else {}
    )
    save_artefact(folder / "config.json", facts)
    return folder


def refused(folder):
    with pytest.raises(InputError) as caught:
        AEKMeans.load(folder)
    assert "\n" not in str(caught.value), caught.value
    return str(caught.value)


def header(value):
    return struct.pack("<Q", len(value)) + value


@pytest.mark.parametrize(
    "tensors",
    [
        b"",
        b"\x00" * 7,
        struct.pack("<Q", 2**63),
        header(b"{" * 5000),
        header(b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,9999999]}}'),
        header(b'{"a":{"dtype":"F32","shape":[999999999999],"data_offsets":[0,8]}}') + b"\x00" * 8,
        header(b"[]"),
        save_tensors({"predict": torch.zeros(1)}),
        save_tensors({"__class___": torch.zeros(1)}),
        save_tensors({"network_.encoder.0.weight": torch.zeros(1)}),
        save_tensors({"other_.weight": torch.zeros(1)}),
    ],
    ids=[
        "empty",
        "short",
        "endless header",
        "deep header",
        "offsets beyond the end",
        "too large a shape",
        "a list",
        "a method",
        "the class",
        "a network of other size",
        "another network",
    ],
)
def test_malicious_tensors_are_refused(tensors, model, tmp_path):
    assert "cannot be read" in refused(forged(tmp_path, model, content=tensors))


def test_pickled_tensors_are_refused(model, tmp_path):
    mark = tmp_path / "it ran"
    for kind, content in malicious(mark).items():
        refused(forged(tmp_path / kind, model, content=content))
    assert not mark.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"class": "os.system"},
        {"class": None},
        {"class": ["AEKMeans"]},
        {"parameters": {"nonsense": 1}},
        {"parameters": None},
        {
            "parameters": {
                "autoencoder": {"class": "subprocess.Popen", "parameters": {"args": "id"}}
            }
        },
        {"fitted": {"predict": "x"}},
        {"fitted": {"_build_network": 1}},
        {"fitted": {"__class__": "x"}},
        {"fitted": {"__dict__": {}}},
        {"fitted": None},
        {
            "parameters": {
                "autoencoder": {"class": "Autoencoder", "parameters": {"hidden": [10**15]}}
            }
        },
        {"parameters": {"autoencoder": {"class": "Autoencoder", "parameters": {"hidden": "abc"}}}},
        {
            "parameters": {
                "autoencoder": {"class": "Autoencoder", "parameters": {"n_components": -1}}
            }
        },
        {"tensors": "0" * 64},
    ],
    ids=lambda changes: re.sub(r"[^\w.:-]+", " ", json.dumps(changes)).strip()[:60],
)
def test_malicious_facts_are_refused(changes, model, tmp_path):
    refused(forged(tmp_path, model, resign="tensors" not in changes, **changes))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"class":' * 100_000,
        "NaN",
        "[]",
        '"AEKMeans"',
        "1" * 5000,
        '{"sha256": 1}',
        "\ud800".encode("utf-16", "surrogatepass").decode("latin-1"),
    ],
    ids=[
        "deep list",
        "deep dict",
        "NaN",
        "a list",
        "text",
        "endless number",
        "no facts",
        "not UTF-8",
    ],
)
def test_malicious_json_is_refused(text, model, tmp_path):
    (model.save(tmp_path) / "config.json").write_text(text, encoding="latin-1")
    refused(tmp_path)


def test_a_link_is_replaced_and_not_written_through(tmp_path):
    (tmp_path / "precious.json").write_text("precious")
    (tmp_path / "facts.json").symlink_to(tmp_path / "precious.json")
    save_artefact(tmp_path / "facts.json", {})
    assert (tmp_path / "precious.json").read_text() == "precious" and not (
        tmp_path / "facts.json"
    ).is_symlink()


# names

generated = settings(
    max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
PIECES = [
    "..",
    ".",
    "/",
    "\\",
    "~",
    "$HOME",
    "\0",
    "\n",
    "\r",
    " ",
    "-",
    "--force",
    "%2e%2e",
    "a",
    "Z9",
    "\u00e9",
    "\u202e",
    "\u2025",
    "\uff0f",
    "|",
    ";",
    "*",
    "C:",
    "con",
    "x" * 101,
    "seed=1",
]
nasty = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=5).map("".join),
    st.text(max_size=9),
    st.sampled_from([None, 1, 1.5, True, b"run", Path("run"), ["run"]]),
)


@generated
@given(run=nasty, dataset=nasty, chapter=nasty, seed=st.one_of(st.integers(), nasty))
def test_no_name_leads_out_of_the_runs_folder(run, dataset, chapter, seed):
    root = runs.runs_root().resolve()
    for names in (
        (run, "digits", "03_baseline", 0),
        ("r", dataset, "03_baseline", 0),
        ("r", "digits", chapter, 0),
        ("r", "digits", "03_baseline", seed),
    ):
        try:
            folder = stage_folder(names[0], names[1], names[3], names[2])
        except InputError as refusal:
            assert "\n" not in str(refusal) and "expected" in str(refusal)
            continue
        assert folder.resolve().is_relative_to(root) and len(
            folder.resolve().relative_to(root).parts
        ) == 3 + (names[3] is not None)


@generated
@given(name=nasty.filter(lambda name: isinstance(name, str)))
def test_no_artefact_leads_out_of_its_stage(name):
    stage = Stage("03_baseline", dataset="digits", seed=0, run="names")
    try:
        path = runs._inside(stage.folder, name)
    except (InputError, ValueError) as refusal:
        assert isinstance(refusal, InputError) or "\0" in name
        return
    assert path.resolve().is_relative_to(stage.folder.resolve())


@pytest.mark.parametrize(
    "where",
    [
        "r",
        "r/digits",
        "r/digits/seed=0",
        "r/digits/seed=0/03_baseline",
        "r/digits/seed=0/03_baseline/kmeans",
    ],
)
def test_a_link_that_leads_out_is_refused(where, tmp_path, monkeypatch):
    runs, outside = tmp_path / "runs", tmp_path / "outside"
    outside.mkdir()
    (runs / where).parent.mkdir(parents=True)
    (runs / where).symlink_to(outside, target_is_directory=True)
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(runs))
    with pytest.raises(InputError, match="leads out of .* set FMNIST_CLUSTER_RUNS"):
        Stage("03_baseline", dataset="digits", seed=0, run="r").fit(
            "kmeans", RandomAssignment(2), np.eye(4)
        )
    assert list(outside.iterdir()) == []


def test_the_runs_folder_itself_may_be_a_link(tmp_path, monkeypatch):
    (tmp_path / "large disk").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "large disk", target_is_directory=True)
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(tmp_path / "runs"))
    Stage("03_baseline", dataset="digits", seed=0, run="r").finish()
    assert (tmp_path / "large disk/r/digits/seed=0/03_baseline/metrics.json").exists()
