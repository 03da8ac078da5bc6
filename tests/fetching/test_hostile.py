"""A hostile server, and what is inside: nothing inside is ever asked, and whatever is sent ends in a reason."""

import ast
import gzip
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from fetching.servers import INSIDE, OUTSIDE, PATIENT, answer, drip, endless
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmrec.errors import MediaError, UnreachableError
from mmrec.sources.fetch.fetcher import Fetcher

MEGABYTE = 1024 * 1024
ZIPPED = gzip.compress(bytes(32 * MEGABYTE))


def _redirect(location: str, status: str = "302 Found") -> bytes:
    return answer(status=status, location=location)


def _reason(fetcher: Fetcher, url: str, max_bytes: int = MEGABYTE) -> str:
    with pytest.raises(MediaError) as caught:
        fetcher.fetch(url, max_bytes)
    reason = str(caught.value)
    # What is inside is nobody's business: neither its addresses nor files of this machine are told.
    assert not re.search(r"127\.|::1|/tmp|/home|/work|secret", reason)
    assert reason.endswith(".")
    return reason


@pytest.mark.parametrize(
    "host",
    [
        *(INSIDE, "127.0.0.1", "localhost", "LOCALHOST", "localhost.", "127.2", "127.0.2", "2130706434", "0x7f000002"),
        *("0x7f.0.0.2", "0177.0.0.02", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.2]", "[::ffff:7f00:2]"),  # noqa: S104 - it is not bound
        *("[::127.0.0.2]", "[64:ff9b::127.0.0.2]", "[2002:7f00:2::]", "[0:0:0:0:0:ffff:7f00:0002]"),
        *("①②⑦.0.0.2", "127。0。0。2"),
    ],
)
def test_this_machine_is_not_asked_by_any_of_its_names(host, inside):
    # The real resolver and the fetcher as the job makes it, but for the port.
    with Fetcher(replace(PATIENT, ports=frozenset({inside.port}))) as fetcher:
        _reason(fetcher, inside.url("/secret", host))
        assert fetcher.stamp(inside.url("/secret", host)) is None
    assert inside.connections == 0


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
@pytest.mark.parametrize("host", [INSIDE, "inside.test", "[::ffff:127.0.0.2]", "2130706434"])
def test_a_redirect_inside_is_not_followed(status, host, outside, inside, names, fetcher):
    names.table["2130706434"] = [[INSIDE]]
    names.table["::ffff:127.0.0.2"] = [["::ffff:127.0.0.2"]]
    names.table[INSIDE] = [[INSIDE]]
    outside.script["/a.png"] = _redirect(inside.url("/secret", host), status)
    assert "off the public internet" in _reason(fetcher, outside.url("/a.png", "public.test"))
    assert outside.paths == ["/a.png"]
    assert inside.connections == 0


@pytest.mark.parametrize(
    ("location", "word"),
    [
        ("file:///etc/passwd", "something other than http"),
        ("FILE:/etc/passwd", "something other than http"),
        ("ftp://public.test/a", "something other than http"),
        ("gopher://public.test:70/_GET", "something other than http"),
        ("data:image/png;base64,AAAA", "something other than http"),
        ("http://user:password@public.test/a", "user name or a password"),
        ("//user@public.test/a", "user name or a password"),
        ("http://public.test:22/", "port 22"),
        ("http://public.test:6379/", "port 6379"),
        ("https:///a", "host that cannot be"),
        ("http://[::1", "not well formed"),
        ("http://public.test:99999999/", "not well formed|port 99999999"),
        (f"/{'a' * 9000}", "longer than"),
    ],
)
def test_a_redirect_is_checked_as_if_the_catalog_had_named_it(location, word, outside, fetcher):
    outside.script["/a.png"] = _redirect(location)
    assert re.search(word, _reason(fetcher, outside.url("/a.png", "public.test")))
    assert outside.paths == ["/a.png"]


