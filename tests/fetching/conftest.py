"""Two real servers, and fetchers that take the one outside for public."""

import ssl

import pytest
from fetching.servers import INSIDE, OUTSIDE, PATIENT, Names, Server, answer

from mmrec.sources.fetch.fetcher import Fetcher
from mmrec.sources.fetch.hosts import FetchRules

_TLS = ssl.create_default_context()  # made once: it reads all certificates of the system


@pytest.fixture
def servers():
    """A hostile server outside, and one inside on the same port of another address."""
    for _ in range(20):
        outside = Server(OUTSIDE)
        outside.start()
        inside = Server(INSIDE, outside.port)
        try:
            inside.start()
        except OSError:
            outside.stop()
            continue
        inside.script = dict.fromkeys(("/", "/secret"), answer(b"secret"))
        yield outside, inside
        outside.stop()
        inside.stop()
        return
    raise RuntimeError("no port is free on both addresses")


@pytest.fixture
def outside(servers) -> Server:
    return servers[0]


@pytest.fixture
def inside(servers) -> Server:
    return servers[1]


@pytest.fixture
def names(outside) -> Names:
    made = Names()
    made.table = {"public.test": [[OUTSIDE]], "inside.test": [[INSIDE]]}
    return made


@pytest.fixture
def make_fetcher(outside, names):
    """A function: rules -> a fetcher for which the outside server, and nothing else of this machine, is public."""
    made = []

    def make(rules: FetchRules = PATIENT, **options: object) -> Fetcher:
        given = {"resolver": names, "loopback": [(OUTSIDE, outside.port)], "tls": _TLS} | options
        made.append(Fetcher(rules, **given))
        return made[-1]

    yield make
    for fetcher in made:
        fetcher.close()


@pytest.fixture
def fetcher(make_fetcher) -> Fetcher:
    return make_fetcher()
