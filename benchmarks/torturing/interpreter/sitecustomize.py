"""Python loads this at the start of every interpreter that a victim starts, for its folder is on their path: see tripwire.py."""

import importlib.util
from pathlib import Path

_spec = importlib.util.spec_from_file_location("tripwire", Path(__file__).parents[1] / "tripwire.py")
assert _spec is not None
assert _spec.loader is not None
_tripwire = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_tripwire)
_tripwire.arm()
