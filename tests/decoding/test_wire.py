"""Contents arrive as they were sent; anything else that arrives is an OSError."""

import json
import socket
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from mmrec.decoding.process import content_of, message_of, receive, send
from mmrec.types import Waveform

pixels = st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)).flatmap(lambda shape: arrays(np.uint8, shape))


def sent(head, body):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=send, args=(ours, head, body))
        sender.start()
        got = receive(theirs, 1 << 30)
        sender.join()
    return got


@settings(deadline=None)
@given(pixels)
def test_pictures_arrive_as_they_were_sent(values):
    arrived = content_of(*sent(*message_of(Image.fromarray(values))))
    np.testing.assert_array_equal(np.asarray(arrived), values)


@settings(deadline=None)
@given(arrays(np.float32, st.integers(0, 2000)), st.integers(1000, 768_000))
def test_sounds_arrive_as_they_were_sent(samples, rate):
    arrived = content_of(*sent(*message_of(Waveform(samples, rate))))
    assert arrived.rate == rate
    np.testing.assert_array_equal(arrived.samples, samples)


@given(st.text())
def test_texts_arrive_as_they_were_sent(text):
    assert content_of(*sent(*message_of(text))) == text


def arrives(data: bytes, most: int):
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(data)
        return receive(theirs, most)


def framed(head: bytes, body: bytes = b"") -> bytes:
    return len(head).to_bytes(4) + len(body).to_bytes(8) + head + body


@given(st.binary(max_size=100))
def test_any_bytes_are_a_message_or_an_os_error(data):
    try:
        message = arrives(data, 1000)
    except OSError:
        return
    assert (message is None) == (not data)


@pytest.mark.parametrize(
    "data",
    [framed(b"{}", b"x" * 11), framed(b"[1]"), framed(b"{"), framed(b"\xff"), (1 << 31).to_bytes(4) + bytes(8)],
)
def test_what_is_too_large_or_no_table_is_refused_before_it_is_read(data):
    with pytest.raises(OSError, match="a message"):
        arrives(data, 10)


@pytest.mark.parametrize(
    "head",
    [
        {},
        {"kind": "image"},
        {"kind": "image", "size": [3, 3]},
        {"kind": "image", "size": [10**9, 10**9]},
        {"kind": "image", "size": [-1, 2]},
        {"kind": "image", "size": "ab"},
        {"kind": "audio", "rate": 16_000},
        {"kind": "audio"},
        {"kind": "text"},
    ],
)
def test_heads_and_bodies_that_do_not_agree_are_refused(head):
    with pytest.raises(OSError, match="do not agree"):
        content_of(json.loads(json.dumps(head)), bytearray(b"\xff\xff\xff"))
