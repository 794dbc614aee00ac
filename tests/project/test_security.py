"No program runs what it reads, and nothing that is committed says who made it."

import ast
import configparser
import json
import re

import pytest
import yaml
from conftest import ROOT, git
from safetensors.torch import load as load_tensors

# code

NOTEBOOKS = sorted((ROOT / "nbs").glob("*.ipynb"))
MODULES = [
    file
    for folder in ("fmnist_cluster", "tools", "workflow", "tests", "benchmarks")
    for file in sorted((ROOT / folder).rglob("*.py"))
] + [ROOT / "setup.py"]
FORBIDDEN_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "shelve", "marshal", "jsonpickle"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "torch.load",
    "torch.save",
    "torch.hub.load",
    "joblib.load",
    "joblib.dump",
    "yaml.unsafe_load",
    "yaml.full_load",
    "pd.read_pickle",
    "pandas.read_pickle",
    "np.fromregex",
    "ctypes.CDLL",
}
# what forges the malicious files, and what pickles only what it has made itself
ALLOWED = {
    "tests/package/test_hostile_files.py": ("import pickle", "torch.save(", "allow_pickle="),
    "tests/package/test_classes.py": ("import pickle",),
}


def programs():
    "Yield every Python text of the project: its files, and each notebook without line magics."
    for file in MODULES:
        yield file.relative_to(ROOT).as_posix(), file.read_text()
    for file in NOTEBOOKS:
        cells = [
            "".join(cell["source"])
            for cell in json.loads(file.read_text())["cells"]
            if cell["cell_type"] == "code"
        ]
        yield (
            file.relative_to(ROOT).as_posix(),
            "\n".join(re.sub(r"(?m)^\s*[%!].*$", "", source) for source in cells),
        )


def dangers(text):
    "Yield what in a program could run code that came as data, each with its line."
    for node in ast.walk(ast.parse(text)):
        names = (
            [name.name for name in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        yield from (
            f"{node.lineno}: import {name}"
            for name in names
            if name.split(".")[0] in FORBIDDEN_MODULES
        )
        if isinstance(node, ast.Call):
            called, given = (
                ast.unparse(node.func),
                {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords},
            )
            unsafe = (
                called in FORBIDDEN_CALLS
                or given.get("shell", "False") != "False"
                or given.get("allow_pickle", "False") != "False"
            )
            if called == "yaml.load":
                unsafe |= "SafeLoader" not in ast.unparse(node)
            if unsafe:
                yield f"{node.lineno}: {ast.unparse(node)[:80]}"


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from dill import loads",
        "torch.load(f)",
        "joblib.load(f)",
        "np.load(f, allow_pickle=True)",
        "eval(x)",
        "exec(x)",
        "yaml.load(f)",
        "yaml.load(f, yaml.Loader)",
        "subprocess.run(x, shell=True)",
        "pd.read_pickle(f)",
    ],
)
def test_the_search_finds(text):
    assert list(dangers(text))


@pytest.mark.parametrize(
    "text",
    [
        "network.eval()",
        "re.compile(x)",
        "np.load(f, allow_pickle=False)",
        "yaml.safe_load(f)",
        "yaml.load(f, Loader=yaml.SafeLoader)",
    ],
)
def test_the_search_leaves_alone(text):
    assert not list(dangers(text))


@pytest.mark.parametrize(
    "name, text", list(programs()), ids=lambda value: value if "\n" not in value else ""
)
def test_no_program_runs_what_it_reads(name, text):
    allowed = ALLOWED.get(name, ())
    assert [found for found in dangers(text) if not any(word in found for word in allowed)] == []


# what is committed

SECRETS = re.compile(
    r"gh[pousr]_\w{20}|github_pat_\w{20}|hf_[A-Za-z]{20}|AKIA[A-Z0-9]{16}|xox[abp]-\w|pypi-AgE\w"
    r"|sk-\w{20}|-----BEGIN [A-Z ]*PRIVATE KEY|Bearer [\w.-]{20}"
)
PERSONAL = re.compile(
    r"(?<![\w.])/(?:root|home|tmp|work|Users|mnt|media|private|var/folders)/[\w.-]+"
    r"|[A-Za-z]:\\+Users|\b[\w.+-]+@(?!users\.noreply\b)[\w-]+\.(?:com|org|net|edu|de|kr)\b"
)


