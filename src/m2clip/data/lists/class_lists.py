"""One list a class, with codes that say which part of a split each video belongs to: HMDB51's official splits as they are."""

import hashlib
import re
from pathlib import Path

from m2clip.data.classes import ClassTable
from m2clip.data.lists.class_files import read_classes
from m2clip.data.lists.text_files import read_list_file, shown, split_line
from m2clip.data.manifest import Manifest, Sample, Samples
from m2clip.errors import ManifestError


def read_class_lists(
    pattern: str | Path, *, code: int, classes: ClassTable | str | Path | None = None, root: str | Path | None = None
) -> Manifest:
    """Read the videos with this code from the files of a pattern such as `splits/*_test_split1.txt`.

    What * stands for is the class, the file's lines are `video code`, and the videos lie in root/CLASS (without a root in
    the folder of the lists). HMDB51 writes 1 for training, 2 for test and 0 for videos that a split leaves out. The classes
    are those of `classes`, or else of the files, sorted. Raises ManifestError with file and line.
    """
    pattern = Path(pattern)
    before, star, after = pattern.name.partition("*")
    if not star or "*" in after or "*" in str(pattern.parent):
        raise ManifestError(f"{pattern}: one list a class needs one * in the file name, as in *_test_split1.txt")
    files = {
        path.name[len(before) : len(path.name) - len(after)]: path
        for path in sorted(pattern.parent.glob("*"))
        if path.name.startswith(before) and path.name.endswith(after) and len(path.name) > len(before + after)
    }
    if not files:
        raise ManifestError(f"{pattern} fits no file: unpack the lists into {pattern.parent}, or give their folder")
    if isinstance(classes, str | Path):
        classes = read_classes(classes)
    table = classes or ClassTable(tuple(files))
    labels = table.resolve([(str(path), name) for name, path in files.items()], by_name=True)
    base = pattern.parent if root is None else Path(root)
    samples: list[Sample] = []
    digest = hashlib.sha256()
    for (name, path), label in zip(files.items(), labels, strict=True):
        file = read_list_file(path)
        digest.update(f"{path.name} {file.sha256}\n".encode())
        for number, line in file.lines():
            video, own_code = split_line(line)
            if not re.fullmatch("[0-9]{1,9}", own_code):
                raise ManifestError(
                    f"{file.where(number)}: {shown(line)} has no code: write `video code`, such as `a.avi 2`"
                )
            if int(own_code) == code:
                samples.append(Sample(base / name / video, label, where=file.where(number)))
    if not samples:
        raise ManifestError(
            f"{pattern}: none of the {len(files)} lists has a video with the code {code}: check the code"
        )
    return Manifest(Samples.of(samples), table.names, table.texts, str(pattern), digest.hexdigest())
