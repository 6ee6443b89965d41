"""Where m2clip keeps on disk what it can always make again: deleting the folder costs time and nothing else."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder, which need not exist yet: $M2CLIP_CACHE, else m2clip in $XDG_CACHE_HOME, else ~/.cache/m2clip.

    Raises OSError where none of them can be named (a user without a home folder); go on without a cache then.
    """
    own = os.environ.get("M2CLIP_CACHE", "")
    if own:
        return Path(os.path.expanduser(own))
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if shared.is_absolute():  # the XDG specification tells to ignore any other
        return shared / "m2clip"
    home = Path(os.path.expanduser("~"))
    if not home.is_absolute():
        raise OSError("there is no home folder to keep a cache in")
    return home / ".cache" / "m2clip"
