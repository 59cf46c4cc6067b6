"""`dmft compare --dims`: simulations at several D, extrapolated to the theory of infinite D."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

from compare.cli.answer import Answer
from compare.cli.options import CompareOptions
from compare.cli.process import this_command
from compare.cli.settings import Settings, given_values
from dmft.checks import ParameterError
from dmft.progress import Estimate

#: What has no meaning where the sizes are given, or is not asked for of several.
WITHOUT = (
    *("dim", "measured", "spread", "form", "atol", "precision"),
    *("optimizer", "momentum", "schedule", "warmup"),
)


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
    value = given["dims"]
    try:
        return tuple(int(one) for one in (value.split(",") if isinstance(value, str) else value))
    except (TypeError, ValueError):
        raise ParameterError(f"Argument `dims` must be sizes such as 100,200,400, but is {value!r}.") from None


def requested(settings: Settings, dims: tuple[int, ...], seeds: int | None) -> Any:
    """The request of `compare.finite_size` with these settings."""
    from compare.sizes import Request

    one = settings
    return Request.of(one.model, one.t_max, dims, seeds, None, one.step, one.rtol, one.seed)


def sizes_estimates(settings: Settings, dims: tuple[int, ...], seeds: int | None) -> list[Estimate]:
    """One estimate for each theory and each simulation."""
    from compare.cli.estimate import simulation_estimate, theory_estimate

    asked, found = requested(settings, dims, seeds), []
    for dim, runs in zip(asked.dims, asked.seeds, strict=True):
        of_size = dataclasses.replace(settings, model=settings.model.replace(dim=dim), seeds=runs)
        if not found or not asked.planted:
            found.append(theory_estimate(of_size))
        found.append(simulation_estimate(of_size))
    return found


def sizes_kept(folder: Path) -> str:
    """Of an interrupted command."""
    there = [path.name for path in sorted(folder.glob("*.nc"))]
    return f"{', '.join(there) or 'nothing'} of it is kept in {folder}; it goes on with: {this_command()}"


def compare_sizes(answer: Answer, settings: Settings, dims: tuple[int, ...], seeds: int | None, folder: Path) -> None:
    """Simulate, extrapolate, write finite-size.nc, summary.json and finite-size.png beside the parts, and tell."""
    from compare.cli.outputs import give
    from compare.files import write_dataset, write_json
    from compare.sizes import finite_size

    one = settings
    found = finite_size(
        one.model, one.t_max, dims, seeds, step=one.step, rtol=one.rtol, seed=one.seed, folder=folder, progress=True
    )
    summary = found.summary()
    answer.say(sizes_table(summary))
    data = {
        "finite-size.nc": partial(write_dataset, dataset=found.limits.merge(found.ratios)),
        "summary.json": partial(write_json, content=summary),
    }
    give(answer, folder, data, {"finite-size": found.plot}, result=summary)


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
