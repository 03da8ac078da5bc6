"""What the fetcher does for honest servers: redirects, retries, stamps, certificates, manners."""

import datetime as dt
import gzip
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email.utils import format_datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fetching.servers import OUTSIDE, PATIENT, Server, answer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmrec.errors import MediaError, UnreachableError
from mmrec.sources.fetch.fetcher import Fetcher
from mmrec.sources.fetch.hosts import FetchRules

BUSY = answer(status="503 Busy")


def test_content_is_returned_as_it_is(outside, fetcher):
    outside.script |= {
        "/plain": answer(b"abc"),
        "/empty": answer(b""),
        "/until-closed": answer(b"abc", content_length=None),
        "/chunked": answer(b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", content_length=None, transfer_encoding="chunked"),
        "/packed": answer(gzip.compress(b"abc"), content_encoding="gzip"),
        "/%E7%8C%AB%20a?q=%C3%A9": answer(b"abc"),
        "/continued": b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"abc"),
    }
    for path in ("/plain", "/until-closed", "/chunked", "/packed", "/猫 a?q=é#part", "/continued"):
        assert fetcher.fetch(outside.url(path, "public.test"), 30).data == b"abc", path
    assert fetcher.fetch(outside.url("/empty", "PUBLIC.test"), 3).data == b""


def test_relative_redirects(outside, names, fetcher):
    names.table["other.test"] = [[OUTSIDE]]
    outside.script |= {
        "/a/b": answer(status="301 Moved", location="../c"),
        "/c": answer(status="307 Moved", location=f"//other.test:{outside.port}/d"),
        "/d": answer(b"there"),
    }
    assert fetcher.fetch(outside.url("/a/b", "public.test"), 10).data == b"there"
    assert [headers["host"].partition(":")[0] for *_, headers in outside.asked] == ["public.test"] * 2 + ["other.test"]


def test_connections_are_kept(outside, names, fetcher):
    outside.script["/a"] = answer(b"a", connection="keep-alive")
    for _ in range(5):
        assert fetcher.fetch(outside.url("/a", "public.test"), 10).data == b"a"
    assert (outside.connections, len(outside.asked), len(names.asked)) == (1, 5, 1)


def test_the_next_address_is_tried(outside, names, make_fetcher):
    names.table["two.test"] = [["127.0.0.3", OUTSIDE]]
    outside.script["/a"] = answer(b"a")
    fetcher = make_fetcher(loopback=[(OUTSIDE, outside.port), ("127.0.0.3", outside.port)])
    assert fetcher.fetch(outside.url("/a", "two.test"), 10).data == b"a"


@pytest.mark.parametrize("trouble", [BUSY, b"", answer(b"a", content_length=2), answer(status="429 Too Many")])
def test_what_may_pass_is_tried_again(trouble, outside, fetcher):
    outside.script["/a"] = [trouble, trouble, answer(b"a")]
    assert fetcher.fetch(outside.url("/a", "public.test"), 10).data == b"a"
    assert len(outside.asked) == 3


@pytest.mark.parametrize("status", ["400 Bad", "401 No", "403 No", "404 No", "410 No", "451 No", "501 No", "505 No"])
def test_what_will_not_pass_is_asked_for_once(status, outside, fetcher):
    outside.script["/a"] = answer(status=status)
    with pytest.raises(MediaError) as caught:
        fetcher.fetch(outside.url("/a", "public.test"), 10)
    assert not isinstance(caught.value, UnreachableError)
    assert len(outside.asked) == 1


def test_attempts_end(outside, fetcher):
    outside.script["/a"] = BUSY
    with pytest.raises(UnreachableError, match="503"):
        fetcher.fetch(outside.url("/a", "public.test"), 10)
    assert len(outside.asked) == PATIENT.attempts


@pytest.mark.parametrize("patience", ["0", "1", " 1 ", "soon", "-5", "1e9", "\u00b2", "Sun, 06 Nov 1994 08:49:37 GMT"])
def test_patience_that_is_asked_for_within_bounds_or_makes_no_sense(patience, outside, fetcher, monkeypatch):
    waits, mine, real = [], threading.get_ident(), time.sleep
    # It is the sleep of all threads, and others may be asleep for reasons of their own.
    monkeypatch.setattr(
        "tenacity.nap.time.sleep", lambda s: waits.append(s) if threading.get_ident() == mine else real(s)
    )
    outside.script["/a"] = [answer(status="429 Slow", retry_after=patience), answer(b"a")]
    assert fetcher.fetch(outside.url("/a", "public.test"), 10).data == b"a"
    (waited,) = waits
    assert (waited >= 1) == (patience.strip() == "1")


