"""Make one stage: run its notebook by papermill, or take the files of a stage that is the same.

python workflow/stage.py share SOURCE/metrics.json TARGET/metrics.json
python workflow/stage.py run GPUS PAPERMILL'S WORDS...
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fmnist_cluster.core import InputError
from fmnist_cluster.saving import hold


@contextmanager
def held(folder, timeout=0):
    "Keep a stage's folder as `Stage` does, for this process alone."
    busy = f"{folder} is being written by another process; wait for it, or give another run name."
    try:
        lock = hold(folder / ".lock", busy, timeout)
    except InputError as refusal:
        sys.exit(str(refusal))
    try:
        yield
    finally:
        lock.release()


def share(source, target):
    "Link, or else copy, the files of the complete stage `source` into `target`, metrics.json last."
    (target / "metrics.json").unlink(missing_ok=True)
    for old in target.iterdir():
        if old.name == ".lock":  # ours
            continue
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        else:
            old.unlink()
    files = [
        file
        for file in source.rglob("*")
        if file.is_file() and not file.name.startswith(".") and file.name != "benchmark.tsv"
    ]
    for file in sorted(files, key=lambda file: file == source / "metrics.json"):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        unfinished = copy.with_name(f".{copy.name}")
        try:
            os.link(file, unfinished)
        except OSError:
            shutil.copy2(file, unfinished)
        unfinished.replace(copy)


def clear_litter(folder):
    "Remove temporary files that a killed run of this stage left in its folder or beside it."
    for file in [*folder.rglob(".*-*"), *folder.parent.glob(".*-*")]:
        file.unlink()


def visible_gpus():
    "List the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    names = dict(line.split(", ") for line in listed.splitlines())
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (
        list(names.values())
        if allowed is None
        else [names.get(name, name) for name in allowed.split(",") if name]
    )


def hold_gpu(gpus):
    "Wait for one of these GPUs and hold it until this process ends; its name and the lock."
    while True:
        for gpu in gpus:
            name = f"fmnist_cluster-{os.getuid()}-{gpu}.lock"
            lock = FileLock(Path(tempfile.gettempdir()) / name, timeout=0)
            try:
                lock.acquire()
            except Timeout:
                continue
            return gpu, lock
        time.sleep(1)


def talk_through(folder):
    """Let papermill and its kernel talk through sockets in `folder`.

    Numbered ports, the default, are now and then given to two kernels that start together.
    """
    from papermill.engines import NBClientEngine, papermill_engines
    from traitlets.config import Config

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, *args, **kwargs):
            return super().execute_managed_notebook(
                *args,
                config=Config(KernelManager={"transport": "ipc", "ip": f"{folder}/kernel"}),
                **kwargs,
            )

    papermill_engines.register(None, Engine)


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    if what == "share":
        source, target = (Path(word).parent for word in words)
        with held(source, timeout=5), held(target):
            share(source, target)
    else:
        with held(Path(words[2]).parent):
            clear_litter(Path(words[2]).parent)
        if not int(words[0]):
            # a job that asked for no GPU takes none
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        elif gpus := visible_gpus():
            os.environ["CUDA_VISIBLE_DEVICES"], lock = hold_gpu(gpus)
        from papermill.cli import papermill

        with tempfile.TemporaryDirectory(prefix="fmnist_cluster-") as folder:
            talk_through(folder)
            papermill(words[1:], prog_name="papermill")
