"The package's types agree; py.typed lets those who import it check theirs."

import pytest
from conftest import call


@pytest.fixture(scope="module")
def mypy(tmp_path_factory):
    "Return mypy as a function; what it has learned of PyTorch is kept between two calls."
    cache = tmp_path_factory.mktemp("mypy")
    return lambda *words: call("-m", "mypy", "--cache-dir", cache, *words)


def test_types_agree(mypy):
    process = mypy()
    assert process.returncode == 0 and process.stdout.startswith("Success"), (
        process.stdout + process.stderr
    )


def test_a_wrong_type_is_found(mypy, tmp_path):
    "A user's code is checked against the package: a missing name, a result taken for another."
    lines = [
        "from fmnist_cluster.metrics import accuracy",
        "from fmnist_cluster.runs import Stage",
        "label: str = accuracy([0], [0])",
        "Stage.fitt",
    ]
    (tmp_path / "wrong.py").write_text("\n".join(lines))
    process = mypy(tmp_path / "wrong.py")
    assert (
        process.returncode == 1
        and "wrong.py:3" in process.stdout
        and "wrong.py:4" in process.stdout
    ), process.stdout + process.stderr
