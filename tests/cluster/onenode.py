"""A real SLURM on this machine's loopback, in a folder of its own: munge, a controller, one node.

Nothing in /etc is read or written; no systemd, cgroups or database. Two partitions: jobs of
`urgent` push those of `main` back into the queue, with SLURM's warning and a time of grace.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
GPUS = 2

CONF = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={home}/munge.socket
CredType=cred/munge
CommunicationParameters=NoInAddrAny
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,bf_interval=1
ReturnToService=2
JobRequeue=1
MinJobAge=3600
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 Port={node_port} CPUs={cpus} RealMemory={memory} Gres=gpu:{gpus}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=120
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


class Missing(Exception):
    """Why there can be no SLURM here."""


@dataclass
class OneNode:
    """The daemons and what a process needs to reach them."""

    home: Path
    cpus: int = 4
    """Counted, not enforced."""

    @property
    def env(self) -> Mapping[str, str]:
        return {"SLURM_CONF": str(self.home / "slurm.conf")}

    def start(self) -> None:
        """Brings it up, and waits until the node takes jobs.

        Raises:
            Missing: With the reason why not.
        """
        install()
        for name in ("state", "spool", "dev"):
            (self.home / name).mkdir(parents=True, exist_ok=True)
        self._configure()
        key = self.home / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        munge = {"key-file": key, "socket": "munge.socket", "seed-file": "munge.seed"}
        munge |= {"log-file": "munged.log", "pid-file": "munged.pid"}
        named = [f"--{name}={self.home / str(place)}" for name, place in munge.items()]
        self.call("munged", "--force", "--num-threads=2", *named)
        self.call("slurmctld", "-c")
        self.call("slurmd", "-c")
        until = time.monotonic() + 240
        while set(self.call("sinfo", "-h", "-N", "-o", "%T", check=False).split()) != {"idle"}:
            if time.monotonic() > until:
                self.stop()
                raise Missing(f"the node is not ready: {self.call('sinfo', '-N', check=False)}")
            time.sleep(0.3)

    def _configure(self) -> None:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            two.bind(("127.0.0.1", 0))
            ports = one.getsockname()[1], two.getsockname()[1]
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
        host = socket.gethostname().partition(".")[0]
        text = CONF.format(
            **{"host": host, "home": self.home, "port": ports[0], "node_port": ports[1]},
            **{"cpus": self.cpus, "memory": int(memory * 0.8), "gpus": GPUS},
        )
        (self.home / "slurm.conf").write_text(text)
        # slurmd wants character devices: these are as good as GPUs to it, and to /dev/null.
        for number in range(GPUS):
            with suppress(FileExistsError):
                os.mknod(self.home / "dev" / f"gpu{number}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        devices = self.home / "dev" / f"gpu[0-{GPUS - 1}]"
        (self.home / "gres.conf").write_text(f"Name=gpu File={devices}\n")

    def call(self, *command: str, check: bool = True) -> str:
        """Runs one of SLURM's programs; returns what it printed."""
        done = subprocess.run(
            command, env={**os.environ, **self.env}, capture_output=True, text=True, timeout=1800
        )
        if check and done.returncode:
            raise Missing(f"{' '.join(command)}: {done.stderr or done.stdout}")
        return done.stdout

    def hurry(self) -> None:
        """Lets jobs that were put back start soon; SLURM would hold them for two minutes.

        Not at once: a node refuses a job whose credential it has revoked in the same second.
        """
        asked = self.call("squeue", "-h", "-t", "PENDING", "-r", "-o", "%i %S %r")
        for job, start, reason in (line.split(" ", 2) for line in asked.splitlines()):
            if reason != "BeginTime" or start == "N/A":
                continue
            if datetime.fromisoformat(start) - datetime.now() > timedelta(seconds=10):
                self.call("scontrol", "update", f"JobId={job}", "StartTime=now+5", check=False)

    def stop(self) -> None:
        """Ends all jobs and the daemons, by their process numbers."""
        with suppress(Missing, subprocess.TimeoutExpired):
            self.call("scancel", "--user=root", check=False)
            time.sleep(1.0)
        for name in ("slurmd", "slurmctld", "munged"):
            with suppress(OSError, ValueError):
                os.kill(int((self.home / f"{name}.pid").read_text()), signal.SIGTERM)


def install() -> None:
    """Installs the programs where that is possible.

    Raises:
        Missing: If they are not there, and cannot be had.
    """
    if os.geteuid() != 0:
        raise Missing("SLURM's daemons need root")
    if not absent():
        return
    if shutil.which("apt-get") is None:
        raise Missing(f"not installed, and no apt-get: {', '.join(absent())}")
    quiet = ("apt-get", "-qq", "-o", "Dpkg::Use-Pty=0")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        (*quiet, "update"),
        (*quiet, "install", "-y", "--no-install-recommends", "slurm-wlm", "munge"),
    ):
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=1800)
        if done.returncode:
            raise Missing(f"{' '.join(command)}: {done.stderr.strip()[-200:]}")
    if absent():
        raise Missing(f"not installed: {', '.join(absent())}")


def absent() -> Sequence[str]:
    """Returns the programs that are not there."""
    places = f"{os.environ.get('PATH', '')}:/usr/sbin"
    return [name for name in PROGRAMS if shutil.which(name, path=places) is None]
