"""The files of a finished command, and what it says of them: data first, all of it or none; then the pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare.cli.answer import Answer
from compare.files import FIGURE_FORMATS, finished, write_dataset, write_figure, write_json, write_results
from dmft.checks import RunError

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

    from compare.parts import Parts
    from sim.presets import Preset


def give(
    answer: Answer,
    folder: Path,
    data: Mapping[str, Callable[[Path], None]],
    pictures: Mapping[str, Callable[[], Figure]],
    *,
    forms: tuple[str, ...] = ("png",),
    parts: Parts | None = None,
    **found: Any,
) -> None:
    """Write the files of a command and answer.

    Args:
        answer: whom to tell.
        folder: where they go.
        data: by name, what writes a file.
        pictures: by name without ending, what draws a picture.
        forms: the formats of every picture.
        parts: what was kept until the data are there.
        **found: what was found, for a program.

    Raises:
        RunError: the data could not be written to `folder`; or a picture could not be drawn, where all else is done.
    """
    files, failures = write_results(folder, data), []
    if parts is not None:
        parts.remove()
    for stem, draw in pictures.items():
        paths = [folder / f"{stem}.{form}" for form in forms]
        try:
            figure = draw()
            for path, form in zip(paths, forms, strict=True):
                with finished(path) as part:
                    write_figure(part, figure, form)
                files.append(path)
        except Exception as error:  # fonts, a full disk: whatever it is, the data are there
            failures.append(f"{stem} ({' '.join(f'{type(error).__name__}: {error}'.split())})")
            for path in set(paths) - set(files):
                with contextlib.suppress(OSError):  # one of an earlier run would not be of these data
                    path.unlink()
    answer.finish(files, **found)
    if failures:
        raise RunError(f"The data were written, but a picture could not be drawn: {'; '.join(failures)}.")


def write_curves(answer: Answer, path: Path, dataset: xarray.Dataset, settings: dict[str, Any]) -> None:
    """Write the curves of `dmft solve` or `dmft simulate`."""
    from compare.cli.records import curves_record

    data = {path.name: partial(write_dataset, dataset=dataset)}
    give(answer, path.parent, data, {}, settings=settings, result=curves_record(dataset))


def write_comparison(
    answer: Answer,
    folder: Path,
    theory: xarray.Dataset,
    other: xarray.Dataset,
    timings: dict[str, float],
    parts: Parts | None = None,
    runs: int | None = None,
    second: tuple[int, xarray.Dataset, xarray.Dataset] | None = None,
) -> None:
    """Write the files of `dmft compare` and print its tables.

    Args:
        answer: whom to tell.
        folder: where they go.
        theory: one side.
        other: the other one, simulated or measured.
        timings: of the work, in seconds.
        parts: what was kept of both until they are written.
        runs: of how many runs a measured mean is.
        second: a second D, theory and simulation there.
    """
    from compare.agreement import overlay
    from compare.grokking import grokking_delay, grokking_table, regime, regime_record
    from compare.verdicts import agreement_table, lines_before, meaning, notes_after

    agreement = overlay(theory, other, runs=runs)
    name = "simulation" if other.attrs["kind"] == "simulation" else "measured"
    sides = {"theory": theory, name: other}
    measures = {side: (grokking_delay(dataset), regime(dataset)) for side, dataset in sides.items()}
    summary = agreement.summary()
    summary["grokking"] = {name: regime_record(*measure) for name, measure in measures.items()}
    summary["timings"] = {name: round(seconds, 3) for name, seconds in timings.items()}
    told = [*notes_after(summary), "", *lines_before(summary), agreement_table(summary), "", *meaning(summary), ""]
    answer.say("\n".join([*told, grokking_table(measures), ""]))
    beside = None
    if second is not None:
        dim, *both = second
        beside = overlay(*both)
        sides |= {f"{side}-{dim}": dataset for side, dataset in zip(("theory", "simulation"), both, strict=True)}
        there = beside.summary()
        summary["second_dim"] = {"dim": dim, "seeds": there["seeds"][1], "observables": there["observables"]}
        answer.say(f"D = {dim}, {there['seeds'][1]} runs:\n\n{agreement_table(there)}\n")
    data = {
        **{f"{side}.nc": partial(write_dataset, dataset=dataset) for side, dataset in sides.items()},
        "summary.json": partial(write_json, content=summary),
    }
    give(answer, folder, data, {"overlay": partial(agreement.plot, beside=beside)}, parts=parts, result=summary)


def write_phase(answer: Answer, folder: Path, diagram: xarray.Dataset, settings: dict[str, Any]) -> None:
    """Write phase.nc and the pictures, and print how many points are in which regime.

    Raises:
        RunError: every point failed; or see `give`.
    """
    from compare.cli.records import phase_record
    from compare.cli.tables import regimes_table
    from compare.figures.phase.figure import phase_figure
    from compare.figures.phase.panels import panels_figure
    from compare.sweep.store import Store, both_sides

    record = phase_record(diagram)
    pictures = {"phase": lambda: phase_figure(diagram)}
    pairs = both_sides(Store(folder / "points"), diagram)
    if pairs:
        pictures["panels"] = lambda: panels_figure(pairs, diagram.attrs["x"], diagram.attrs["y"])
    answer.say(f"\n{regimes_table(diagram, record)}\n")
    data = {"phase.nc": partial(write_dataset, dataset=diagram)}
    give(answer, folder, data, pictures, forms=FIGURE_FORMATS, settings=settings, result=record)
    sides = [side for name, side in record.items() if name != "axes"]
    if all(side["failed"] == side["points"] for side in sides):
        message = next(str(text) for name in ("message", "simulation_message") for text in _texts(diagram, name))
        raise RunError(f"All points failed; the first: {message}")


def _texts(diagram: xarray.Dataset, name: str) -> list[str]:
    """Texts of a variable that are not empty."""
    return [text for text in diagram[name].to_numpy().ravel() if text] if name in diagram else []


def write_preset(
    answer: Answer,
    folder: Path,
    chosen: Preset,
    results: Mapping[str, xarray.Dataset],
    settings: dict[str, Any],
    parts: Parts | None = None,
) -> None:
    """Write DIR/NAME-RUN.nc for every run of a preset, DIR/NAME.json and DIR/NAME.png."""
    from compare.figures.paper import preset_figure, preset_summary

    summary = preset_summary(chosen, results)
    data: dict[str, Callable[[Path], None]] = {
        f"{chosen.name}-{label}.nc": partial(write_dataset, dataset=dataset) for label, dataset in results.items()
    }
    data[f"{chosen.name}.json"] = partial(write_json, content=summary)
    pictures = {chosen.name: lambda: preset_figure(chosen, results)}
    give(answer, folder, data, pictures, parts=parts, settings=settings, result=summary)
