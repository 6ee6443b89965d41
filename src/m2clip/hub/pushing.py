"""A checkpoint and its card -> a folder, and that folder into a repository of the Hugging Face hub, in one commit."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from m2clip import __version__
from m2clip.checkpoint.builder import load
from m2clip.checkpoint.clip_weights import is_path
from m2clip.checkpoint.files import CHECKPOINT_NAME, checkpoint_file
from m2clip.errors import CheckpointError, ConfigError, M2CLIPError
from m2clip.hub.card import model_card

_CARD = "README.md"


def write_folder(
    checkpoint: str | Path,
    folder: Path,
    *,
    repository: str,
    license_id: str | None = None,
    weights: str | Path | None = None,
) -> list[Path]:
    """Write what a repository "owner/name" gets: the checkpoint and its card; the files.

    A checkpoint whose frozen CLIP is a file of this machine is written with the CLIP inside, and without the file's path; any
    other is copied byte by byte. It is loaded once, so that what cannot be loaded is not passed on.

    Raises ConfigError for a folder that is not empty or a name that is none, and CheckpointError as of `load`.
    """
    _need_name(repository)
    path = checkpoint_file(checkpoint)
    model = load(path, weights=weights)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty; name a folder that is new")
        target = folder / CHECKPOINT_NAME
        source = model.info.weights.source
        if source in (None, "builtin", "openai") or not is_path(str(source)):
            shutil.copyfile(path, target)
        else:
            own = model.info.weights.model_copy(update={"source": None})
            model.info = model.info.model_copy(update={"weights": own})
            model.save(target, with_backbone=True)
        trained = sum(parameter.numel() for parameter in model.trained_parameters().values())
        card = model_card(model.info, repository=repository, trained_parameters=trained, license_id=license_id)
        (folder / _CARD).write_text(card, encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be written ({error.strerror or error}); name a folder that can be made or written to"
        ) from None
    return [target, folder / _CARD]


def push(
    checkpoint: str | Path,
    repository: str,
    *,
    private: bool = False,
    message: str | None = None,
    license_id: str | None = None,
    new_card: bool = False,
    weights: str | Path | None = None,
    tell: Callable[[str], None] = lambda sentence: None,
) -> str:
    """Put a checkpoint into the hub's repository "owner/name", which is made if need be; the address of the commit.

    The token is the hub client's own (`hf auth login`, or HF_TOKEN); HF_ENDPOINT names another hub. A card that the repository has
    stays unless `new_card`, for people write into it. `private`: a repository that is public already is refused.

    Raises ConfigError and CheckpointError as of `write_folder`, and CheckpointError where the hub refuses or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    with TemporaryDirectory() as temporary:
        files = write_folder(checkpoint, Path(temporary), repository=repository, license_id=license_id, weights=weights)
        api = HfApi(library_name="m2clip", library_version=__version__)
        with _hub_errors(repository):
            api.create_repo(repository, private=private or None, exist_ok=True)
            there = api.model_info(repository)
            if private and not there.private:
                raise ConfigError(
                    f"the repository {repository} is there and public; make it private first, or name another"
                )
            has_card = any(file.rfilename == _CARD for file in there.siblings or ())
            if has_card and not new_card:
                tell(f"the card that {repository} has is kept; --new-card writes another")
                files = [path for path in files if path.name != _CARD]
            operations = [CommitOperationAdd(path.name, path) for path in files]
            commit = api.create_commit(repository, operations, commit_message=message or "Add a checkpoint of m2clip")
    return str(commit.commit_url)


def _need_name(repository: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError:
        repository = ""
    if repository.count("/") != 1:
        raise ConfigError("a hub repository is named owner/name, with letters, digits, '-', '_' and '.' only")


@contextmanager
def _hub_errors(repository: str) -> Iterator[None]:
    """Whatever goes wrong between us and the hub, as one sentence of our own; what the hub writes is not repeated."""
    from huggingface_hub.errors import LocalTokenNotFoundError

    try:
        yield
    except M2CLIPError:
        raise
    except LocalTokenNotFoundError:
        raise CheckpointError(_SENTENCES[401].format(repository)) from None
    except Exception as error:  # network and proxy faults have many types across versions of the hub's client
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is None:
            said = f"the hub cannot be reached for {{}} ({type(error).__name__}): check the network, and HF_ENDPOINT if it is set"
        elif status >= 500:
            said = f"the hub answers {status} for {{}}; try again later"
        else:
            said = _SENTENCES.get(status, f"the hub answers {status} for {{}}, so nothing was written there")
        raise CheckpointError(said.format(repository)) from None


_SENTENCES = {
    401: "the hub knows no token that may write to {}: log in with `hf auth login`, or set HF_TOKEN",
    403: "the token may not write to {}: log in as its owner, or with a token that has write access",
    404: "the hub has no place for {}: check the owner's name, and that the token is of its owner",
}
