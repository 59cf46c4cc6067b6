"""What turning a knob costs: one process, alpha changed from call to call.

    python benchmarks/knob.py                   with the cache of compiled programs as it is
    DMFT_CACHE=off python benchmarks/knob.py    with all compilation

Random start, D = 80, epsilon .5, kappa 5.5, t = 5: `solve` at 5 %, the two stages of the page of sliders, and a
simulation of one run. Wall seconds, and in brackets processor seconds, of the first call and the median of five more.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable

import numpy as np

ALPHAS = (1.0, 1.1, 0.9, 1.2, 0.8, 1.05)


def measured(call: Callable[[float], object]) -> str:
    """Seconds of the first call, and of the others."""
    found = []
    for alpha in ALPHAS:
        wall, processor = time.perf_counter(), time.process_time()
        call(alpha)
        found.append((time.perf_counter() - wall, time.process_time() - processor))
    first, later = found[0], np.median(found[1:], axis=0)
    return f"first {first[0]:5.2f} s ({first[1]:5.2f} s), then {later[0]:5.2f} s ({later[1]:5.2f} s)"


def main() -> None:
    from compare.report.knobs import STAGES
    from dmft import Model, solve
    from sim import simulate

    warnings.simplefilter("ignore")
    model = Model(alpha=1.0, epsilon=0.5, kappa=5.5, dim=80)
    asked = {"solve, rtol=0.05": {"rtol": 0.05}, "slider moving": STAGES[0], "slider at rest": STAGES[1]}
    for name, settings in asked.items():
        took = measured(lambda alpha, given=settings: solve(model.replace(alpha=alpha), 5.0, **given))
        print(f"{name:17} {took}", flush=True)
    print(f"{'simulate, 1 run':17} {measured(lambda alpha: simulate(model.replace(alpha=alpha), 5.0, seeds=1))}")
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
