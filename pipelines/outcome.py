"""End of a command: an exit code, one line on stderr, and with ``--json`` one JSON document.

0 done · 1 failure · 2 usage · 3 partly done (``--strict``) · 4 internal · 130 interrupted

What is named but not there (a store, an item, a file, a column) is usage; what is there but cannot be used (a damaged
store, an object store that does not answer) is failure.
"""

import errno
import os
import re
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import typer
from rich.text import Text

from mmrec.errors import MmrecError, UsageError
from pipelines import console

# Errors of the machine, not of the program.
_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE}


class ExitCode(IntEnum):
    """Exit codes of commands."""

    DONE = 0
    FAILURE = 1
    USAGE = 2
    PARTLY = 3
    INTERNAL = 4
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class _Outcome:
    code: ExitCode
    kind: str
    message: str


def run_app(app: typer.Typer, arguments: Sequence[str]) -> int:
    """Run a command of the command line to its end; see `run_with_exit_code`."""
    return run_with_exit_code(lambda: app(list(arguments), standalone_mode=False, prog_name="mmrec"), arguments)


def run_with_exit_code(job: Callable[[], object], arguments: Sequence[str]) -> int:
    """Run a job. Returns the exit code; errors have been printed.

    Args:
        job: An int that it returns is the exit code.
        arguments: The command line after the program's name, for ``--json`` and ``--debug``.

    """
    try:
        code = job()
    except Exception as error:  # noqa: BLE001 - users never get a raw traceback
        outcome = _classify(error, arguments)
    except KeyboardInterrupt:
        outcome = _interrupted()
    else:
        if code != ExitCode.INTERRUPTED:
            return code if isinstance(code, int) else ExitCode.DONE
        outcome = _interrupted()
    _print_error(outcome, as_json="--json" in arguments)
    return outcome.code


def _classify(error: Exception, arguments: Sequence[str]) -> _Outcome:
    match error:
        case typer.Abort():
            return _interrupted()
        case typer.TyperException(exit_code=ExitCode.USAGE):
            context = getattr(error, "ctx", None)
            command = context.command_path if context else "mmrec"
            message = error.format_message() or "Name a command."
            stop = "" if message.endswith((".", "?")) else "."
            return _Outcome(ExitCode.USAGE, "usage", f"{message}{stop} See {command} --help.")
        case UsageError():
            return _Outcome(ExitCode.USAGE, _kind(error), str(error))
        case MmrecError() | typer.TyperException():
            return _Outcome(ExitCode.FAILURE, _kind(error), str(error))
        case OSError() if error.errno in _MACHINE:
            where = f": {error.filename}" if error.filename else ""
            return _Outcome(ExitCode.FAILURE, "machine", f"{error.strerror}{where}. Put that right and run it again.")
        case _:
            return _internal_error(error, arguments)


def _internal_error(error: Exception, arguments: Sequence[str]) -> _Outcome:
    from indexers.protocol import IndexersError  # noqa: PLC0415 (loads numpy, and only a fault needs it)

    if isinstance(error, IndexersError):
        return _Outcome(ExitCode.FAILURE, _kind(error), str(error))
    trace = "".join(traceback.format_exception(error))
    if "--debug" in arguments:
        console.notes.print(Text(trace), soft_wrap=True)
        where = "The traceback is above."
    else:
        descriptor, path = tempfile.mkstemp(prefix="mmrec-traceback-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(trace)
        where = f"The traceback is in {path}; please report it."
    return _Outcome(ExitCode.INTERNAL, "internal", f"A fault in mmrec: {type(error).__name__}: {error}. {where}")


def _interrupted() -> _Outcome:
    message = "Interrupted. Finished work is kept: run the same command again to continue."
    return _Outcome(ExitCode.INTERRUPTED, "interrupted", message)


def _kind(error: Exception) -> str:
    words = re.findall(r"[A-Z][a-z]+", type(error).__name__.removesuffix("Error"))
    return "_".join(words).lower() if type(error) is not MmrecError else "failure"


def _print_error(outcome: _Outcome, *, as_json: bool) -> None:
    if as_json:
        console.emit_json({"error": {"kind": outcome.kind, "message": outcome.message}})
    console.notes.print(Text.assemble(("error: ", "bold red"), outcome.message), soft_wrap=True)
