"""Reduced simulations on targets of several directions, which the theory is tested against.

python benchmarks/directions.py            writes tests/reference/directions.json: about half an hour on two cores
"""

import json
from pathlib import Path

from dmft import Model
from sim import simulate

PAIR = {"alpha": 1.0, "epsilon": 0.5, "kappa": 3.0}
#: Model, and the times at which means and standard errors are kept.
CASES = {
    "two alike": (Model(**PAIR, strengths=(1.0, 1.0), initial_overlap=0.1), [1.2, 2.4, 6.0]),
    "two": (Model(**PAIR, strengths=(1.0, 0.5), initial_overlap=(0.1, 0.2)), [1.2, 2.4, 6.0]),
    "three alike": (Model(**PAIR, strengths=(0.7, 0.7, 0.7), initial_overlap=0.1), [1.2, 2.4, 6.0]),
    "three": (
        Model(
            alpha=1.0,
            epsilon=0.5,
            kappa=4.0,
            strengths=(0.5, 0.8, 1.2),
            initial_overlap=(0.2, 0.1, 0.05),
            centered=True,
            label_noise=0.1,
            weight_decay=0.02,
        ),
        [1.2, 2.4, 6.0],
    ),
    "two random": (Model(alpha=1.0, epsilon=0.25, kappa=5.5, strengths=(1.0, 0.6)), [1.2, 6.0, 12.0]),
}
SEEDS, STEP = {100: 160, 200: 60, 400: 24}, 0.1
#: Of a random start, where D = 100 is far off.
LARGE = {800: 24}
PLACE = Path(__file__).parents[1] / "tests" / "reference" / "directions.json"


def simulated(model: Model, times: list[float]) -> dict[str, dict[str, list[list[float]]]]:
    """Means and standard errors by D and observable."""
    rows = {}
    each = [f"overlap_{k}" for k in range(1, model.directions + 1)]
    for dim, seeds in (SEEDS if any(model.initial_overlaps) else SEEDS | LARGE).items():
        run = simulate(model.replace(dim=dim), times[-1], step=STEP, times=times, seeds=seeds, seed=11, form="reduced")
        rows[str(dim)] = {
            name: [run[name].mean("seed").values.tolist(), run[f"{name}_stderr"].values.tolist()]
            for name in ("train_loss", "test_loss", "trace", "mean_weight_norm", *each)
        }
    return rows


if __name__ == "__main__":
    found = {
        name: {"model": model.to_attributes(), "times": times, "step": STEP, "rows": simulated(model, times)}
        for name, (model, times) in CASES.items()
    }
    PLACE.write_text(json.dumps(found, indent=1) + "\n")
