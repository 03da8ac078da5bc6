"""Running a script in one process or in several, as a person would."""

import os
import subprocess
import sys
from pathlib import Path

LAUNCHERS = {
    "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    "accelerate": [
        # With --cpu it starts one process, whatever it is told; the devices are for the job to say.
        *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"),
    ],
}


def launch(launcher, job: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script with a launcher's arguments before it; return what it said."""
    root = Path(__file__).resolve().parents[1]
    paths = os.pathsep.join([str(root), str(root / "tests"), os.environ.get("PYTHONPATH", "")])
    settings = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [sys.executable, *launcher, str(job), *arguments],
        capture_output=True,
        text=True,
        env=settings,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done