def test_redirects_end(outside, fetcher):
    outside.script |= {f"/{step}": _redirect(f"/{step + 1}") for step in range(6)}
    outside.script["/loop"] = _redirect("/loop")
    outside.script["/6"] = answer(b"there")
    assert fetcher.fetch(outside.url("/1", "public.test"), 100).data == b"there"
    assert "more than 5 times" in _reason(fetcher, outside.url("/0", "public.test"))
    assert "more than 5 times" in _reason(fetcher, outside.url("/loop", "public.test"))
    assert outside.paths.count("/loop") == 6


def test_a_name_is_resolved_once_and_the_checked_address_is_asked(outside, inside, names, fetcher):
    names.table["rebind.test"] = [[OUTSIDE], [INSIDE]]
    outside.script["/a.png"] = answer(b"public")
    inside.script["/a.png"] = answer(b"secret")
    url = outside.url("/a.png", "rebind.test")
    assert fetcher.fetch(url, 100).data == b"public"
    assert names.asked == ["rebind.test"]
    # The server closed the connection, so that a new one is made, and the name now leads inside.
    assert "off the public internet" in _reason(fetcher, url)
    assert names.asked == ["rebind.test", "rebind.test"]
    assert inside.connections == 0


def test_a_name_that_changes_between_redirect_and_target(outside, inside, names, fetcher):
    names.table["rebind.test"] = [[OUTSIDE], [INSIDE]]
    outside.script["/a.png"] = _redirect("/secret")
    assert "off the public internet" in _reason(fetcher, outside.url("/a.png", "rebind.test"))
    assert outside.paths == ["/a.png"]
    assert inside.connections == 0


@pytest.mark.parametrize(
    "addresses", [[OUTSIDE, INSIDE], [INSIDE, OUTSIDE], ["8.8.8.8", "10.0.0.1"], [f"{OUTSIDE}%lo"]]
)
def test_one_address_inside_damns_a_name(addresses, outside, inside, names, fetcher):
    names.table["mixed.test"] = [addresses]
    assert "off the public internet" in _reason(fetcher, outside.url("/", "mixed.test"))
    assert outside.connections == inside.connections == 0


@pytest.mark.parametrize("name", ["unknown.test", "a" * 70 + ".test", "..", "-", "xn--a.test", "a_b.test"])
def test_names_that_lead_nowhere(name, outside, fetcher):
    _reason(fetcher, outside.url("/", name))


@pytest.mark.parametrize(
    "url",
    [
        "http://me:secret@public.test/a",
        "https://me@public.test/a",
        "http://:x@public.test/",
        "http://public.test\\@127.0.0.2/",
    ],
)
def test_credentials_are_refused(url, fetcher, outside, inside):
    assert "user name or a password" in _reason(fetcher, url)
    assert outside.connections == inside.connections == 0


