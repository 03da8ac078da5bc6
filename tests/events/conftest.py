"""Real databases: an SQLite file, and a PostgreSQL server that is started here where Debian's package is installed."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from mmrec.events.log import EventLog, open_log


def _programs() -> Path | None:
    """The folder of PostgreSQL's own programs; Debian keeps it off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if not found and on_path:
        found = [Path(on_path).resolve()]
    return found[-1].parent if found else None


def _server_account() -> dict[str, object]:
    """As whom the server runs: it refuses to be root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            account = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL does not run as root, and there is no account 'postgres' or 'nobody' to run it as")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Start a server on a socket in a folder of its own; yield that folder."""
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed here: apt-get install postgresql")
    account = _server_account()
    # Not pytest's folder, which the server's account may not enter; and a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="mmrec-pg-", dir="/tmp"))
    if account:
        os.chown(folder, int(str(account["user"])), int(str(account["group"])))

    def pg(program: str, *arguments: str) -> None:
        command = [str(programs / program), *arguments]
        done = subprocess.run(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              check=False, **account)  # fmt: skip
        assert done.returncode == 0, done.stdout

    try:
        pg("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "mmrec", "-E", "UTF8", "--locale=C")
        options = f"-c listen_addresses='' -k {folder}"
        pg("pg_ctl", "-D", str(folder / "data"), "-l", str(folder / "log"), "-o", options, "-w", "start")
        try:
            yield str(folder)
        finally:
            pg("pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new log can be: the path of a file that is not there, or the URL of an empty database."""
    if request.param == "sqlite":
        return str(tmp_path / "events.db")
    server = request.getfixturevalue("postgres_server")
    name = f"log_{os.urandom(6).hex()}"
    with psycopg.connect(f"host={server} user=mmrec dbname=postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"postgresql://mmrec@/{name}?host={server}"


@pytest.fixture
def log(place: str) -> Iterator[EventLog]:
    """Open a new log in each database."""
    opened = open_log(place)
    yield opened
    opened.close()