def test_a_server_that_asks_for_more_patience_is_left_to_the_next_run(outside, fetcher):
    later = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    outside.script |= {
        "/a": answer(status="503 Busy", retry_after="3600"),
        "/b": answer(status="503 Busy", retry_after=format_datetime(later, usegmt=True)),
        "/c": answer(status="503 Busy", retry_after="9" * 5000),
    }
    for path in outside.script:
        with pytest.raises(UnreachableError, match="503"):
            fetcher.fetch(outside.url(path, "public.test"), 10)
    assert len(outside.asked) == 3


def test_all_wait_while_a_server_asks_for_patience(outside, names, make_fetcher):
    names.table["other.test"] = [[OUTSIDE]]
    busy = answer(status="429 Slow", retry_after="3")
    outside.script |= {"/a": busy, "/b": answer(b"b")}
    fetcher = make_fetcher(replace(PATIENT, attempts=1, retry_after_seconds=60.0, total_seconds=1.0))
    for path in ("/a", "/b"):
        with pytest.raises(UnreachableError):
            fetcher.fetch(outside.url(path, "public.test"), 10)
    assert outside.paths == ["/a"]  # the second waited as long as it could
    assert fetcher.fetch(outside.url("/b", "other.test"), 10).data == b"b"
    patient = make_fetcher(replace(PATIENT, attempts=1, total_seconds=60.0))
    outside.script["/a"] = answer(status="503 Busy", retry_after="1")
    with pytest.raises(UnreachableError):
        patient.fetch(outside.url("/a", "public.test"), 10)
    assert patient.fetch(outside.url("/b", "public.test"), 10).data == b"b"


def test_a_host_that_fails_again_and_again_is_left_alone(outside, names, make_fetcher):
    names.table["good.test"] = [[OUTSIDE]]
    fetcher = make_fetcher(replace(PATIENT, attempts=1, failures=3, rest_seconds=3600))
    outside.script |= {"/a": BUSY, "/b": answer(b"b")}

    def fails() -> str:
        with pytest.raises(UnreachableError) as caught:
            fetcher.fetch(outside.url("/a", "public.test"), 10)
        return str(caught.value)

    fails(), fails()
    assert fetcher.fetch(outside.url("/b", "public.test"), 10).data == b"b"
    assert all("503" in fails() for _ in range(3))
    asked = len(outside.asked)
    assert "left alone" in fails()
    assert len(outside.asked) == asked
    assert fetcher.fetch(outside.url("/b", "good.test"), 10).data == b"b"


def test_few_connections_to_one_host_and_to_all(outside, names, make_fetcher):
    busy, most = [], []

    def slowly(connection: socket.socket) -> None:
        busy.append(connection)
        most.append(len(busy))
        time.sleep(0.05)
        busy.remove(connection)
        connection.sendall(answer(b"a"))

    names.table |= {f"h{number}.test": [[OUTSIDE]] for number in range(4)}
    outside.script["/a"] = slowly
    fetcher = make_fetcher(replace(PATIENT, connections=3, connections_per_host=2, total_seconds=60.0))

    def fetch(host: str) -> bytes:
        return fetcher.fetch(outside.url("/a", host), 10).data

    with ThreadPoolExecutor(12) as threads:
        assert list(threads.map(fetch, ["public.test"] * 24)) == [b"a"] * 24
        assert max(most) == 2
        assert list(threads.map(fetch, [f"h{number % 4}.test" for number in range(24)])) == [b"a"] * 24
        assert max(most) == 3


