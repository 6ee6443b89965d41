"""Pushing to a stand-in for the hub and loading from it: the same tensors, one commit, and one sentence for what goes wrong."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import constants

from m2clip import CheckpointError, ConfigError, load
from m2clip.checkpoint.files import sha256
from m2clip.hub import push, write_folder
from m2clip.hub.card import model_card
from m2clip.model.info import WeightSource
from tests.hub_server import TOKEN, Hub, Repository, serving_hub
from tests.small_inputs import tiny_model

NAME = "someone/tiny-m2clip"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub that this process takes for the hub, with a cache of the test's own and a token that may write."""
    with serving_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tiny_model(("walking", "running"))
    record = {"epochs": 3, "seed": 1, "validation": {"similarity": 0.5, "ensemble": 0.75}}
    model.info = model.info.model_copy(update={"training": record})
    return model.save(tmp_path_factory.mktemp("hub") / "best.safetensors")


def test_what_is_pushed_is_loaded_to_the_last_bit(hub: Hub, checkpoint: Path) -> None:
    address = push(checkpoint, NAME, message="First")
    there = hub.repositories[NAME]
    assert address == f"{hub.url}/{NAME}/commit/{there.revision()}"
    assert len(there.commits) == 2  # the hub's own first one, and ours
    files, message = there.commits[-1]
    assert message == "First"
    assert set(files) == {"m2clip.safetensors", "README.md"}
    assert files["m2clip.safetensors"] == (checkpoint.read_bytes(), True)
    again, before = load(f"hf-hub:{NAME}"), load(checkpoint)
    assert again.info == before.info
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in before.state_dict().items())


def test_a_revision_can_be_pinned(hub: Hub, checkpoint: Path, tmp_path: Path) -> None:
    push(checkpoint, NAME)
    first = hub.repositories[NAME].revision()
    other = tiny_model(("sitting", "lying"), seed=1)
    push(other.save(tmp_path / "other.safetensors"), NAME)
    assert load(f"hf-hub:{NAME}").info.class_names == ("sitting", "lying")
    assert load(f"hf-hub:{NAME}@{first}").info.class_names == ("walking", "running")
    with pytest.raises(CheckpointError, match=r"has no revision 'v9'; name a branch, a tag or a whole commit"):
        load(f"hf-hub:{NAME}@v9")
    hub.refuse["/"] = 500  # the cache still has it
    assert load(f"hf-hub:{NAME}@{first}").info.class_names == ("walking", "running")


def test_bytes_that_differ_from_the_hubs_hash_are_refused(hub: Hub, checkpoint: Path) -> None:
    push(checkpoint, NAME)
    hub.damage = True
    with pytest.raises(CheckpointError, match=r"arrived with other bytes than the hub states .*; try again"):
        load(f"hf-hub:{NAME}")
    hub.damage = False
    assert load(f"hf-hub:{NAME}").info.class_names == ("walking", "running")


def test_a_card_that_people_wrote_stays(hub: Hub, checkpoint: Path) -> None:
    push(checkpoint, NAME)
    files = hub.repositories[NAME].commits[-1][0]
    files["README.md"] = (b"written by hand", False)
    told: list[str] = []
    push(checkpoint, NAME, tell=told.append)
    assert hub.repositories[NAME].commits[-1][0]["README.md"] == (b"written by hand", False)
    assert "is kept" in told[0]
    push(checkpoint, NAME, new_card=True)
    assert b"# tiny-m2clip" in hub.repositories[NAME].commits[-1][0]["README.md"][0]