LENGTH = {"content_length": None}
HOSTILE = {
    "an endless body": (endless(b"x" * 65536, answer(**LENGTH)), "larger than the limit"),
    "an endless chunked body": (
        endless(b"10000\r\n" + b"x" * 65536 + b"\r\n", answer(transfer_encoding="chunked", **LENGTH)),
        "larger than the limit",
    ),
    "a length beyond the limit": (answer(content_length=10**15), "larger than the limit"),
    "a body beyond the limit": (answer(bytes(MEGABYTE + 1)), "larger than the limit"),
    "a slow body": (drip(b"x", start=answer(content_length=400)), "in time"),
    "a slow chunked body": (
        drip(b"1\r\nx\r\n", start=answer(transfer_encoding="chunked", **LENGTH), end=b"0\r\n\r\n"),
        "in time",
    ),
    "slow headers": (drip(b"x", start=b"HTTP/1.1 200 OK\r\na: ", end=b"\r\ncontent-length: 0\r\n\r\n"), "in time"),
    "no end of 100 Continue": (
        drip(b"HTTP/1.1 100 Continue\r\n\r\n", end=answer(b"x")),
        "in time",
    ),
    "silence": (drip(b"", times=100, pause=0.2), "in time"),
    "no answer": (b"", "hung up"),
    "a short body": (answer(b"x", content_length=2), "broke off"),
    "a short chunk": (answer(b"5\r\nxx", transfer_encoding="chunked", **LENGTH), "broke off"),
    "a chunk without a length": (answer(b"zz\r\nxx", transfer_encoding="chunked", **LENGTH), "HTTP well"),
    "a length that is none": (answer(b"x", content_length="many"), "HTTP well"),
    "a negative length": (answer(b"x", content_length=-1), "HTTP well"),
    "a length of many digits": (answer(b"x", content_length="9" * 5000), "HTTP well"),
    "two lengths": (answer(b"xx", Content_Length=1), "HTTP well"),
    "a huge header": (answer(b"x", a="b" * 300_000), "HTTP well"),
    "a million headers": (answer(b"x", **{f"a{n}": "b" for n in range(30_000)}), "HTTP well"),
    "headers without end": (endless(b"a: b\r\n" * 10_000, b"HTTP/1.1 200 OK\r\n"), "HTTP well"),
    "another protocol": (b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n", "HTTP well"),
    "binary noise": (bytes(range(256)) * 100, "HTTP well"),
    "a change of protocol": (answer(status="101 Switching Protocols", upgrade="secret", **LENGTH), "HTTP well"),
    "a packed bomb": (answer(ZIPPED, content_encoding="gzip"), "larger than the limit"),
    "packed and cut": (answer(ZIPPED[:-4], content_encoding="gzip"), "larger than the limit|damaged"),
    "not packed as said": (answer(b"plain", content_encoding="gzip"), "damaged"),
    "packed with more behind": (answer(gzip.compress(b"a") + b"b", content_encoding="gzip"), "damaged"),
    "packed oddly": (answer(b"x", content_encoding="br"), "not requested"),
    "packed twice": (answer(ZIPPED, content_encoding="gzip, gzip"), "not requested"),
    "a redirect without a target": (answer(status="302 Found"), "status 302"),
    "a part": (answer(b"x", "206 Partial Content"), "status 206"),
    "nothing": (answer(status="204 No Content", **LENGTH), "status 204"),
    "a password wanted": (answer(status="401 Unauthorized", www_authenticate="Basic realm=secret"), "password"),
    "not there": (answer(b"secret", "404 Not Found"), "no such content"),
    "no more there": (answer(status="410 Gone"), "no more"),
    "a fault": (answer(status="500 Oops"), "cannot answer now"),
}
IN_HASTE = replace(PATIENT, total_seconds=1.0, silent_seconds=0.5, connect_seconds=0.5)
MAY_PASS = {"in time", "hung up", "broke off", "cannot answer now"}


@pytest.mark.parametrize("kind", HOSTILE)
def test_whatever_a_server_sends_ends_in_a_reason(kind, outside, inside, make_fetcher):
    sent, word = HOSTILE[kind]
    outside.script["/a.png"] = sent
    fetcher = make_fetcher(IN_HASTE if word == "in time" else PATIENT)
    with pytest.raises(MediaError, match=word) as caught:
        fetcher.fetch(outside.url("/a.png", "public.test"), MEGABYTE)
    assert isinstance(caught.value, UnreachableError) == (word in MAY_PASS)
    if word != "in time":
        fetcher.stamp(outside.url("/a.png", "public.test"))
    # The next one is none the worse for it.
    outside.script["/b.png"] = answer(b"good")
    assert fetcher.fetch(outside.url("/b.png", "public.test"), 100).data == b"good"
    assert inside.connections == 0


def test_slow_headers_tell_no_stamp(outside, make_fetcher):
    outside.script["/a.png"] = HOSTILE["slow headers"][0]
    assert make_fetcher(IN_HASTE).stamp(outside.url("/a.png", "public.test")) is None


def test_silence_instead_of_tls_ends(outside, make_fetcher):
    with pytest.raises(UnreachableError, match="in time"):
        make_fetcher(IN_HASTE).fetch(outside.url("/a.png", "public.test", "https"), MEGABYTE)


_STARTS = (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 302 Found\r\nlocation: ", b"HTTP/1.1 503 No\r\nretry-after: ")
_PIECES = st.sampled_from(
    [b"\r\n", b"\r\n\r\n", b"content-length: ", b"transfer-encoding: chunked", b"/secret", b"0\r\n", b"5"]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.sampled_from(_STARTS), rest=st.lists(st.one_of(_PIECES, st.binary(max_size=30)), max_size=8))
def test_any_bytes_for_an_answer_give_bytes_or_a_media_error(start, rest, outside, inside, make_fetcher):
    outside.script["/a.png"] = start + b"".join(rest)
    outside.script["/secret"] = answer(b"secret")
    fetcher = make_fetcher(replace(PATIENT, attempts=1))
    for ask in (lambda url: fetcher.fetch(url, 1000), fetcher.stamp):
        try:
            ask(outside.url("/a.png", "public.test"))
        except MediaError as error:
            reason = str(error)
        else:
            reason = "Read."
        assert reason.endswith(".")
    fetcher.close()
    assert inside.connections == 0


def test_a_slow_name_server_ends(outside, make_fetcher):
    over = Event()

    def resolver(host: str, port: int) -> list[str]:
        over.wait(20)
        return [OUTSIDE]

    fetcher = make_fetcher(IN_HASTE, resolver=resolver)
    assert "in time" in _reason(fetcher, outside.url("/", "public.test"))
    over.set()
    assert outside.connections == 0


def test_nothing_but_the_constructor_lets_loopback_in(outside, monkeypatch):
    """No option, file or variable of the job reaches the switch."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "NO_PROXY", "MMREC_LOOPBACK", "MMREC_ALLOW_LOOPBACK"):
        monkeypatch.setenv(name, outside.url())
    with Fetcher() as fetcher:
        assert "port" in _reason(fetcher, outside.url("/"))
        assert "off the public internet" in _reason(fetcher, "http://127.0.0.1/")
        assert "off the public internet" in _reason(fetcher, "http://localhost:8080/")
    assert outside.connections == 0
    calls = [
        node
        for _, node in _syntax()
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Fetcher"
    ]
    assert calls
    assert all(not call.args and not call.keywords for call in calls)


def test_the_web_is_asked_in_one_place_alone():
    guarded = {"httpx", "httpcore", "requests", "urllib3", "urllib.request", "http.client", "aiohttp", "websockets"}
    imports = {
        (path.parent.name, name)
        for path, node in _syntax()
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
        if name in guarded or name.partition(".")[0] in guarded
    }
    # A model hub's own client is told apart from the web: its errors alone are named, in one file.
    assert {folder for folder, _ in imports} == {"fetch", "hub"}
    assert {name for folder, name in imports if folder == "hub"} == {"httpx"}
    assert {name for _, name in imports} == {"httpx", "httpcore"}


def _syntax() -> Iterator[tuple[Path, ast.AST]]:
    root = Path(__file__).resolve().parents[2]
    for package in ("mmrec", "pipelines", "indexers"):
        for path in sorted((root / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                yield path, node


def test_proxies_and_passwords_of_the_environment_are_not_used(outside, inside, fetcher, tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, inside.url())
    (tmp_path / ".netrc").write_text("machine public.test login me password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    outside.script["/a"] = answer(b"x", set_cookie="session=1; Path=/")
    for _ in range(2):
        assert fetcher.fetch(outside.url("/a", "public.test"), 100).data == b"x"
    assert inside.connections == 0
    for _, _, headers in outside.asked:
        assert set(headers) == {"host", "user-agent", "accept", "accept-encoding"}
        assert headers["user-agent"].startswith("mmrec/")
        assert headers["accept-encoding"] == "identity"
        assert headers["host"] == f"public.test:{outside.port}"
    assert os.environ["HTTP_PROXY"] == inside.url()
