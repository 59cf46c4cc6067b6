"""What the theory of a committee costs: four cases with a target, each in a process of its own.

    python benchmarks/committee_targets.py [CASE ...]

Prints for each case cold and warm wall time, processor time and memory, and the largest errors of losses and overlaps.
Targets (2 cores, compiled): `relu` standard error of every overlap at most .002 within 60 s and 4 GiB; `logistic` .003
within 60 s and 2 GiB; `retrieval` and `quadratic` the tolerance of 2 % within 60 and 300 s.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
from measuring import isolated

from dmft import Committee, solve


def two_directions(u: Any) -> Any:
    """tanh(u_1 + u_2^3 - 3 u_2), no polynomial, for u of shape (..., 2)."""
    return jnp.tanh(u[..., 0] + u[..., 1] ** 3 - 3.0 * u[..., 1])


def cases() -> dict[str, tuple[Committee, dict[str, Any]]]:
    """The model of each case, and the arguments of `solve`."""
    relu = Committee(
        alpha=2.0,
        kappa=3.0,
        width=2,
        activation="relu",
        readout=[1.0, -1.0],
        teacher=two_directions,
        teacher_dim=2,
        initial_teacher_overlap=[[0.3, 0.2], [0.0, 0.4]],
    )
    retrieval = Committee(alpha=1.0, kappa=3.0, width=1, activation="half_square", initial_teacher_overlap=[[0.7]])
    overlap = 0.1**0.5 * (-1.0) ** np.arange(8)[:, None]
    quadratic = Committee(
        alpha=1.0,
        kappa=3.0,
        width=8,
        activation="quadratic",
        epsilon=0.5,
        initial_teacher_overlap=overlap,
        initial_self_overlap=np.eye(8) + overlap @ overlap.T,
    )
    logistic = Committee(
        alpha=2.0,
        kappa=2.0,
        width=2,
        activation="erf",
        teacher="linear",
        loss="logistic",
        labels="sign",
        label_flips=0.1,
        initial_teacher_overlap=[[0.4], [-0.1]],
        initial_self_overlap=[[1.0, 0.2], [0.2, 0.8]],
    )
    return {
        "logistic": (logistic, {"t_max": 30.0, "step": 1.0, "replicas": 18, "sample_count": 2**14}),
        "relu": (relu, {"t_max": 15.0, "step": 0.5, "replicas": 40}),
        "retrieval": (retrieval, {"t_max": 30.0, "rtol": 0.02}),
        "quadratic": (quadratic, {"t_max": 12.0, "rtol": 0.02}),
    }


def errors(name: str) -> dict[str, Any]:
    """Solve a case and read off its largest errors."""
    model, arguments = cases()[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = solve(model, **arguments)
    overlaps = ("teacher_overlap", "self_overlap")
    return {
        "met": dataset.attrs["tolerance_message"],
        "losses": max(float((dataset[f"{x}_error"] / dataset[x]).max()) for x in ("train_loss", "test_loss")),
        "overlaps": max(float(dataset[f"{x}_stderr"].max()) for x in overlaps),
        "overlaps_all": max(float(dataset[f"{x}_error"].max()) for x in overlaps),
    }


def main() -> None:
    for name in sys.argv[1:] or cases():
        measured = isolated(errors, name)
        value = measured.value
        print(
            f"{name}: cold {measured.cold:.0f} s, warm {measured.warm:.0f} s, processor {measured.processor:.0f} s, "
            f"{measured.memory:.2f} GiB, load {os.getloadavg()[0]:.1f}; relative error of the losses "
            f"{value['losses']:.3g}, standard error of overlaps {value['overlaps']:.2g}, all errors "
            f"{value['overlaps_all']:.2g}; {value['met']}",
            flush=True,
        )


if __name__ == "__main__":
    main()
