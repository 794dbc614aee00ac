"The package's types agree, also inside functions that declare none; py.typed lets those who import it check theirs."

import pytest
from conftest import call


@pytest.fixture(scope="module")
def mypy(tmp_path_factory):
    "mypy as a function of its arguments; what it has learned of PyTorch is kept between two calls."
    cache = tmp_path_factory.mktemp("mypy")
    return lambda *words: call("-m", "mypy", "--cache-dir", cache, *words)


def test_types_agree(mypy):
    process = mypy()
    assert process.returncode == 0 and process.stdout.startswith("Success"), (
        process.stdout + process.stderr
    )


def test_a_wrong_type_is_found(mypy, tmp_path):
    "What a user writes is checked against the package: a name that is not there, and a result taken for another."
    wrong = "from fmnist_cluster.metrics import accuracy\nfrom fmnist_cluster.core import Stage\nlabel: str = accuracy([0], [0])\nStage.fitt\n"
    (tmp_path / "wrong.py").write_text(wrong)
    process = mypy(tmp_path / "wrong.py")
    assert (
        process.returncode == 1
        and "wrong.py:3" in process.stdout
        and "wrong.py:4" in process.stdout
    ), process.stdout + process.stderr
