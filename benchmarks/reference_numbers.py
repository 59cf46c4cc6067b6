"""Small seeded numbers of theory, simulation and comparison, which no change of the code's form may move.

    python benchmarks/reference_numbers.py            writes tests/reference/numbers.json: about two minutes
    python benchmarks/reference_numbers.py --check    says instead how far each case is from that file

All go through the public interface.  Points, samples, replicas and steps are given, and the inner iteration is tight:
nothing adaptive decides what comes out.  `tests/test_reference_numbers.py` compares.  Where numbers are meant to
change, raise `dmft.version.NUMERICS` and write the file anew.
"""

from __future__ import annotations

import argparse
import inspect
import json
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from compare import overlay, phase_diagram
from dmft import Committee, Model, limits, solve
from sim import Experiment, Optimizer, simulate

FILE = Path(__file__).parent.parent / "tests" / "reference" / "numbers.json"
#: What is left of the inner iteration, or where samples are interpolated, is a rounding error: no number to keep.
LEFT_OUT = ("_iteration_error", "kernel_regression_train_loss")
DIGITS = 13
#: Floors of cases with decisions in them, see `floor_of`.
DECIDED = {"committee_relu_flow": 1e-4, "sweep_theory": 1e-3}

PLANTED = Model(alpha=1.0, epsilon=0.5, kappa=3.0, initial_overlap=0.1)
CENTRED = Model(alpha=0.7, epsilon=0.4, kappa=2.0, initial_overlap=0.2, centered=True)
NOISY = Model(alpha=1.3, epsilon=0.5, kappa=4.0, initial_overlap=0.1, label_noise=0.3, weight_decay=0.05)
UNPLANTED = Model(alpha=1.0, epsilon=0.25, kappa=3.0)

OVERLAPS = {
    "initial_teacher_overlap": [[0.4], [-0.1]],
    "initial_self_overlap": [[1.0, 0.2], [0.2, 0.8]],
}
PAIR = Committee(alpha=1.0, kappa=3.0, width=2, activation="quadratic", epsilon=0.5, **OVERLAPS)
KINKED = Committee(alpha=1.0, kappa=3.0, width=2, activation="relu", readout=[1.0, -0.7], **OVERLAPS)
ERF = Committee(alpha=1.0, kappa=3.0, width=2, activation="erf", teacher="erf", **OVERLAPS)

SMALL = Model(alpha=1.0, epsilon=0.5, kappa=2.0, dim=20, width=10, initial_overlap=0.1)
SMALL_NOISY = SMALL.replace(label_noise=0.3, weight_decay=0.1, centered=True)
VARIANT = Model(alpha=1.0, epsilon=0.5, kappa=2.0, dim=12, width=8)


def theory(model: Model | Committee, t_max: float, times: list[float], samples: int, **settings: Any) -> dict[str, Any]:
    """The numbers of `solve` with everything given."""
    name = "sample_count" if "sample_count" in inspect.signature(solve).parameters else "samples"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tolerance is out of reach: it is what makes the inner iteration tight
        dataset = solve(model, t_max, rtol=1e-6, times=times, replicas=4, seed=3, **{name: samples}, **settings)
    return numbers(dataset)


def simulation(model: Any, optimizer: Any = "gd", **settings: Any) -> dict[str, Any]:
    """The numbers of `simulate`, two runs of 20 steps unless told otherwise."""
    settings = {"t_max": 2.0, "step": 0.1, "times": [0.5, 1.0, 2.0], "seeds": 2, "seed": 3} | settings
    return numbers(simulate(model, optimizer=optimizer, **settings))


def followed(experiment: Experiment) -> dict[str, Any]:
    """An experiment with its linearisation and its tangent kernel."""
    settings = {"step": 0.1, "times": [0.5, 1.0, 2.0], "seeds": 2, "seed": 3, "kernel": True, "linearized": True}
    return numbers(simulate(experiment, 2.0, **settings))