def test_private_means_private(hub: Hub, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    push(checkpoint, NAME, private=True)
    assert hub.repositories[NAME].private
    assert load(f"hf-hub:{NAME}").info.class_names == ("walking", "running")
    push(checkpoint, "someone/open")
    with pytest.raises(ConfigError, match="is there and public"):
        push(checkpoint, "someone/open", private=True)
    assert len(hub.repositories["someone/open"].commits) == 2
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(CheckpointError, match="or it is private"):
        load(f"hf-hub:{NAME}")


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/api/repos/create", 401, "log in with `hf auth login`, or set HF_TOKEN"),
        ("/api/repos/create", 404, "check the owner's name"),
        ("/api/repos/create", 500, "the hub answers 500 for someone/tiny-m2clip; try again later"),
        ("/api/models/someone/tiny-m2clip/commit", 403, "the token may not write to someone/tiny-m2clip"),
        ("/api/models/someone/tiny-m2clip/commit", 418, "the hub answers 418"),
        ("/someone/tiny-m2clip.git", 403, "the token may not write to someone/tiny-m2clip"),
    ],
)
def test_a_refusal_is_one_sentence(hub: Hub, checkpoint: Path, path: str, status: int, said: str) -> None:
    hub.refuse[path] = status
    with pytest.raises(CheckpointError, match=said) as caught:
        push(checkpoint, NAME)
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert all(len(there.commits) == 1 for there in hub.repositories.values())


def test_without_a_token_it_says_how_to_log_in(hub: Hub, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(CheckpointError, match="log in with `hf auth login`"):
        push(checkpoint, NAME)
    assert hub.repositories == {}


def test_a_hub_that_is_not_there(hub: Hub, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=r"cannot be reached for .* check the network, and HF_ENDPOINT"):
        push(checkpoint, NAME)


def test_loading_tells_what_the_hub_answered(hub: Hub) -> None:
    with pytest.raises(CheckpointError, match="the hub has no repository 'no/body'"):
        load("hf-hub:no/body")
    hub.refuse["/some/body"] = 403
    with pytest.raises(CheckpointError, match=r"could not be fetched .*\(it answers 403\)"):
        load("hf-hub:some/body")


def test_only_safetensors_are_asked_for(hub: Hub) -> None:
    """A repository with nothing but a pickle gives nothing."""
    hub.repositories[NAME] = Repository(private=False)
    hub.repositories[NAME].commits.append(({"pytorch_model.bin": (b"pickle", True)}, "x"))
    with pytest.raises(CheckpointError, match=r"has none of m2clip\.safetensors"):
        load(f"hf-hub:{NAME}")


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "some one/tiny", "../x", "a/b--c", "https://hub/a/b"])
def test_a_name_that_is_none(checkpoint: Path, name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is named owner/name"):
        write_folder(checkpoint, tmp_path / "new", repository=name)
    assert not (tmp_path / "new").exists()


def test_the_folder_of_a_dry_run(checkpoint: Path, tmp_path: Path) -> None:
    files = write_folder(checkpoint, tmp_path / "new", repository=NAME)
    assert sorted(files) == sorted((tmp_path / "new").iterdir())
    assert sha256(tmp_path / "new" / "m2clip.safetensors") == sha256(checkpoint)
    with pytest.raises(ConfigError, match="is not empty"):
        write_folder(checkpoint, tmp_path / "new", repository=NAME)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        write_folder(checkpoint, tmp_path / "file", repository=NAME)


def test_no_path_of_this_machine_goes_out(tmp_path: Path) -> None:
    """A CLIP that only this machine has travels inside."""
    whole = tiny_model().save(tmp_path / "clip.safetensors")
    model = tiny_model(("a", "b"), seed=1)
    model.clip.load_state_dict(load(whole).clip.state_dict())
    weights = WeightSource(source=str(whole), sha256=sha256(whole))
    model.info = model.info.model_copy(update={"weights": weights})
    checkpoint = model.save(tmp_path / "trained.safetensors")
    files = write_folder(checkpoint, tmp_path / "new", repository=NAME)
    before = load(checkpoint)
    whole.unlink()
    again = load(tmp_path / "new" / "m2clip.safetensors")
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in before.state_dict().items())
    assert all(str(tmp_path).encode() not in file.read_bytes() for file in files)