def test_stamps_tell_what_has_changed_without_fetching_it(outside, fetcher):
    url = outside.url("/a", "public.test")

    def serve(**headers: object) -> None:
        outside.script["/a"] = answer(b"abc", **headers)

    serve(etag='"1"', last_modified="Sun, 06 Nov 1994 08:49:37 GMT")
    first = fetcher.fetch(url, 10)
    assert first.stamp == fetcher.stamp(url)
    assert first.stamp.is_of(first.stamp.size, first.stamp.changed)
    assert [method for method, *_ in outside.asked] == ["GET", "HEAD"]
    serve(etag='"2"', last_modified="Sun, 06 Nov 1994 08:49:37 GMT")
    assert not fetcher.stamp(url).is_of(first.stamp.size, first.stamp.changed)
    serve(etag='"1"', last_modified="Sun, 06 Nov 1994 08:49:38 GMT")
    assert not fetcher.stamp(url).is_of(first.stamp.size, first.stamp.changed)
    serve(etag='"1"', last_modified="Sun, 06 Nov 1994 08:49:37 GMT", content_length=4)
    assert not fetcher.stamp(url).is_of(first.stamp.size, first.stamp.changed)
    serve(etag='"1"', last_modified="Sun, 06 Nov 1994 08:49:37 GMT", content_length=None)
    assert fetcher.stamp(url).is_of(first.stamp.size, first.stamp.changed)
    serve()
    assert fetcher.fetch(url, 10).stamp.changed is None
    assert not fetcher.stamp(url).is_of(3, None)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A function: names -> contexts of a server with a certificate for these names, and of who believes its issuer."""
    folder = tmp_path_factory.mktemp("tls")
    issuer_key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Test issuer")])

    def certificate(subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType):
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - dt.timedelta(days=1))
        builder = builder.not_valid_after(now + dt.timedelta(days=1)).add_extension(extension, critical=True)
        for identifier in (
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()),
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
        ):
            builder = builder.add_extension(identifier, critical=False)
        return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    trusted = certificate(issuer, issuer_key, x509.BasicConstraints(ca=True, path_length=None))

    def make(name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        chain = folder / f"{name}.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        chain.write_bytes(private + certificate(subject, key, x509.SubjectAlternativeName([x509.DNSName(name)])))
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(chain)
        return server, ssl.create_default_context(cadata=trusted.decode())

    return make


@pytest.fixture
def secure(authority, names, make_fetcher):
    """A TLS server with a certificate for ``public.test``, and a fetcher that believes its issuer."""
    server_tls, client_tls = authority("public.test")
    server = Server(OUTSIDE, tls=server_tls, script={"/a": answer(b"a")})
    server.start()
    names.table["other.test"] = [[OUTSIDE]]
    yield server, make_fetcher(loopback=[(OUTSIDE, server.port)], tls=client_tls)
    server.stop()


def test_the_certificate_is_for_the_name_though_the_address_is_asked(secure, names, make_fetcher):
    server, fetcher = secure
    names.table[OUTSIDE] = [[OUTSIDE]]
    assert fetcher.fetch(server.url("/a", "public.test", "https"), 10).data == b"a"
    for other in (
        server.url("/a", "other.test", "https"),  # another name for the same address
        server.url("/a", OUTSIDE, "https"),
    ):
        with pytest.raises(MediaError, match="prove"):
            fetcher.fetch(other, 10)
    doubting = make_fetcher(loopback=[(OUTSIDE, server.port)])
    with pytest.raises(MediaError, match="prove") as caught:
        doubting.fetch(server.url("/a", "public.test", "https"), 10)
    assert not isinstance(caught.value, UnreachableError)
    assert server.paths == ["/a"]


def test_from_https_no_redirect_leads_to_http(secure, outside):
    server, fetcher = secure
    server.script |= {
        "/down": answer(status="302 Found", location=outside.url("/a", "public.test")),
        "/same": answer(status="302 Found", location="/a"),
    }
    assert fetcher.fetch(server.url("/same", "public.test", "https"), 10).data == b"a"
    with pytest.raises(MediaError, match="from https to http"):
        fetcher.fetch(server.url("/down", "public.test", "https"), 10)
    assert outside.connections == 0


def test_a_server_without_tls(names, make_fetcher):
    plain = Server(OUTSIDE, greeting=answer(b"a"))
    plain.start()
    with pytest.raises(MediaError, match="TLS well"):
        make_fetcher(loopback=[(OUTSIDE, plain.port)]).fetch(plain.url("/a", "public.test", "https"), 10)
    plain.stop()


def test_the_job_and_the_rules_agree_on_ports():
    with Fetcher() as fetcher:
        assert fetcher.rules == FetchRules()
        for port in (22, 25, 3306, 6379, 9200, 11211, 0, 65536):
            with pytest.raises(MediaError, match=r"port|well formed|host"):
                fetcher.fetch(f"http://example.org:{port}/", 10)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scheme=st.sampled_from(["http://", "https://", "HTTP://", "http:", ""]),
    rest=st.one_of(
        st.text(max_size=60),
        st.from_regex(r"[a-z0-9.\-:@\[\]%/?#\\]{0,60}", fullmatch=True),
        st.builds("{}/{}".format, st.ip_addresses().map(str), st.text(max_size=20)),
    ),
)
def test_any_web_address_gives_bytes_or_a_media_error(make_fetcher, scheme, rest):
    fetcher = make_fetcher(replace(PATIENT, attempts=1), resolver=lambda host, port: ["127.0.0.9"], loopback=[])
    try:
        reading = fetcher.fetch(scheme + rest, 100)
    except MediaError as error:
        reason = str(error)
    else:
        reason = f"read {reading.data!r}"
    assert reason.endswith(".")
    assert "127.0.0.9" not in reason


def test_threads_share_one_fetcher(outside, fetcher):
    outside.script |= {f"/{number}": answer(str(number).encode(), connection="keep-alive") for number in range(40)}
    start = threading.Barrier(8)

    def fetch(worker: int) -> list[bytes]:
        start.wait()
        return [fetcher.fetch(outside.url(f"/{n}", "public.test"), 10).data for n in range(worker, 40, 8)]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(fetch, range(8)))
    assert found == [[str(n).encode() for n in range(worker, 40, 8)] for worker in range(8)]