def laid_over() -> dict[str, Any]:
    """z of a small theory over a small simulation, with the degrees of freedom."""
    both = overlay(
        _quiet(PLANTED, 2.0, step=0.2),
        simulate(PLANTED.replace(dim=40), 2.0, step=0.2, seeds=4, seed=3, times=[0.4, 1.0, 2.0]),
    )
    rows = both.summary()["observables"]
    return (
        {f"z_{name}": values for name, values in numbers(both.z).items()}
        | {f"degrees_{name}": values for name, values in numbers(both.degrees).items()}
        | {f"p_value_{name}": [rounded(row["p_value"])] for name, row in rows.items()}
    )


def _quiet(model: Model, t_max: float, **settings: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        name = "sample_count" if "sample_count" in inspect.signature(solve).parameters else "samples"
        return solve(model, t_max, rtol=1e-6, replicas=4, seed=3, **{name: 32}, **settings)


def swept(**settings: Any) -> dict[str, Any]:
    """One point of a sweep, through store and worker."""
    base = Model(alpha=1.0, epsilon=0.5, kappa=3.0, initial_overlap=0.1, dim=settings.pop("dim", None))
    dataset = phase_diagram(base, ("alpha", [1.0]), t_max=3.0, threshold=0.4, step=0.2, workers=1, **settings)
    text = [name for name, values in dataset.data_vars.items() if values.dtype.kind not in "fiu"]
    return numbers(dataset.drop_vars(text))


def closed_forms() -> dict[str, Any]:
    """The exact limits."""
    times = [0.0, 0.5, 2.0, 8.0]
    of = {
        "linear": limits.linear(Model(alpha=1.0, epsilon=0.0, kappa=0.5, weight_decay=0.1, label_noise=0.2), times),
        "linear_steps": limits.linear(Model(alpha=1.0, epsilon=0.0, kappa=3.0), times, step=0.25),
        "lazy": limits.lazy(Model(alpha=1.0, epsilon=0.5, kappa=3.0, centered=True), times),
        "population": limits.population(NOISY, times),
        "ridge": limits.ridge(3.0, times, initial_alignment=0.3, label_noise=0.2, weight_decay=0.1, step=0.25),
    }
    return {f"{limit}_{name}": listed(curve) for limit, curves in of.items() for name, curve in curves.items()}


LATE = [0.4, 1.0, 3.0]
Case = Callable[[], Mapping[str, list[float | None]]]
CASES: dict[str, Case] = {
    "wide_steps_planted": lambda: theory(PLANTED, 3.0, LATE, 64, step=0.2, kernels=True),
    "wide_steps_centred": lambda: theory(CENTRED, 3.0, LATE, 64, step=0.2),
    "wide_steps_noisy": lambda: theory(NOISY, 3.0, LATE, 64, step=0.2),
    "wide_steps_unplanted": lambda: theory(UNPLANTED, 3.0, LATE, 64, step=0.2),
    "wide_flow_planted": lambda: theory(PLANTED, 6.0, [0.5, 2.0, 6.0], 64, points=24),
    "wide_flow_centred": lambda: theory(CENTRED, 6.0, [0.5, 2.0, 6.0], 64, points=24),
    "wide_flow_noisy": lambda: theory(NOISY, 6.0, [0.5, 2.0, 6.0], 64, points=24),
    "wide_flow_unplanted": lambda: theory(UNPLANTED, 6.0, [0.5, 2.0, 6.0], 64, points=24),
    "wide_flow_kernels": lambda: theory(PLANTED, 6.0, [0.5, 2.0, 6.0], 64, points=24, kernels=True),
    "wide_flow_long": lambda: theory(PLANTED, 60.0, [1.0, 10.0, 60.0], 64, points=44),
    "committee_quadratic_steps": lambda: theory(PAIR, 2.0, [0.5, 1.0, 2.0], 512, step=0.25, kernels=True),
    "committee_quadratic_flow": lambda: theory(PAIR, 2.0, [0.5, 1.0, 2.0], 512, points=8),
    "committee_relu_steps": lambda: theory(KINKED, 2.0, [0.5, 1.0, 2.0], 512, step=0.25),
    "committee_relu_flow": lambda: theory(KINKED, 2.0, [0.5, 1.0, 2.0], 2048, points=16),
    "committee_erf_steps": lambda: theory(ERF, 2.0, [0.5, 1.0, 2.0], 512, step=0.25),
    "committee_erf_flow": lambda: theory(ERF, 2.0, [0.5, 1.0, 2.0], 512, points=8),
    "committee_centred": lambda: theory(
        PAIR.replace(centered=True, label_noise=0.2, weight_decay=0.1), 2.0, [0.5, 1.0, 2.0], 512, step=0.25
    ),
    "committee_readout_steps": lambda: theory(PAIR.replace(train_readout=True), 2.0, [0.5, 1.0, 2.0], 512, step=0.25),
    "committee_readout_flow": lambda: theory(PAIR.replace(train_readout=True), 2.0, [0.5, 1.0, 2.0], 512, points=8),
    "committee_minibatch": lambda: theory(PAIR.replace(batch_fraction=0.5), 2.0, [0.5, 1.0, 2.0], 512, step=0.25),
    "committee_persistent": lambda: theory(
        PAIR.replace(batch_fraction=0.5, persistence=1.0), 2.0, [0.5, 1.0, 2.0], 512, step=0.25
    ),
    "committee_random_weights": lambda: theory(
        Committee(alpha=1.0, kappa=3.0, width=2, activation="erf", dim=50), 2.0, [0.5, 1.0, 2.0], 512, step=0.25
    ),
    "simulation_network": lambda: simulation(SMALL, form="network"),
    "simulation_reduced": lambda: simulation(SMALL, form="reduced"),
    "simulation_infinite_width": lambda: simulation(SMALL.replace(width=None), form="reduced"),
    "simulation_random": lambda: simulation(SMALL.replace(initial_overlap=0.0), form="network"),
    "simulation_noisy_network": lambda: simulation(SMALL_NOISY, form="network"),
    "simulation_noisy_reduced": lambda: simulation(SMALL_NOISY, form="reduced"),
    "simulation_momentum": lambda: simulation(SMALL, Optimizer("momentum", momentum=0.8)),
    "simulation_nesterov": lambda: simulation(SMALL_NOISY, Optimizer("nesterov", schedule="cosine", warmup=3)),
    "simulation_adam": lambda: simulation(SMALL, "adam", form="network", step=0.02, t_max=0.4, times=[0.1, 0.4]),
    "simulation_adamw": lambda: simulation(
        SMALL_NOISY, "adamw", form="network", step=0.02, t_max=0.4, times=[0.1, 0.4]
    ),
    "simulation_batches": lambda: simulation(SMALL, Optimizer("gd", batch_size=10)),
    "simulation_batches_drawn": lambda: simulation(SMALL, Optimizer("gd", batch_size=10, replacement=True)),
    "simulation_committee": lambda: simulation(PAIR.replace(dim=20)),
    "simulation_committee_relu": lambda: simulation(KINKED.replace(dim=20, centered=True)),
    "simulation_committee_readout": lambda: simulation(PAIR.replace(dim=20, train_readout=True, weight_decay=0.1)),
    "simulation_committee_minibatch": lambda: simulation(PAIR.replace(dim=20, batch_fraction=0.5)),
    "simulation_committee_persistent": lambda: simulation(PAIR.replace(dim=20, batch_fraction=0.5, persistence=1.0)),
    "experiment_quadratic": lambda: followed(Experiment(model=VARIANT, strengths=(1.0, 0.5))),
    "experiment_hermite": lambda: simulation(Experiment(model=VARIANT, activation="hermite3", target="hermite3")),
    "experiment_eigenvector": lambda: simulation(Experiment(model=VARIANT, target="eigenvector", eigenvector=2)),
    "experiment_interpolated": lambda: simulation(Experiment(model=VARIANT, interpolation=0.3, weight_scale=0.5)),
    "experiment_readouts": lambda: simulation(Experiment(model=VARIANT, train_readout=True)),
    "overlay": laid_over,
    "sweep_theory": lambda: swept(rtol=0.5),
    "sweep_simulation": lambda: swept(dim=20, theory=False, simulate_every=1, seeds=2),
    "limits": closed_forms,
}


def numbers(dataset: Any) -> dict[str, list[float | None]]:
    """Every variable of the dataset that is a number to keep, flat."""
    return {
        str(name): listed(values.to_numpy())
        for name, values in dataset.data_vars.items()
        if not str(name).endswith(LEFT_OUT)
    }


def listed(values: Any) -> list[float | None]:
    return [rounded(value) for value in np.ravel(values).tolist()]


def rounded(value: float) -> float | None:
    """As it is stored: DIGITS digits, None for what is not finite."""
    return float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None


def deviations(
    stored: Mapping[str, list[float | None]], now: Mapping[str, list[float | None]], floor: float = 1e-11
) -> dict[str, float]:
    """Largest |now - stored| of every variable, over what it may be: 1e-9 of the value and `floor` of its observable.

    An error is a difference of curves, or made from some: it is known to the rounding of these.  It is inf where a
    variable or a number is missing on one side.
    """
    return {
        name: _excess(stored.get(name), now.get(name), floor * _scale(name, stored))
        for name in sorted(set(stored) | set(now))
    }


def floor_of(case: str) -> float:
    """Rounding of a case, over its observable: that of sums, or what the flow's inner iteration leaves.

    Each row of the flow is solved to 1e-9, the tightest there is, and there are 24 to 44 of them. Two cases have
    decisions in them that the rounding of another processor turns: at which row a sample passes its kink (the same
    code on two processors: 1.4e-5), and between which times a threshold is crossed (1.5e-4).
    """
    return DECIDED.get(case, 5e-8 if "flow" in case else 1e-11)


def _scale(name: str, stored: Mapping[str, list[float | None]]) -> float:
    """Largest size of the observable that `name` belongs to: itself, or what its name begins with."""
    owners = [owner for owner in stored if name == owner or name.startswith(f"{owner}_")]
    values = [abs(value) for owner in owners for value in stored[owner] if value is not None]
    return max(values, default=0.0)


def _excess(stored: list[float | None] | None, now: list[float | None] | None, floor: float) -> float:
    if stored is None or now is None or len(stored) != len(now):
        return np.inf
    worst = 0.0
    for one, other in zip(stored, now, strict=True):
        if one is None or other is None:
            worst = worst if one is other else np.inf
        else:
            worst = max(worst, abs(one - other) / (1e-9 * abs(one) + floor + 1e-300))
    return worst


def numerics() -> int:
    """The counter that is raised when numbers change on purpose."""
    try:
        from dmft.version import NUMERICS
    except ImportError:
        return 1
    return NUMERICS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare with the file instead of writing it")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--all", action="store_true", help="show every variable that differs")
    chosen = parser.parse_args()
    stored = json.loads(FILE.read_text()) if FILE.exists() else {"numerics": numerics(), "cases": {}}
    for name, case in CASES.items():
        if chosen.only not in name:
            continue
        start = time.perf_counter()
        now = case()
        line = f"{name:32} {time.perf_counter() - start:6.1f} s"
        if name in stored["cases"]:
            found = deviations(stored["cases"][name], now, floor_of(name))
            worst = max(found, key=lambda key: found[key])
            line += f"   largest deviation over allowed {found[worst]:9.2g} ({worst})"
            for key in [key for key in found if chosen.all and found[key] > 1]:
                line += f"\n    {key}: {stored['cases'][name].get(key)} -> {now.get(key)}"
        print(line, flush=True)
        if not chosen.check:
            stored["cases"][name] = now
            write(stored["cases"])


def write(cases: Mapping[str, Any]) -> None:
    """The file, a line for each variable."""
    ordered = {name: cases[name] for name in CASES if name in cases}
    blocks = [
        f"  {json.dumps(name)}: {{\n"
        + ",\n".join(f"    {json.dumps(variable)}: {json.dumps(values)}" for variable, values in case.items())
        + "\n  }"
        for name, case in ordered.items()
    ]
    FILE.write_text(f'{{"numerics": {numerics()}, "cases": {{\n' + ",\n".join(blocks) + "\n}}\n")


if __name__ == "__main__":
    main()
