"""Feeds server events (JSON lines on stdin) to the parser of an SDK: `python read_events.py openai|agents`.

Run by test_realtime_sdks.py with the Python of the clients' environment. Prints what is refused; exit status 1 then.
"""

import importlib
import json
import sys
from typing import Any


def parser(sdk: str) -> Any:
    """A pydantic TypeAdapter of the SDK's server events."""
    if sdk == "agents":
        return importlib.import_module("agents.realtime.openai_realtime").get_server_event_type_adapter()
    # The SDK itself validates nothing; its declared types say which members user code may rely on.
    union = importlib.import_module("openai.types.realtime").RealtimeServerEvent
    return importlib.import_module("pydantic").TypeAdapter(union)


def main() -> int:
    """1 when an event is refused."""
    adapter, refused = parser(sys.argv[1]), 0
    for line in sys.stdin:
        event = json.loads(line)
        try:
            parsed = adapter.validate_python(event)
            assert (parsed.type, parsed.event_id) == (event["type"], event["event_id"])
        except (ValueError, AssertionError) as error:
            refused += 1
            sys.stdout.write(f"{line}{error}\n")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
