"""`dmft compare --dims`: simulations at several D, extrapolated to the theory of infinite D.

With --dim they also say what the theory of infinite D lacks at that D, and with --measured runs of one's own at that D
are laid over it.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compare.cli.answer import Answer
from compare.cli.options import CompareOptions
from compare.cli.process import this_command
from compare.cli.settings import Settings, given_values
from dmft.checks import ParameterError
from dmft.progress import Estimate

if TYPE_CHECKING:
    import xarray

#: What has no meaning where the sizes are given, or is not asked for of several.
WITHOUT = ("form", "atol", "precision", "optimizer", "momentum", "schedule", "warmup")


def given_dims(options: CompareOptions) -> tuple[int, ...] | None:
    """The sizes that `dims` asks for; None if it does not.

    Raises:
        ParameterError: they are no list of integers, or an option is given that has no meaning with them.
    """
    given = given_values(options)
    if "dims" not in given:
        return None
    for name in WITHOUT:
        if name in given:
            raise ParameterError(f"Argument `{name}` must be left out with `dims`.")
    if "measured" in given and "dim" not in given:
        raise ParameterError("Argument `measured` needs `dim`, the size of the runs, where `dims` is given.")
    value = given["dims"]
    try:
        return tuple(map(int, value.split(","))) if isinstance(value, str) else tuple(value)  # checked as in Python
    except (TypeError, ValueError):
        raise ParameterError(f"Argument `dims` must be sizes such as 100,200,400, but is {value!r}.") from None


def requested(settings: Settings, dims: tuple[int, ...], seeds: int | None) -> Any:
    """The request of `compare.finite_size` with these settings."""
    from compare.sizes import Request

    one = settings
    request = Request.of(one.model, one.t_max, dims, seeds, None, one.step, one.rtol, one.seed)
    if one.model.dim is not None:
        request.check_dim(one.model.dim)
    return request


def sizes_estimates(settings: Settings, dims: tuple[int, ...], seeds: int | None) -> list[Estimate]:
    """One estimate for each theory and each simulation."""
    from compare.cli.estimate import simulation_estimate, theory_estimate

    asked, found = requested(settings, dims, seeds), []

    def of(dim: int, **changes: Any) -> Settings:
        return dataclasses.replace(settings, model=settings.model.replace(dim=dim), **changes)

    for dim, runs in zip(asked.dims, asked.seeds, strict=True):
        if not found or not asked.planted:
            found.append(theory_estimate(of(dim, spread=False)))
        found.append(simulation_estimate(of(dim, seeds=runs)))
    if settings.model.dim is not None:
        found.append(theory_estimate(settings))
        if settings.spread and not asked.planted:
            found += [theory_estimate(of(dim)) for dim in asked.dims]
    return found


def sizes_kept(folder: Path) -> str:
    """Of an interrupted command."""
    there = [path.name for path in sorted(folder.glob("*.nc"))]
    return f"{', '.join(there) or 'nothing'} of it is kept in {folder}; it goes on with: {this_command()}"


def compare_sizes(
    answer: Answer,
    settings: Settings,
    dims: tuple[int, ...],
    seeds: int | None,
    folder: Path,
    measured: xarray.Dataset | None = None,
    runs: int | None = None,
) -> None:
    """Simulate, extrapolate, write finite-size.nc, summary.json and finite-size.png beside the parts, and tell.

    Args:
        answer: whom to tell.
        settings: of the command; with a `dim`, what is predicted there is written too, predicted.nc.
        dims: the sizes to simulate at.
        seeds: runs at the largest.
        folder: where they go.
        measured: runs at `dim`, laid over what is predicted.
        runs: of how many runs a measured mean is.
    """
    from compare.cli.outputs import give
    from compare.files import write_dataset, write_json
    from compare.sizes import finite_size

    one = settings
    found = finite_size(
        one.model, one.t_max, dims, seeds, step=one.step, rtol=one.rtol, seed=one.seed, folder=folder, progress=True
    )
    summary = found.summary()
    answer.say(sizes_table(summary))
    data = {"finite-size.nc": found.limits.merge(found.ratios)}
    pictures = {"finite-size": found.plot}
    if one.model.dim is not None:
        data["predicted.nc"] = theory = found.predict(one.model.dim, spread=one.spread, progress=True)
        if measured is not None:
            data["measured.nc"] = measured
            summary["agreement"], pictures["overlay"] = laid_over(answer, theory, measured, runs)
    files = {name: partial(write_dataset, dataset=dataset) for name, dataset in data.items()}
    give(answer, folder, files | {"summary.json": partial(write_json, content=summary)}, pictures, result=summary)


def laid_over(
    answer: Answer, theory: xarray.Dataset, measured: xarray.Dataset, runs: int | None
) -> tuple[dict[str, Any], Any]:
    """The agreement of measured runs with what is predicted at their D, told; its summary, and what draws it."""
    from compare.agreement import overlay

    agreement = overlay(theory, measured, runs=runs)
    answer.say(f"the runs, and what is predicted at D = {theory.attrs['dim']}:\n\n{agreement}\n")
    return agreement.summary(), agreement.plot


def sizes_table(summary: dict[str, Any]) -> str:
    """The limits at the last time, and where the limit is furthest from the theory."""
    from compare.verdicts import aligned

    runs = ", ".join(f"D = {dim} ({count} runs)" for dim, count in summary["runs"].items())
    rows: list[tuple[str, ...]] = [
        ("", "simulation/theory at 1/D = 0", "slope", "D for 5 %", "D for 1 %", "largest |z|", "at t")
    ]
    for name, one in summary["observables"].items():
        limit, error = one["last_limit"], one["last_limit_error"]
        power = "" if one["power"] == 1 else " / D^1/2"
        sizes = [f"{one[f'dim_for_{near}_percent']:.0f}" for near in ("5", "1")]
        rows.append(
            (
                name.replace("_", " "),
                f"{limit:.4f} +- {error:.4f}",
                f"{one['last_slope']:+.2f}{power}",
                *sizes,
                f"{one['max_abs_z']:.1f}",
                f"{one['time']:.3g}",
            )
        )
    return f"{runs}; at the last time, and the largest deviation of the limit at any time:\n\n{aligned(rows)}\n"
