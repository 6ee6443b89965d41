"""The command study: many runs, side by side."""

from pathlib import Path
from typing import Annotated

import typer

from m2clip.cli.options import Json
from m2clip.cli.output import print_json, progress_bar, say, show
from m2clip.errors import ConfigError


def study(
    config: Annotated[Path, typer.Argument(metavar="STUDY", help="YAML file of a study.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="As in seeds=[0] or run.train.epochs=3.")
    ] = None,
    lanes: Annotated[
        int | None, typer.Option("--lanes", min=1, max=64, help="Cells at a time; default: as the file says.")
    ] = None,
    redo: Annotated[bool, typer.Option("--redo", help="Make cells anew whose settings changed.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all cells, print them, run none.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Write the results of what is finished so far, run nothing.")
    ] = False,
    page: Annotated[
        Path | None, typer.Option("--page", help="Also write the results as Markdown, such as docs/results/study.md.")
    ] = None,
    json: Json = False,
) -> None:
    """Train and test a grid of methods, data sets and seeds; what is finished is kept. Exit code 1 if a cell failed."""
    from m2clip.study import load_study
    from m2clip.study.cell import finished
    from m2clip.study.page import need_parts
    from m2clip.study.plan import need_files, plan

    settings = load_study(config, overrides or ())
    cells = plan(settings)
    need_parts(settings, cells)
    if dry_run:
        states = {cell.name: "finished" if finished(cell) else "to do" for cell in cells}
        if json:
            print_json({"out": settings.config.out, "cells": states})
        else:
            show(*(f"{name}: {state}" for name, state in states.items()))
        return
    from m2clip.study.output import write_page, write_results
    from m2clip.study.results import gather
    from m2clip.study.runner import Outcome, need_same_settings, run_cells

    out = Path(settings.config.out)
    if report:
        need_same_settings(cells)
        outcome = Outcome((), tuple(cell.name for cell in cells if finished(cell)), {})
    else:
        need_files(cells)
        with progress_bar("cells") as progress:
            outcome = run_cells(
                cells,
                out=out,
                lanes=lanes or settings.config.lanes,
                threads=settings.config.threads,
                redo=redo,
                tell=say,
                progress=progress,
            )
    results = gather(cells)
    if report and not results:
        raise ConfigError(f"{out}: no cell of this study is finished, so there is nothing to report; run it first")
    files = write_results(settings, results, out) if results else []
    if page is not None and results:
        write_page(settings, results, page)
        files.append(str(page))
    if json:
        print_json(
            {
                "out": str(out),
                "ran": list(outcome.ran),
                "kept": list(outcome.kept),
                "failed": dict(outcome.failed),
                "files": files,
            }
        )
    else:
        show(*files)
    if outcome.failed:
        say(f"{len(outcome.failed)} of {len(cells)} cells failed; the study runs them again when it is called again")
        raise typer.Exit(1)
