"""Troubles of connections in words of our own: those of the libraries may name addresses inside a network."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import httpcore

from mmrec.errors import MediaError, UnreachableError

__all__ = ["in_own_words"]

_HUNG_UP: Final = "Server disconnected without sending a response."
_CUT_SHORT: Final = "peer closed connection"


@contextmanager
def in_own_words() -> Iterator[None]:
    """Raise UnreachableError for troubles of a connection that may pass, MediaError for those that will not."""
    try:
        yield
    except httpcore.TimeoutException as error:
        raise UnreachableError("The web server did not give the content in time.") from error
    except httpcore.NetworkError as error:
        # httpcore drops the chain of causes, but tells the first of them.
        cause = error.args[0] if error.args else None
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise MediaError("The web server cannot prove that it is the one that the address names.") from error
        if isinstance(error, httpcore.ConnectError) and _is_other_than_end(cause):
            raise MediaError("What answers at the web address does not speak TLS well.") from error
        raise UnreachableError("The web server cannot be reached, or hung up.") from error
    except httpcore.RemoteProtocolError as error:
        if str(error) == _HUNG_UP:
            raise UnreachableError("The web server hung up without an answer.") from error
        if str(error).startswith(_CUT_SHORT):
            raise UnreachableError("The content from the web broke off before its end.") from error
        raise MediaError("What answers at the web address does not speak HTTP well.") from error
    except (httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
        raise MediaError("The web address cannot be asked for.") from error


def _is_other_than_end(cause: object) -> bool:
    return isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError)
