"""One cell: train, test, write down. Runs in a process of its own; what it finds goes to the cell's folder.

run/              the training run: checkpoints, state, log
settings.json     what the results depend on
report.json       the whole evaluation, with confusion matrices
result.json       what the study's tables need; written last, so that it marks a finished cell
evaluations/*     a further measurement each
cell.log          what training and evaluation had to say
failed.json       why there is no result
"""

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2clip.errors import ConfigError
from m2clip.report.files import write_json
from m2clip.study.plan import Cell, Extra, changed

if TYPE_CHECKING:
    from m2clip.data.text.descriptions import TextSource
    from m2clip.model.video_clip import VideoCLIP
    from m2clip.protocol import Protocol
    from m2clip.protocol.run import ProtocolResult

FORMAT_VERSION = 1
SETTINGS, RESULT, REPORT, FAILED, LOG = "settings.json", "result.json", "report.json", "failed.json", "cell.log"


def result_paths(cell: Cell) -> list[Path]:
    """The files of a finished cell: its own result, and one for each further measurement."""
    return [cell.folder / RESULT, *(extra_path(cell, extra) for extra in cell.extras)]


def finished(cell: Cell) -> bool:
    """Whether nothing is left to do."""
    return all(path.exists() for path in result_paths(cell))


def outdated(cell: Cell) -> dict[Path, list[str]]:
    """What was made with other settings than those of now: the cell's folder or files of its evaluations, and what differs."""
    from m2clip.train import STATE

    found = {}
    # A cell that never came to the end of an epoch has nothing to lose.
    if (cell.folder / RESULT).exists() or (Path(cell.config.out) / STATE).exists():
        found[cell.folder] = changed(read_json(cell.folder / SETTINGS), cell.settings())
    for extra in cell.extras:
        path = extra_path(cell, extra)
        if path.exists():
            phrases = changed(read_result(path)["settings"], extra.settings())
            found[path] = [f"evaluations.{extra.name}: {phrase}" for phrase in phrases]
    return {path: phrases for path, phrases in found.items() if phrases}


def remove(path: Path) -> None:
    """Remove a cell's folder or the file of an evaluation."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def run_cell(cell: Cell) -> dict[str, Any]:
    """Do what is left of a cell and return its result; nothing that is finished is done again.

    Raises the errors of `train` and `run_protocol`. Where `train` was interrupted, it goes on after its last whole epoch.
    """
    from m2clip.study.measure import loss_curves, machine, trained_parameters

    cell.folder.mkdir(parents=True, exist_ok=True)
    (cell.folder / FAILED).unlink(missing_ok=True)
    write_json(cell.folder / SETTINGS, cell.settings())
    model = _model(cell)
    if not (cell.folder / RESULT).exists():
        found = _tested(model, cell, cell.protocol)
        write_json(cell.folder / REPORT, found.document)
        write_json(
            cell.folder / RESULT,
            {
                "format_version": FORMAT_VERSION,
                "method": cell.method,
                "data": cell.data,
                "seed": cell.seed,
                "trained_parameters": trained_parameters(model),
                "training": loss_curves(Path(cell.config.out)) if cell.trains else None,
                "report": compact(found.document),
                "summary": cell.protocol.written.summary,
                "machine": machine(),
                "settings": cell.settings(),
            },
        )
    for extra in cell.extras:
        path = extra_path(cell, extra)
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            write_json(path, _measured(model, cell, extra))
    return read_result(cell.folder / RESULT)


def note_failure(cell: Cell, sentence: str) -> None:
    """Write down why a cell has no result."""
    cell.folder.mkdir(parents=True, exist_ok=True)
    write_json(cell.folder / FAILED, {"error": sentence})


def read_json(path: Path) -> dict[str, Any]:
    """A file of a cell. ConfigError where it is damaged."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); remove it, and the study makes it anew") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path} holds no JSON object; remove it, and the study makes it anew")
    return document


def read_result(path: Path) -> dict[str, Any]:
    """The result of a cell or of an evaluation. ConfigError where it is damaged or of another version."""
    document = read_json(path)
    if document.get("format_version") != FORMAT_VERSION or not isinstance(document.get("report"), dict):
        raise ConfigError(f"{path} is no result that this m2clip reads; remove it, and the study makes it anew")
    return document


def compact(document: Mapping[str, Any]) -> dict[str, Any]:
    """A protocol's document without its largest tables, the confusion matrices."""
    parts = {
        name: {
            **part,
            "metrics": {
                reading: {key: value for key, value in metrics.items() if key != "confusion"}
                for reading, metrics in part["metrics"].items()
            },
        }
        for name, part in document["parts"].items()
    }
    return {**document, "parts": parts}


def extra_path(cell: Cell, extra: Extra) -> Path:
    """The file of a further measurement."""
    return cell.folder / "evaluations" / f"{extra.name}.json"


def _model(cell: Cell) -> "VideoCLIP":
    """The cell's model, trained if it is not yet; or CLIP as it is."""
    from m2clip.checkpoint import load
    from m2clip.recognizer import find_device
    from m2clip.study.measure import untrained
    from m2clip.train import train
    from m2clip.train.loop import BEST

    if not cell.trains:
        return untrained(cell.config).to(find_device())
    out = Path(cell.config.out)
    if not (cell.folder / RESULT).exists():
        train(cell.config, resume="auto", progress=False)
    return load(out / BEST).to(find_device())


def _tested(
    model: "VideoCLIP",
    cell: Cell,
    protocol: "Protocol",
    *,
    frames: int | None = None,
    texts: "TextSource | None" = None,
) -> "ProtocolResult":
    from m2clip.protocol.run import run_protocol
    from m2clip.train.loop import BEST

    return run_protocol(
        model,
        protocol,
        frames=frames,
        texts=texts,
        batch_size=cell.config.eval.batch_size,
        workers=cell.config.data.workers,
        on_bad_file=cell.config.data.on_bad_file,
        most_lost=cell.config.data.most_lost,
        file_seconds=cell.config.data.file_seconds,
        checkpoint=str(Path(cell.config.out) / BEST) if cell.trains else None,
        tell=lambda sentence: print(sentence, file=sys.stderr),
    )


def _measured(model: "VideoCLIP", cell: Cell, extra: Extra) -> dict[str, Any]:
    from m2clip.study.measure import machine

    wanted = extra.config
    model.set_strength(model.info.strength if wanted.strength is None else wanted.strength)
    found = _tested(model, cell, extra.protocol, frames=wanted.frames, texts=extra.texts)
    return {
        "format_version": FORMAT_VERSION,
        "method": cell.method,
        "evaluation": extra.name,
        "data": cell.data,
        "seed": cell.seed,
        "report": compact(found.document),
        "summary": extra.protocol.written.summary,
        "machine": machine(),
        "settings": extra.settings(),
    }
