"""One JSON object out of bytes that may be anything."""

import json

__all__ = ["parse_object"]


def parse_object(data: bytes) -> dict[str, object]:
    """Return a JSON object. Raises ValueError with one sentence where the bytes are none."""
    try:
        value = json.loads(data.decode("utf-8-sig"))
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        msg = f"It is not UTF-8 (byte {error.start})."
    except UnicodeEncodeError:
        msg = "It has an escape (\\ud800 to \\udfff) that is half a character."
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "too deep, or a number too long"
        msg = f"It is not JSON: {reason}."
    else:
        if isinstance(value, dict):
            return value
        msg = f"It is a JSON {type(value).__name__}, not an object."
    raise ValueError(msg)
