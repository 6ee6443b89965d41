"""What an evaluation would do, told before it is done; the whole of it is tested in tests/cli/test_protocols.py."""

import shlex
from pathlib import Path

import pytest

from m2clip.data.manifest import Manifest, Sample
from m2clip.data.text.descriptions import TextSource
from m2clip.errors import ConfigError
from m2clip.protocol.preview import overrides, preview_lines, preview_part
from tests.small_inputs import tiny_model

NAMES = ("run", "jump", "sit", "wave", "clap")


def listed(tmp_path: Path, *, there: int, gone: int) -> Manifest:
    samples = [Sample(tmp_path / f"{n}.mp4", 0, where=f"list.txt:{n + 1}") for n in range(there + gone)]
    for sample in samples[:there]:
        sample.path.touch()
    return Manifest(tuple(samples), NAMES, (), "list.txt", "0" * 64)


def test_a_part_is_counted(tmp_path: Path) -> None:
    info = tiny_model(frames=4, stride_frames=2).info
    part = preview_part(info, listed(tmp_path, there=2, gone=5), "zero-shot", visual_head=True, views=(4, 3))
    assert (part["videos"]["listed"], part["videos"]["found"], part["videos"]["missing"]) == (7, 2, 5)
    assert [one["where"] for one in part["videos"]["first_missing"]] == ["list.txt:3", "list.txt:4", "list.txt:5"]
    assert (part["clips"], part["frames"], part["stride_frames"]) == (24, 4, 2)
    assert part["readings"] == ["similarity"]  # zero-shot never reads a visual head
    assert part["classes_without_videos"] == 4


def test_the_visual_head_is_read_where_it_was_trained(tmp_path: Path) -> None:
    fresh = tiny_model(NAMES).info
    trained = fresh.model_copy(update={"training": {"epochs": 1}})
    manifest = listed(tmp_path, there=1, gone=0)

    def readings(info: object, head: bool) -> list[str]:
        return preview_part(info, manifest, "supervised", visual_head=head, views=(1, 1))["readings"]  # type: ignore[arg-type]

    assert readings(trained, True) == ["similarity", "visual", "ensemble"]
    assert readings(trained, False) == readings(fresh, True) == ["similarity"]
    with pytest.raises(ConfigError, match="needs the checkpoint's 1 classes"):
        readings(tiny_model(("run",)).info, True)


def test_long_lists_are_cut_in_the_lines_and_whole_in_the_document(tmp_path: Path) -> None:
    texts = TextSource(templates=("{} it", "do {}", "{}!"))
    manifest = listed(tmp_path, there=1, gone=4)
    part = preview_part(tiny_model().info, manifest, "zero-shot", visual_head=False, views=(1, 1), texts=texts)
    assert part["texts"][4] == ["clap it", "do clap", "clap!"]
    lines = preview_lines({"parts": {"data": part}, "strength": 0.5})
    assert "  text      sit it (and 2 more)" in lines
    assert "  ...       2 classes more" in lines
    assert "  empty     4 classes have no video" in lines
    assert "adapters at strength 0.5" in lines
    assert sum(line.startswith("  missing") for line in lines) == 3


def test_overrides_can_be_pasted_into_a_shell() -> None:
    line = overrides({"train": "a b/t.txt", "classes": "c.csv"})
    wanted = ["data.train=a b/t.txt", "data.val=null", "data.test=null", "data.classes=c.csv", "data.root=null"]
    assert shlex.split(line) == wanted
