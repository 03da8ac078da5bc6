"""Whatever a decoder does in its process, it costs one content. The accidents are real files, not stand-ins."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hostile_drawings import crashing, endless
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmrec.decoding import isolated, worker
from mmrec.decoding.decode import decode
from mmrec.decoding.isolated import Pool, decode_isolated
from mmrec.decoding.limits import Limits
from mmrec.errors import DecoderLostError, DecodingError, MediaError
from mmrec.types import Modality, Waveform

HERE = Path(__file__).parent


def picture(side: int = 64, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (side, side + 7, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def sound(seconds: float = 0.5) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.sin(np.arange(int(16_000 * seconds)) / 9) / 2, 16_000, format="FLAC")
    return out.getvalue()


@pytest.fixture
def pool():
    made = Pool(2)
    yield made
    made.close()


def pids(pool: Pool) -> set[int]:
    return {one._process.pid for one in pool._waiting}


def wait_until(true, seconds=20.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_contents_are_those_that_decoding_right_here_gives(pool):
    for data in (picture(), picture(1500, "JPEG"), picture(40, "GIF")):
        there = pool.decode(Modality.IMAGE, data, Limits())
        assert there.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(there), np.asarray(decode(Modality.IMAGE, data)))
    for data in (b"", b"\x89PNG\r\n", picture()[:300]):
        reasons = []
        for way in (decode, pool.decode):
            with pytest.raises(MediaError) as caught:
                way(Modality.IMAGE, data, Limits())
            reasons.append(str(caught.value))
        assert reasons[0] == reasons[1]
    here, there = decode(Modality.AUDIO, sound()), pool.decode(Modality.AUDIO, sound(), Limits())
    assert here.rate == there.rate
    np.testing.assert_array_equal(here.samples, there.samples)
    assert len(pids(pool)) == 1


def test_texts_need_no_process(monkeypatch):
    monkeypatch.setattr(isolated, "Worker", None)
    assert decode_isolated(Modality.TEXT, b"words") == "words"


def test_a_crash_costs_the_content_that_made_it(pool):
    for _ in range(2):
        with pytest.raises(MediaError, match=r"The decoder crashes on it \(SIG") as caught:
            pool.decode(Modality.IMAGE, crashing(), Limits())
        assert not isinstance(caught.value, DecoderLostError)
        assert pool.decode(Modality.IMAGE, picture(), Limits()).size == (71, 64)


def test_a_content_without_end_is_refused_once_its_time_is_up(pool):
    with pytest.raises(MediaError, match=r"longer than the limit of 0\.5 seconds"):
        pool.decode(Modality.IMAGE, endless(), Limits(max_decoding_seconds=0.5))
    assert pool.decode(Modality.IMAGE, picture(), Limits()).size == (71, 64)


def test_a_content_that_stands_still_is_to_be_tried_another_time(pool, monkeypatch):
    asleep = "from mmrec.decoding import decode, process; import time; process._LEAST_WALL_SECONDS = 0.5;"
    asleep += "decode.decoder_of = process.decoder_of = lambda modality: lambda data, limits: time.sleep(60);"
    monkeypatch.setattr(worker, "_PROGRAM", worker._PROGRAM.replace("from", asleep + "from", 1))
    with pytest.raises(DecoderLostError, match="made no headway"):
        pool.decode(Modality.IMAGE, picture(), Limits(max_decoding_seconds=0.05))


def test_a_content_that_takes_too_much_memory_is_refused(pool):
    out = io.BytesIO()
    Image.new("RGBA", (9000, 9000), (9, 9, 9, 9)).save(out, "PNG", compress_level=1)
    with pytest.raises(MediaError, match=r"limit of 700,000,000 bytes of memory"):
        pool.decode(Modality.IMAGE, out.getvalue(), Limits(max_memory=700_000_000))
    assert pool.decode(Modality.IMAGE, picture(), Limits()).size == (71, 64)


@pytest.mark.slow
def test_neighbours_of_a_content_that_crashes_or_hangs_are_none_the_wiser(pool):
    accidents = {3: crashing(), 7: endless(), 11: crashing(), 17: endless()}
    limits = Limits(max_decoding_seconds=1)

    def work(number: int) -> object:
        try:
            return pool.decode(Modality.IMAGE, accidents.get(number, picture(32 + number)), limits).size
        except MediaError as error:
            return type(error)

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(work, range(24)))
    assert found == [MediaError if n in accidents else (39 + n, 32 + n) for n in range(24)]
    assert len(pids(pool)) <= 2


def kill_what_decodes(monkeypatch, times: int) -> None:
    """Have the process killed while it decodes, so often."""
    started = worker.Worker.decode

    def killed(self, modality, data, limits):
        nonlocal times
        times -= 1
        if times >= 0:
            threading.Timer(0.3, os.kill, (self._process.pid, signal.SIGKILL)).start()
            data = endless()
        return started(self, modality, data, limits)

    monkeypatch.setattr(worker.Worker, "decode", killed)


def test_a_process_that_is_killed_once_is_replaced(pool, monkeypatch):
    kill_what_decodes(monkeypatch, times=1)
    assert pool.decode(Modality.IMAGE, picture(), Limits()).size == (71, 64)


def test_a_content_whose_process_is_killed_twice_is_to_be_tried_another_time(pool, monkeypatch):
    kill_what_decodes(monkeypatch, times=2)
    with pytest.raises(DecoderLostError, match="was killed"):
        pool.decode(Modality.IMAGE, picture(), Limits())


def test_a_process_that_stands_still_is_ended(pool, monkeypatch):
    pool.decode(Modality.IMAGE, picture(), Limits())
    monkeypatch.setattr(worker, "_GRACE_SECONDS", 0.2)
    monkeypatch.setattr(worker, "wall_clock_limit", lambda granted: 2.0)
    (stopped,) = pids(pool)
    os.kill(stopped, signal.SIGSTOP)
    assert pool.decode(Modality.IMAGE, picture(), Limits()).size == (71, 64)
    assert not is_running(stopped)


def test_a_process_that_ended_of_idleness_is_replaced_without_blame(pool):
    for _ in range(2):
        pool.decode(Modality.IMAGE, picture(), Limits())
        (idle,) = pool._waiting
        idle._link.shutdown(1)  # as if its minute were over
        wait_until(lambda one=idle: not is_running(one._process.pid))
        with pytest.raises(MediaError, match="crashes"):
            pool.decode(Modality.IMAGE, crashing(), Limits())
        assert pool.decode(Modality.IMAGE, picture(), Limits()).size == (71, 64)


def test_no_process_outlives_its_maker():
    command = [sys.executable, HERE / "orphan_maker.py"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as maker:
        assert maker.stdout is not None
        child = int(maker.stdout.readline())
        time.sleep(0.3)
        assert is_running(child)
        maker.kill()
    wait_until(lambda: not is_running(child), seconds=1.0)


def test_a_process_outlives_the_thread_that_first_needed_it(pool):
    thread = threading.Thread(target=pool.decode, args=(Modality.IMAGE, picture(), Limits()))
    thread.start()
    thread.join()
    (pid,) = pids(pool)
    time.sleep(0.2)
    assert is_running(pid)
    assert pool.decode(Modality.IMAGE, picture(), Limits()).size == (71, 64)
    assert pids(pool) == {pid}


def test_a_process_whose_maker_ended_before_it_looked_ends_at_once(monkeypatch):
    monkeypatch.setattr(worker.os, "getpid", lambda: 999_999_999)  # as if another were its parent by now
    with pytest.raises(DecodingError, match="it said nothing"):
        worker.Worker()


def starts_killed(monkeypatch, times: int) -> list[int]:
    """Have processes killed as they start, so often. Returns the pids of all that are started, in the end."""
    started, real = [], worker._STARTER.popen

    def popen(command, descriptor):
        process = real(command, descriptor)
        if len(started) < times:
            os.kill(process.pid, signal.SIGKILL)
        started.append(process.pid)
        return process

    monkeypatch.setattr(worker._STARTER, "popen", popen)
    monkeypatch.setattr(worker, "_PAUSE_SECONDS", 0.001)
    return started


def test_a_process_that_is_killed_while_it_starts_is_started_again(pool, monkeypatch):
    started = starts_killed(monkeypatch, times=2)
    assert pool.decode(Modality.IMAGE, picture(), Limits()).size == (71, 64)
    assert len(started) == 3
    assert pids(pool) == {started[-1]}


def test_processes_that_are_all_killed_while_they_start_are_told(pool, monkeypatch):
    started = starts_killed(monkeypatch, times=99)
    with pytest.raises(DecodingError, match=r"started 5 times, and ended by SIGKILL each time.* out of memory"):
        pool.decode(Modality.IMAGE, picture(), Limits())
    assert len(started) == 5


def test_ctrl_c_is_for_the_job_alone(pool):
    pool.decode(Modality.IMAGE, picture(), Limits())
    (pid,) = pids(pool)
    os.kill(pid, signal.SIGINT)
    assert pool.decode(Modality.IMAGE, picture(), Limits()).size == (71, 64)
    assert pids(pool) == {pid}


def test_closing_ends_what_waits(pool):
    pool.decode(Modality.IMAGE, picture(), Limits())
    (pid,) = pids(pool)
    pool.close()
    assert not is_running(pid)


def test_a_forked_process_has_decoders_of_its_own():
    code = (
        "import os, sys, io; from PIL import Image; from mmrec.decoding.isolated import _POOL, decode_isolated;"
        "from mmrec.types import Modality; out = io.BytesIO(); Image.new('RGB', (9, 9)).save(out, 'PNG');"
        "pid = lambda: _POOL._waiting[0]._process.pid;"
        "decode_isolated(Modality.IMAGE, out.getvalue()); old = pid(); forked = os.fork();\n"
        "if forked == 0:\n"
        "    same = decode_isolated(Modality.IMAGE, out.getvalue()).size == (9, 9) and pid() != old\n"
        "    _POOL.close(); os._exit(not same)\n"
        "assert os.waitpid(forked, 0)[1] == 0 and decode_isolated(Modality.IMAGE, out.getvalue()) and pid() == old"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_a_process_that_cannot_start_says_why(pool, monkeypatch):
    monkeypatch.setattr(worker, "_PROGRAM", "raise ImportError('no pillow here')")
    with pytest.raises(DecodingError, match=r"cannot be started \(ImportError: no pillow here\)"):
        pool.decode(Modality.IMAGE, picture(), Limits())
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(DecodingError, match="No such file"):
        pool.decode(Modality.IMAGE, picture(), Limits())


def test_the_process_loads_no_torch():
    modules = "mmrec.decoding.process, mmrec.decoding.image, mmrec.decoding.audio"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "False"


@pytest.fixture(scope="module")
def real_files() -> list[tuple[Modality, bytes]]:
    parts = (
        "<svg xmlns='http://www.w3.org/2000/svg' width='40' height='30'>",
        "<defs><linearGradient id='g'><stop/></linearGradient>",
        "<filter id='b'><feGaussianBlur stdDeviation='2'/></filter></defs>",
        "<g opacity='.5'><path d='M1 2 L20 5 C9 9 7 7 2 2z' fill='url(#g)' filter='url(#b)'/></g>",
        "<use href='#b'/></svg>",
    )
    drawing = "".join(parts).encode()
    made = [(Modality.IMAGE, drawing), (Modality.IMAGE, picture(24)), (Modality.IMAGE, picture(24, "JPEG"))]
    for kind in ("OGG", "WAV"):
        out = io.BytesIO()
        soundfile.write(out, np.sin(np.arange(2_000) / 9) / 2, 16_000, format=kind)
        made.append((Modality.AUDIO, out.getvalue()))
    return made


@settings(max_examples=100, deadline=None)
@given(draw=st.data())
def test_any_change_to_real_files_gives_content_or_a_media_error(real_files, draw):
    modality, data = draw.draw(st.sampled_from(real_files))
    changed = bytearray(data[: draw.draw(st.integers(len(data) // 2, len(data)))])
    for _ in range(draw.draw(st.integers(0, 6))):
        changed[draw.draw(st.integers(0, len(changed) - 1))] = draw.draw(st.integers(0, 255))
    try:
        content = decode_isolated(modality, bytes(changed), Limits(max_pixels=1_000_000, max_decoding_seconds=2))
    except MediaError as error:
        content, reason = None, str(error)
    else:
        reason = "."
        assert isinstance(content, Image.Image if modality is Modality.IMAGE else Waveform)
    assert reason.endswith(".")
    assert len(reason) < 250
