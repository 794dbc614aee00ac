"A run that cannot be ends in one line, before anything is computed or written."

import pytest
import run as tool
from conftest import call, refusal


def book(runs, monkeypatch, **given):
    monkeypatch.setenv("FMNIST_CLUSTER_RUNS", str(runs))
    return tool.main(
        **dict(preset="quick", seeds=["42"], dataset="digits", run="", force=False) | given
    )


@pytest.mark.parametrize(
    "given, words",
    [
        ({"dataset": "cifar"}, ["DATASET", "'cifar'", "digits"]),
        ({"preset": "fast"}, ["PRESET", "'fast'", "quick"]),
        ({"seeds": ["-1"]}, ["SEED", "'-1'", "whole number"]),
        ({"seeds": ["042"]}, ["SEED", "'042'", "whole number"]),
        ({"seeds": ["42", "x"]}, ["SEED", "'x'", "whole number"]),
        ({"run": "../out"}, ["run", "'../out'", "letters"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_run_refuses(given, words, monkeypatch, tmp_path):
    refusal(lambda: book(tmp_path / "runs", monkeypatch, **given), *words)
    assert not (tmp_path / "runs").exists()


def test_run_refuses_a_device_that_is_not_there(monkeypatch, tmp_path):
    refusal(
        lambda: book(tmp_path / "runs", monkeypatch, changes=["07_pseudo_label.device=cuda:99"]),
        "cuda:99",
        "not on this machine",
    )


def test_run_refuses_a_folder_it_cannot_write(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    refusal(
        lambda: book(tmp_path / "file" / "runs", monkeypatch),
        "cannot be written",
        "FMNIST_CLUSTER_RUNS",
    )


def test_run_refuses_a_folder_in_use(monkeypatch, tmp_path):
    held = tool.hold(tmp_path / "quick" / "digits")
    refusal(lambda: book(tmp_path, monkeypatch), "in use by another", "RUN=")
    held.release()


def test_run_falls_back_to_digits_only_unasked(no_network, monkeypatch):
    "Never where a folder or a data set was named, and never for a damaged file."
    refusal(lambda: tool.pick_dataset(""), "was not found", str(no_network))
    monkeypatch.delenv("FMNIST_CLUSTER_DATA")  # the same folder is the project's own
    assert tool.pick_dataset("") == "digits"
    refusal(lambda: tool.pick_dataset("fashion_mnist"), "was not found", "dataset=digits")
    (no_network / "train-images-idx3-ubyte.gz").write_bytes(b"damaged")
    refusal(lambda: tool.pick_dataset(""), "is damaged", "train-images", "delete it")


def test_run_says_loudly_that_it_fell_back(no_network, monkeypatch, tmp_path, capsys):
    "Snakemake is left out; what stands before and after it is what is looked at."

    def ran(*_):
        folder = tmp_path / "runs/quick/digits/09_evaluation"
        folder.mkdir(parents=True)
        (folder / "comparison.csv").write_text("method,ACC\nkmeans,0.5\n")
        return 0

    monkeypatch.setattr(tool, "snakemake", ran)
    monkeypatch.delenv("FMNIST_CLUSTER_DATA")
    assert book(tmp_path / "runs", monkeypatch, dataset="") == 0
    shown = capsys.readouterr().out
    assert shown.count("***") == 4 and shown.index("***") < shown.index("kmeans") < shown.rindex(
        "***"
    )


def test_run_ends_in_one_line_and_not_zero(tmp_path):
    words = ["-m", "fmnist_cluster", "run", "--dataset", "cifar"]
    refused = call(*words, FMNIST_CLUSTER_RUNS=str(tmp_path / "runs"))
    assert refused.returncode == 1 and len(refused.stderr.strip().splitlines()) == 1
