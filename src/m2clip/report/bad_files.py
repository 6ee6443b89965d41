"""What a run says of files that could not be read, or only in part: each one once, the first by name and all in a table."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from m2clip.data.dataset import BadFile, DamagedFile
from m2clip.errors import VideoError
from m2clip.report.files import write_csv

BAD_FILES, DAMAGED_FILES = "bad_files.csv", "damaged_files.csv"
_NAMED_BAD, _NAMED_DAMAGED = 20, 5  # by a sentence each; of a set with thousands, nobody would see anything else


class FileReport:
    """The files of a run that are bad or damaged.

    `policy` "skip" tells of bad files, "stop" makes the first one a VideoError. `tell` gets a sentence for each of the first
    20 bad and 5 damaged files, and one more where there are others.
    """

    def __init__(self, *, policy: Literal["skip", "stop"], tell: Callable[[str], None]) -> None:
        self._policy, self._tell = policy, tell
        # By what names a file in all lists of a run, in the order in which they were met.
        self._bad: dict[tuple[str, str], BadFile] = {}
        self._damaged: dict[tuple[str, str], DamagedFile] = {}

    def note(self, bad: Iterable[BadFile], damaged: Iterable[DamagedFile]) -> None:
        """Take in what a batch, a process or a pass has met."""
        for file in bad:
            sentence = f"{file.reason} (listed at {file.where})"
            if self._policy == "stop":
                raise VideoError(f"{sentence}; to go on without such files set on_bad_file to skip")
            if (key := (str(file.path), file.where)) not in self._bad:
                self._bad[key] = file
                self._say(f"skipped: {sentence}", len(self._bad), _NAMED_BAD, "cannot be read")
        for part in damaged:
            if (key := (str(part.path), part.where)) not in self._damaged:
                self._damaged[key] = part
                sentence = f"damaged: {part.path} has lost {part.lost_percent} of its frames (listed at {part.where})"
                self._say(sentence, len(self._damaged), _NAMED_DAMAGED, "are damaged")

    def known(self) -> tuple[list[BadFile], list[DamagedFile]]:
        """The bad and the damaged files so far, in the order in which they were met."""
        return list(self._bad.values()), list(self._damaged.values())

    def go_on(self, bad: Iterable[BadFile], damaged: Iterable[DamagedFile]) -> None:
        """Take in what `known` gave to an interrupted run, which has told of it."""
        self._bad |= {(str(file.path), file.where): file for file in bad}
        self._damaged |= {(str(part.path), part.where): part for part in damaged}

    def _say(self, sentence: str, number: int, most: int, what: str) -> None:
        if number <= most:
            self._tell(sentence)
        elif number == most + 1:
            self._tell(f"more than {most} files {what}; from here on they are counted, and named in the results only")

    def summary(self) -> str:
        """How many there were, as a phrase; empty where all files are whole."""
        kinds = (
            (len(self._bad), "file that could not be read", "files that could not be read"),
            (len(self._damaged), "damaged file that was used", "damaged files that were used"),
        )
        return " and ".join(f"{count} {one if count == 1 else many}" for count, one, many in kinds if count)

    def write(self, folder: Path) -> list[str]:
        """Write bad_files.csv and damaged_files.csv into the folder, each if there are any; returns the names."""
        return write_file_tables(folder, self._bad.values(), self._damaged.values())


def write_file_tables(
    folder: Path, bad: Iterable[BadFile], damaged: Iterable[DamagedFile], *, prefix: str = ""
) -> list[str]:
    """Write the tables of bad and of damaged files into the folder, each if it has a row; returns the names, `prefix` first."""
    tables = (
        (prefix + BAD_FILES, "reason", [(file.path, file.where, file.reason) for file in bad]),
        (prefix + DAMAGED_FILES, "lost_share", [(file.path, file.where, file.lost_share) for file in damaged]),
    )
    for name, column, rows in tables:
        if rows:
            write_csv(folder / name, ["path", "where", column], rows)
    return [name for name, _, rows in tables if rows]
