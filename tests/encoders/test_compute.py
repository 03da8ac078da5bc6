import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmrec import compute
from mmrec.compute import available_cores, configure_threads, decoding_workers, pick_device, pick_dtype
from mmrec.errors import UsageError

CPU = torch.device("cpu")


def run(code: str, **variables: str) -> str:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("OMP_")}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=inherited | variables).stdout.strip()


def test_importing_changes_nothing_and_imports_no_torch():
    code = (
        "import os, sys; old = dict(os.environ); import mmrec.compute;"
        "print(old == dict(os.environ), 'torch' in sys.modules)"
    )
    assert run(code) == "True False"


@pytest.mark.slow
def test_threads_are_set_once_torch_is_there_and_sleep_while_they_wait():
    code = (
        "from mmrec.compute import configure_threads; threads = configure_threads(3); import os, torch;"
        "print(threads, torch.get_num_threads(), os.environ['OMP_WAIT_POLICY'])"
    )
    assert run(code) == "3 3 PASSIVE"
    assert run(code, OMP_WAIT_POLICY="ACTIVE") == "3 3 ACTIVE"


@pytest.mark.slow
def test_a_number_of_threads_that_a_launcher_sets_is_kept():
    code = (
        "from mmrec.compute import configure_threads; import torch; print(configure_threads(), torch.get_num_threads())"
    )
    cores = min(available_cores(), 16)
    for said, expected in (("5", 5), ("3,2", 3), ("", cores), ("0", cores), ("many", cores)):
        assert run(code, OMP_NUM_THREADS=said).splitlines()[-1] == f"{expected} {expected}"
    assert run(code.replace("configure_threads()", "configure_threads(2)"), OMP_NUM_THREADS="5") == "2 2"


def test_too_late_is_said():
    code = (
        "from mmrec.compute import let_waiting_threads_sleep; print(let_waiting_threads_sleep());"
        "import torch; print(let_waiting_threads_sleep())"
    )
    assert run(code).split() == ["True", "False"]


def test_no_threads_is_refused():
    with pytest.raises(UsageError, match="1 or more"):
        configure_threads(0)


def test_affinity_bounds_the_cores():
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); from mmrec.compute import *;"
        "print(available_cores(), decoding_workers())"
    )
    assert run(code) == "1 2"
    assert 1 <= available_cores() <= os.cpu_count()
    assert 2 <= decoding_workers() <= 16


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "garbage"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_a_container_s_quota_is_read(tmp_path: Path, files: dict[str, str], quota: float | None):
    for name, content in files.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
    assert compute._quota(tmp_path) == quota


def test_devices():
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type in {"cpu", "cuda", "mps"}
    for name in ("tpu", "cpu:1", "cuda:x", "", "cuda:"):
        with pytest.raises(UsageError, match=r"No device|has no"):
            pick_device(name)
    with pytest.raises(UsageError, match="Use --device auto"):
        pick_device("cuda:99")


def test_number_formats():
    assert pick_dtype("fp32", CPU) is torch.float32
    assert pick_dtype("bf16", torch.device("cuda")) is torch.bfloat16
    assert pick_dtype("fp16", torch.device("mps")) is torch.float16
    with pytest.raises(UsageError, match="only fp32"):
        pick_dtype("bf16", CPU)
    with pytest.raises(UsageError, match="Allowed: fp32, bf16, fp16"):
        pick_dtype("int8", CPU)


@pytest.mark.slow
def test_opening_a_store_settles_how_threads_wait(tmp_path: Path):
    code = (
        "import os, sys, mmrec; from mmrec.storage.layout import Layout; from pathlib import Path;"
        f"Layout(Path({str(tmp_path / 'store')!r})).create(); before = os.environ.get('OMP_WAIT_POLICY');"
        f"mmrec.open({str(tmp_path / 'store')!r});"
        "print(before, 'torch' in sys.modules, os.environ.get('OMP_WAIT_POLICY'))"
    )
    assert run(code) == "None False PASSIVE"
    assert run(code, OMP_WAIT_POLICY="ACTIVE") == "ACTIVE False ACTIVE"
    assert run(code, GOMP_SPINCOUNT="7") == "None False None"


@pytest.mark.slow
def test_where_it_is_too_late_a_query_uses_one_thread():
    code = (
        "import torch; torch.set_num_threads(2); from mmrec.compute import single_threaded\n"
        "with single_threaded(): print(torch.get_num_threads())\n"
        "print(torch.get_num_threads())"
    )
    assert run(code).split() == ["1", "2"]
    for name, value in (("OMP_NUM_THREADS", "2"), ("OMP_WAIT_POLICY", "PASSIVE")):
        assert run(code, **{name: value}).split() == ["2", "2"]
