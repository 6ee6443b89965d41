"""Events as the page's script sends them."""

import json
from typing import Any


def event(number: int, *data: Any, **others: Any) -> bytes:
    """The body of an event of this number."""
    return json.dumps({"data": data, "fn_index": number, "session_hash": "abc"} | others).encode()
