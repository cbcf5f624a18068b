"""A real SLURM for tests: one node, which is this machine; its own ports and folder, gone when they end."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

import psutil
import pytest

from tests.hospital.orthanc import free_ports

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
REQUIRED = "VIRTUAL_STAINING_REQUIRE_SLURM"  # .ci/run sets it: what cannot run fails
PATIENCE_S = 60.0
GPUS = ("/dev/null", "/dev/zero")  # SLURM asks only that the files are there

# no cgroups, no accounting, nothing that only systemd gives; jobs start as soon as they can
CONFIGURATION = """\
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MailProg=/bin/true
MpiDefault=none
KillWait=2
ReturnToService=2
SchedulerParameters=batch_sched_delay=0
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName=node NodeHostname=localhost NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} Gres=gpu:{gpus}
PartitionName=gpu Nodes=node Default=YES MaxTime=INFINITE State=UP
"""


def needs_slurm() -> None:
    """Skip a test, or fail it in CI, where SLURM is not installed."""
    # daemons are in sbin, which is not on every user's path
    if all(_program(name) for name in PROGRAMS):
        return
    reason = "NOT TESTED, for this machine has no SLURM (apt-get install slurmctld slurmd slurm-client munge)"
    if os.environ.get(REQUIRED):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


class Slurm:
    """A running SLURM of one node; a context manager. Tests reach it by ``SLURM_CONF``, which it sets.

    Its one partition is ``gpu``.

    Args:
        folder: of its state, its logs and its keys; it is new each time. Its path is short: a socket lies in it.
        cpus: that the node says it has, whatever it has.
        memory_mb: likewise.

    Attributes:
        conf: its configuration.
    """

    def __init__(self, folder: Path, cpus: int = 16, memory_mb: int = 64000) -> None:
        self.folder, self.conf = folder, folder / "slurm.conf"
        self.cpus, self.memory_mb = cpus, memory_mb
        self.daemons: dict[str, subprocess.Popen] = {}
        self._before: str | None = None

    def _configure(self) -> None:
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)  # munged asks it of the folder of its socket
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        controller_port, node_port = free_ports(2)
        self.conf.write_text(
            CONFIGURATION.format(
                controller_port=controller_port,
                node_port=node_port,
                user=getpass.getuser(),
                folder=self.folder,
                cpus=self.cpus,
                memory_mb=self.memory_mb,
                gpus=len(GPUS),
            )
        )
        gres = "".join(f"NodeName=node Name=gpu File={file}\n" for file in GPUS)
        (self.folder / "gres.conf").write_text(gres)

    def _daemon(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [_program(name) or name, *arguments]
            self.daemons[name] = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def start(self) -> Slurm:
        """Start its three daemons, and wait until the node is idle.

        Raises:
            RuntimeError: if it does not become so, with what the daemons said.
        """
        self._configure()
        self._before = os.environ.get("SLURM_CONF")
        os.environ["SLURM_CONF"] = str(self.conf)
        munge = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid", "seed-file": "munge.seed"}
        files = [f"--{option}={self.folder / name}" for option, name in munge.items()]
        self._daemon("munged", "--foreground", "--force", *files)
        self._until(lambda: (self.folder / "munge.socket").exists())
        self._daemon("slurmctld", "-D", "-f", str(self.conf))
        self._daemon("slurmd", "-D", "-N", "node", "-f", str(self.conf))
        self._until(lambda: self.asked("sinfo", "--noheader", "--format=%t") == "idle")
        return self

    def _until(self, what: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not what():
            dead = [name for name, daemon in self.daemons.items() if daemon.poll() is not None]
            if dead or time.monotonic() > end:
                said = "\n".join(path.read_text()[-1500:] for path in self.folder.glob("*.log"))
                self.stop()
                raise RuntimeError(f"SLURM did not start or end ({', '.join(dead) or 'no answer'}): {said}")
            time.sleep(0.05)

    def asked(self, *command: str) -> str:
        """What one of its commands prints; nothing where it fails."""
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S).stdout.strip()

    def jobs(self) -> list[str]:
        """Numbers of the jobs that run or wait."""
        return self.asked("squeue", "--noheader", "--format=%A").split()

    def processes(self) -> Sequence[psutil.Process]:
        """All that it has started and that still runs: each has its ``SLURM_CONF``, and is of another session."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = os.getsid(process.pid) == os.getsid(0)  # as what serves other tests, and we ourselves
                if not ours and process.environ().get("SLURM_CONF") == str(self.conf):
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def stop(self) -> None:
        """End its jobs, its daemons and whatever is left of them."""
        if {"slurmctld", "slurmd"} <= set(self.daemons):
            self.asked("scancel", *self.jobs())
            end = time.monotonic() + 10
            while self.jobs() and time.monotonic() < end:
                time.sleep(0.1)
        for daemon in reversed(self.daemons.values()):
            daemon.send_signal(signal.SIGTERM)
        for daemon in self.daemons.values():
            try:
                daemon.wait(5)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self.daemons = {}
        for process in self.processes():
            process.kill()
        if self._before is None:
            os.environ.pop("SLURM_CONF", None)
        else:
            os.environ["SLURM_CONF"] = self._before

    def __enter__(self) -> Slurm:
        """Start it."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it."""
        self.stop()
