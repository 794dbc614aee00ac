"A sweep on SLURM: a real slurmctld, slurmd and munged, one node, this machine."

import os
import shutil
import socket
import subprocess
import time

import pytest
import yaml
from conftest import ROOT, call
from small_book import environment

NEEDED = ("slurmctld", "slurmd", "munged", "sbatch")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        os.name != "posix" or os.geteuid() != 0 or not all(map(shutil.which, NEEDED)),
        reason=f"needs root and {', '.join(NEEDED)}",
    ),
]

CONF = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
MinJobAge=3600
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=8000
PartitionName=main Nodes=ALL Default=YES State=UP
"""


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    "Start a cluster of one node; the environment to use it in."
    folder, host = tmp_path_factory.mktemp("slurm"), socket.gethostname().partition(".")[0]
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(64))
    (folder / "munge.key").chmod(0o600)
    (folder / "slurm.conf").write_text(
        CONF.format(folder=folder, host=host, ports=[free_port(), free_port()], cpus=os.cpu_count())
    )
    # the executor takes SLURM_* from a job's steps
    (folder / "bin/srun").write_text(
        f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n'
    )
    (folder / "bin/srun").chmod(0o755)
    use = os.environ | {
        "SLURM_CONF": str(folder / "slurm.conf"),
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
    }
    munge = [
        "munged",
        "--force",
        "--foreground",
        *(f"--{name}={folder}/munge.{name}" for name in ("socket",)),
        f"--key-file={folder}/munge.key",
        f"--pid-file={folder}/munged.pid",
        f"--log-file={folder}/munged.log",
        f"--seed-file={folder}/munge.seed",
    ]
    daemons = []
    for words in (munge, ["slurmctld", "-D"], ["slurmd", "-D"]):
        daemons.append(
            subprocess.Popen(
                words,
                env=use,
                stdout=open(folder / f"{words[0]}.out", "w"),
                stderr=subprocess.STDOUT,
            )
        )
        time.sleep(1)
    for _ in range(60):
        if (
            "idle"
            in subprocess.run(["sinfo", "-h"], env=use, capture_output=True, text=True).stdout
        ):
            break
        time.sleep(1)
    else:
        pytest.fail("".join(file.read_text() for file in folder.glob("*.out")))
    yield use
    for daemon in reversed(daemons):
        daemon.terminate()
        daemon.wait(30)


def test_a_sweep_on_slurm(slurm, small_project, tmp_path):
    "Every stage is a job of its own, equal ones are shared; one that fails stops no other."
    runs, profile = tmp_path / "runs", tmp_path / "slurm"
    options = yaml.safe_load((ROOT / "workflow/profiles/slurm/config.yaml").read_text())
    profile.mkdir()
    # no accounting here; and less patience than a real cluster needs
    options |= {
        "slurm-status-command": "squeue",
        "slurm-init-seconds-before-status-checks": 2,
        "latency-wait": 10,
        "default-resources": {"mem_mb": 1000, "runtime": 60},
    }
    (profile / "config.yaml").write_text(yaml.safe_dump(options))
    (tmp_path / "three.csv").write_text(
        "run,dataset,preset,seeds,06_second.factor\none,digits,quick,42,\nbroken,digits,quick,42,0\ntwo,digits,quick,42,3\n"
    )
    swept = call(
        "-m",
        "fmnist_cluster",
        "sweep",
        tmp_path / "three.csv",
        "--profile",
        profile,
        "--threads",
        "1",
        cwd=small_project,
        **{name: slurm[name] for name in ("SLURM_CONF", "PATH")},
        **environment(small_project, runs),
    )
    assert all((runs / name / "digits/report.html").exists() for name in ("one", "two")), (
        swept.stdout + swept.stderr
    )
    assert swept.returncode == 1 and swept.stderr.startswith(
        "\n06_second failed: InputError: factor is 0; expected another number.\n  cell     ["
    )
    assert (
        len(
            {
                (runs / name / "digits/seed=42/03_first/drawn.npy").stat().st_ino
                for name in ("one", "broken", "two")
            }
        )
        == 1
    )
    jobs = subprocess.run(
        ["squeue", "--states=all", "--noheader", "--format=%T"],
        env=slurm,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert sorted(jobs) == ["COMPLETED"] * 9 + ["FAILED"], "3 + 3 + 2 chapters and 2 reports"