def committed():
    "Return the files that git knows."
    names = git("ls-files", "-z").split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_says_nothing_of_its_author(file):
    "Outputs included; pictures are base64, which may spell anything."
    notebook = json.loads(file.read_text())
    for output in (output for cell in notebook["cells"] for output in cell.get("outputs", [])):
        output.get("data", {}).pop("image/png", None)
    text, facts = json.dumps(notebook, ensure_ascii=False), notebook["metadata"]
    assert PERSONAL.findall(text) + SECRETS.findall(text) == []
    assert (
        set(facts) <= {"kernelspec", "language_info"}
        and facts.get("kernelspec", {}).get("name", "python3") == "python3"
    )


def test_no_secret_is_committed():
    found = {
        file.name: match[0][:12]
        for file in committed()
        if file.name != "test_security.py"
        and (match := SECRETS.search(file.read_bytes().decode("latin-1")))
    }
    assert found == {}


def test_no_model_or_data_in_a_format_that_runs_code():
    assert [
        file.name
        for file in committed()
        if file.suffix in {".pkl", ".pickle", ".pt", ".pth", ".joblib", ".bin", ".h5", ".npz"}
    ] == []


def test_every_committed_tensor_file_is_safetensors():
    for file in (file for file in committed() if file.suffix == ".safetensors"):
        load_tensors(file.read_bytes())


# what is installed

LOCKS = sorted(ROOT.glob("requirements*.lock"))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_requirement_is_pinned_with_hashes(lock):
    blocks = re.split(
        r"\n(?=[\w.-]+(?:\[[\w,-]+\])?==)", re.sub(r"(?m)^\s*#.*\n", "", lock.read_text())
    )
    blocks = [block for block in blocks if block.strip()]
    assert (
        len(blocks) > 20
        and [
            block.splitlines()[0]
            for block in blocks
            if not re.search(r"--hash=sha256:[0-9a-f]{64}", block)
        ]
        == []
    )
    assert [
        line
        for line in lock.read_text().splitlines()
        if re.match(r"-e |--(?!hash)|\S+ @ |git\+", line)
    ] == []


def test_what_is_held_is_held_exactly():
    "nbdev and its companions: with others it does not start."
    settings = configparser.ConfigParser()
    settings.read(ROOT / "settings.ini")
    pinned = dict(
        re.findall(
            r"(nbdev|fastcore|execnb|ghapi|fastgit)==([\d.]+)",
            settings["DEFAULT"]["dev_requirements"],
        )
    )
    assert len(pinned) == 5 and all(
        re.search(rf"(?m)^{name}=={re.escape(version)}\b", (ROOT / "requirements.lock").read_text())
        for name, version in pinned.items()
    )


# the workflows

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.y*ml"))


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_a_workflow_runs_only_what_is_pinned(file):
    """Each action by the commit of a release that is named beside it.

    What a stranger may write never stands in a command.
    """
    used = re.findall(r"uses:\s*(\S+)(.*)", file.read_text())
    assert (
        used
        and [
            name
            for name, note in used
            if not re.search(r"@[0-9a-f]{40}$", name) or not re.search(r"# v\d+\.\d+\.\d+$", note)
        ]
        == []
    )
    assert len({name.partition("@")[0]: name for name, _ in used}) == len(
        {name for name, _ in used}
    ), "one action at two commits"
    workflow = yaml.safe_load(file.read_text())
    commands = [
        step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step
    ]
    assert [command for command in commands if "${{" in command] == []
    assert "pull_request_target" not in file.read_text() and all(
        "timeout-minutes" in job or "deploy" in name for name, job in workflow["jobs"].items()
    )