def header_of(card: str) -> dict[str, object]:
    _, header, _ = card.split("---\n", 2)
    return yaml.safe_load(header)


def test_the_card_says_what_the_record_says(checkpoint: Path) -> None:
    info = load(checkpoint).info
    card = model_card(info, repository=NAME, trained_parameters=1234, license_id="apache-2.0")
    header = header_of(card)
    assert (header["library_name"], header["pipeline_tag"]) == ("m2clip", "video-classification")
    assert header["license"] == "apache-2.0"
    assert "base_model" not in header
    assert '    recognizer = Recognizer("hf-hub:someone/tiny-m2clip")' in card
    assert "| trained parameters | 1,234 |" in card
    assert "- ensemble: 75.0 %" in card
    assert "one view a video, not calibrated" in card
    assert "    walking\n    running\n" in card


def test_the_card_names_the_clip_and_invents_nothing(checkpoint: Path) -> None:
    info = load(checkpoint).info.model_copy(
        update={
            "backbone": "ViT-B-16",
            "weights": WeightSource(source="openai"),
            "training": {},
            "class_names": (),
            "texts": (),
        }
    )
    card = model_card(info, repository=NAME, trained_parameters=0)
    assert header_of(card)["base_model"] == "openai/clip-vit-base-patch16"
    assert "license" not in header_of(card)
    assert "%" not in card
    assert "nothing was trained" in card
    assert 'labels=["running", "jumping"]' in card


def test_names_cannot_change_the_card(checkpoint: Path) -> None:
    """Class names come from whoever made the data: they stay text."""
    names = ("# big\nheading", "</details><script>x</script>", *(f"class {n}" for n in range(30)))
    info = load(checkpoint).info.model_copy(
        update={"class_names": names, "texts": tuple((name,) for name in names), "template": "a `b` | {}"}
    )
    card = model_card(info, repository=NAME, trained_parameters=0)
    assert "    # big heading\n    </details><script>x</script>\n" in card
    assert "| texts | `a 'b' / {}` |" in card
    assert "<details><summary>all of them</summary>\n\n    # big" in card


def test_the_record_of_a_stranger_cannot_change_the_card(checkpoint: Path) -> None:
    evil = "x](javascript:alert(1)) <img src=x onerror=alert(2)>"
    info = load(checkpoint).info.model_copy(
        update={
            "backbone": evil,
            "weights": WeightSource(source=evil),
            "training": {"epochs": 1, "validation": {evil: 0.5, "b": evil}},
        }
    )
    card = model_card(info, repository=NAME, trained_parameters=0)
    body = "\n".join(line for line in card.split("---\n", 2)[2].splitlines() if not line.startswith("    "))
    assert "](javascript" not in body.replace("\\]", "")
    assert "<img" not in body.replace("\\<", "")
    assert "](https://huggingface.co/x%5D%28javascript%3Aalert" in body


def test_the_program_pushes_to_the_hub_that_the_environment_names(checkpoint: Path, tmp_path: Path) -> None:
    with serving_hub() as hub:
        names = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_XET": "1"}
        program = [sys.executable, "-m", "m2clip", "push", str(checkpoint), NAME]
        ran = subprocess.run(program, capture_output=True, text=True, env={**os.environ, **names})
        assert ran.returncode == 0, ran.stderr
        assert ran.stderr == ""
        assert ran.stdout.splitlines()[1] == f'm2clip.load("hf-hub:{NAME}")'
        hub.refuse[f"/api/models/{NAME}/commit"] = 403
        ran = subprocess.run([*program, "--json"], capture_output=True, text=True, env={**os.environ, **names})
        assert (ran.returncode, ran.stdout) == (1, "")
        assert ran.stderr.splitlines()[-1].startswith("m2clip: the token may not write to")
        assert TOKEN not in ran.stderr
