"""The files of a finished command: all of them appear, or none; and what the command says of them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare.cli.answer import Answer
from compare.files import FIGURE_FORMATS, finished, write_dataset, write_figure, write_json

if TYPE_CHECKING:
    import xarray

    from sim.presets import Preset


def write_curves(answer: Answer, path: Path, dataset: xarray.Dataset, settings: dict[str, Any]) -> None:
    """Write the curves of `dmft solve` or `dmft simulate`."""
    from compare.cli.records import curves_record

    with finished(path) as part:
        write_dataset(part, dataset)
    answer.finish([path], settings=settings, result=curves_record(dataset))


def write_comparison(
    answer: Answer, folder: Path, theory: xarray.Dataset, simulation: xarray.Dataset, timings: dict[str, float]
) -> None:
    """Write the four files of `dmft compare` and print its tables."""
    from compare.agreement import overlay
    from compare.cli.tables import grokking_table
    from compare.grokking import grokking_delay, regime, regime_record
    from compare.verdicts import agreement_table

    agreement = overlay(theory, simulation)
    measures = {
        name: (grokking_delay(dataset), regime(dataset))
        for name, dataset in (("theory", theory), ("simulation", simulation))
    }
    summary = agreement.summary()
    summary["grokking"] = {name: regime_record(*measure) for name, measure in measures.items()}
    summary["timings"] = {name: round(seconds, 3) for name, seconds in timings.items()}
    with contextlib.ExitStack() as stack:
        # Moved to their places in reverse order, the summary last.
        parts = {
            name: stack.enter_context(finished(folder / name))
            for name in ("summary.json", "overlay.png", "simulation.nc", "theory.nc")
        }
        write_dataset(parts["theory.nc"], theory)
        write_dataset(parts["simulation.nc"], simulation)
        write_figure(parts["overlay.png"], agreement.figure(), "png")
        write_json(parts["summary.json"], summary)
    for note in summary["notes"]:
        answer.say(f"note: {note}")
    answer.say(f"\n{agreement_table(summary)}\n\n{grokking_table(measures)}\n")
    names = ("theory.nc", "simulation.nc", "overlay.png", "summary.json")
    answer.finish([folder / name for name in names], result=summary)


def write_phase(answer: Answer, folder: Path, diagram: xarray.Dataset, settings: dict[str, Any]) -> None:
    """Write phase.nc and the pictures, and print how many points are in which regime."""
    from compare.cli.records import phase_record
    from compare.cli.tables import regimes_table
    from compare.figures.panels import panels_figure
    from compare.figures.phase_plots import phase_figure
    from compare.sweep.store import Store, both_sides

    figures = {"phase": phase_figure(diagram)}
    pairs = both_sides(Store(folder / "points"), diagram)
    if pairs:
        figures["panels"] = panels_figure(pairs, diagram.attrs["x"], diagram.attrs["y"])
    names = [f"{name}.{form}" for name in figures for form in FIGURE_FORMATS]
    with contextlib.ExitStack() as stack:
        parts = {name: stack.enter_context(finished(folder / name)) for name in (*names, "phase.nc")}
        write_dataset(parts["phase.nc"], diagram)
        for name in names:
            stem, form = name.split(".")
            write_figure(parts[name], figures[stem], form)
    answer.say(f"\n{regimes_table(diagram)}\n")
    paths = [folder / name for name in ("phase.nc", *names)]
    answer.finish(paths, settings=settings, result=phase_record(diagram))


def write_preset(
    answer: Answer, folder: Path, chosen: Preset, results: Mapping[str, xarray.Dataset], settings: dict[str, Any]
) -> None:
    """Write DIR/NAME-RUN.nc for every run of a preset, DIR/NAME.png and DIR/NAME.json."""
    from compare.figures.paper import preset_figure, preset_summary

    figure, summary = preset_figure(chosen, results), preset_summary(chosen, results)
    files = {f"{chosen.name}-{label}.nc": dataset for label, dataset in results.items()}
    with contextlib.ExitStack() as stack:
        parts = {name: stack.enter_context(finished(folder / name)) for name in files}
        for name, dataset in files.items():
            write_dataset(parts[name], dataset)
        write_figure(stack.enter_context(finished(folder / f"{chosen.name}.png")), figure, "png")
        write_json(stack.enter_context(finished(folder / f"{chosen.name}.json")), summary)
    paths = [folder / name for name in (*files, f"{chosen.name}.png", f"{chosen.name}.json")]
    answer.finish(paths, settings=settings, result=summary)
