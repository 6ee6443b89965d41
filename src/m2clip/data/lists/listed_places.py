"""What a list writes for a video -> where it lies. Nothing is looked up until a place is asked for."""

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from m2clip.data.lists.listed_rows import VIDEO_SUFFIXES
from m2clip.data.lists.text_files import shown
from m2clip.data.places import Place, WebAddress, is_absent
from m2clip.errors import ManifestError

_LOOKED_AT = 100  # lines of a list of folders; the first ones may be missing
_WEB = re.compile("https?://", re.IGNORECASE)


def place_of(base: Path, text: str, folders: Sequence[str] = (), endings: Sequence[str] = ()) -> Place:
    """Where a listed video lies: at a web address, or in a file below `base`.

    UCF101 and HMDB51 come in folders of classes, but many lists of them name the file alone: it is then looked for in
    `folders`, too. Lists from Windows separate folders by backslashes, and some systems store é as two characters: such a
    spelling stands where nothing lies under the written one but something under the other. A data set that lists ids of
    videos leaves their format to who fetched them: `endings` may then stand for that of `text`.
    """
    if _WEB.match(text):
        return WebAddress(text)
    alone = bool(folders) and Path(text).name == text
    spellings = [text]
    if "\\" in text:
        spellings.append(text.replace("\\", "/"))
    if not text.isascii():
        spellings += [unicodedata.normalize(form, one) for one in list(spellings) for form in ("NFC", "NFD")]
    spellings += [one[: len(one) - len(Path(one).suffix)] + ending for one in list(spellings) for ending in endings]
    places = [base / one for one in spellings]
    if alone:
        places += [base / folder / one for folder in folders for one in spellings]
    if len(places) == 1:
        return places[0]
    return next((place for place in places if os.path.exists(place)), places[len(spellings)] if alone else places[0])


class ListedPlaces(Sequence[Place]):
    """The places of N listed videos over one column of text: a place is made when it is asked for, and not kept."""

    def __init__(
        self,
        base: Path,
        texts: pa.ChunkedArray,
        labels: np.ndarray,
        *,
        folders: Sequence[Sequence[str]] = (),
        endings: Sequence[str] = (),
    ) -> None:
        """`texts` and `labels` have N entries; `folders` has the folders of each class, or is empty; see `place_of`."""
        self.base = base
        self.texts = texts
        self._labels, self._folders, self._endings = labels, tuple(folders), tuple(endings)

    def __len__(self) -> int:
        return len(self.texts)

    @overload
    def __getitem__(self, index: int) -> Place: ...

    @overload
    def __getitem__(self, index: slice) -> "Sequence[Place]": ...

    def __getitem__(self, index: int | slice) -> "Place | Sequence[Place]":
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        return self._place(self.texts[index].as_py(), self._labels[index])

    @property
    def plain(self) -> bool:
        """Whether each text alone tells its place."""
        return not (self._folders or self._endings)

    def absent(self) -> np.ndarray:
        """bool [N]: whether nothing lies there. Looks at each file, but makes no object for each."""
        gone = np.zeros(len(self), bool)
        start, base = 0, str(self.base)
        for chunk in self.texts.chunks:
            for n, text in enumerate(chunk.to_pylist(), start=start):
                if not os.path.exists(os.path.join(base, text)):
                    gone[n] = is_absent(self._place(text, self._labels[n]))
            start += len(chunk)
        return gone

    def _place(self, text: str, label: int) -> Place:
        return place_of(self.base, text, self._folders[label] if self._folders else (), self._endings)


def without_frame_counts(base: Path, texts: pa.ChunkedArray, wheres: Sequence[str]) -> pa.ChunkedArray:
    """What is left of lines `folder frames label`, whose label is gone already: `folder`.

    Lists of folders of images, as the field's software writes them, have the number of images there. It is one if every line
    has a number and what stands before it is a folder, not so with the number. Raises ManifestError where it is a file.
    """
    if not all(pc.all(pc.match_substring_regex(chunk, "^.*[^ \\t][ \\t]+[0-9]+$")).as_py() for chunk in texts.chunks):
        return texts
    for text in texts[:_LOOKED_AT].to_pylist():
        alone = re.sub("[ \t]+[0-9]+$", "", text)
        if Path(alone).suffix.lower() in VIDEO_SUFFIXES:
            raise ManifestError(
                f"{wheres[0]}: two numbers stand behind {shown(alone)}: write `path label`, without a number of frames or a "
                "second label"
            )
        if os.path.exists(base / text):
            return texts
        if os.path.isdir(base / alone):
            return pc.replace_substring_regex(texts, "[ \\t]+[0-9]+$", "")
    return texts


def need_known_addresses(texts: pa.ChunkedArray, wheres: Sequence[str]) -> None:
    """Raise ManifestError where a list names an address of another kind than http:// and https://."""
    row = 0
    for chunk in texts.chunks:
        found = pc.match_substring_regex(chunk, "^[A-Za-z][A-Za-z0-9+.-]+://").to_numpy(zero_copy_only=False)
        for n in np.flatnonzero(found).tolist():
            if not _WEB.match(chunk[n].as_py()):
                raise ManifestError(
                    f"{wheres[row + n]}: {shown(chunk[n].as_py())} is no address of http:// or https://: fetch the videos, "
                    "and list the files"
                )
        row += len(chunk)
