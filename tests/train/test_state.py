"""Training states: what is written is read, and what is damaged or strange is refused in a sentence."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from m2clip.data.dataset import BadFile, DamagedFile
from m2clip.data.places import ShardMember, WebAddress
from m2clip.errors import CheckpointError
from m2clip.train.file_notes import plain_bad, plain_damaged
from m2clip.train.state import TrainingState

BAD = [
    BadFile(Path("a \udcff\u2028.mp4"), "list.txt:1", "no frame", 0),  # a byte that is no UTF-8
    BadFile(WebAddress("https://host/b.mp4"), "list.txt:2", "no answer", 1, crashed=True),
    BadFile(ShardMember("s.tar", "c.mp4", 512, 99, "0" * 64), "list.txt:3", "cut", 2),
]
DAMAGED = [DamagedFile(Path("d.mp4"), "list.txt:4", 0.25, 3)]


def state(**changes: Any) -> TrainingState:
    values: dict[str, Any] = {
        "epochs_done": 1, "steps_done": 5, "trained": {"a": torch.arange(3.0)}, "average": {}, "averaged": 0,
        "optimizer": {"state": {0: {"step": torch.tensor(5.0)}}}, "best": {"epoch": 1, "top1": None}, "first_loss": 2.5,
        "settings": {"out": "run"}, "hashes": {}, "epoch_steps": 2, "loss_sum": 7.5, "videos": 4, "bad": plain_bad(BAD[:1]),
        "known_bad": plain_bad(BAD), "known_damaged": plain_damaged(DAMAGED), "log_sizes": {"metrics.jsonl": 12},
    }  # fmt: skip
    return TrainingState(**values | changes)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    state().write(tmp_path / "state.pt")
    found = TrainingState.read(tmp_path / "state.pt")
    assert found.known_files() == (BAD, DAMAGED)
    ours, theirs = asdict(found), asdict(state())
    assert torch.equal(ours.pop("trained")["a"], theirs.pop("trained")["a"])
    assert ours == theirs


def test_a_password_stays_out_of_it() -> None:
    place = WebAddress("https://user:secret@host/b.mp4")
    assert "secret" not in repr(plain_bad([BadFile(place, "list.txt:2", "no answer", 1)]))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epochs_done": -1}, "a number of epochs or steps is less than 0"),
        ({"steps_done": 2.0}, "steps_done is of the type float"),
        ({"best": None}, "best is of the type NoneType"),
        ({"trained": {"a": 1}}, "the trained tensors are no tensors"),
        ({"log_sizes": {"metrics.jsonl": -1}}, "log_sizes holds no sizes"),
        ({"known_bad": [{"place": "a.mp4"}]}, "KeyError: 'where'"),
        ({"damaged": [{"place": {"shard": 1}, "where": "", "lost_share": 0.1, "index": 1}]}, "TypeError"),
    ],
)
def test_a_damaged_state_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = tmp_path / "state.pt"
    state(**changes).write(path)
    with pytest.raises(
        CheckpointError, match=r"state\.pt: the training state cannot be read \(.*start again"
    ) as caught:
        TrainingState.read(path)
    assert words in str(caught.value)


def test_a_state_that_lacks_something_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    state().write(path)
    content = torch.load(path, weights_only=True)
    for name in ("optimizer", "log_sizes"):
        torch.save({key: value for key, value in content.items() if key != name}, path)
        with pytest.raises(CheckpointError, match=rf"cannot be read \(KeyError: '{name}'\)"):
            TrainingState.read(path)
    torch.save({key: value for key, value in content.items() if key != "format_version"}, path)
    with pytest.raises(CheckpointError, match="has state version None, this m2clip reads 2 and 3"):
        TrainingState.read(path)
