"""What a point of a sweep costs: against a single warm solve, and what the store and the scheduler add.

    python benchmarks/sweep.py            # 24 points, t = 100, about five minutes on two free cores
    python benchmarks/sweep.py --quick    # smoke run

In one run: every point of the grid by `dmft.solve` in one process (after a pass that compiles), then by
`phase_diagram` in a fresh folder. A worker compiles with its first point, so points count from the second on. What
is not computing (names, files, reading them again, measures, the dataset) is timed by the seconds in which the
sweep's own process was busy and by what a point's file costs its worker; and by running the finished sweep once more.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings

import numpy as np
import xarray

from compare import phase_diagram
from compare.sweep import phase
from compare.sweep.point_file import encode
from compare.sweep.workers import local_runner
from dmft import Model, solve

MODEL = Model(alpha=1.0, epsilon=0.25, kappa=4.0, initial_overlap=0.1)


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    quick = parser.parse_args().quick
    t_max, counts = (4.0, (2, 2)) if quick else (100.0, (6, 4))
    alphas, kappas = np.geomspace(0.25, 4, counts[0]), np.geomspace(1, 16, counts[1])
    warnings.simplefilter("ignore")

    def warm() -> tuple[list[float], xarray.Dataset]:
        """Seconds of each point in this process, in the sweep's order, and the last one's curves."""
        seconds = []
        for alpha in alphas:
            for kappa in kappas:
                start = time.perf_counter()
                curves = solve(MODEL.replace(alpha=alpha, kappa=kappa), t_max, rtol=0.03, atol=1e-3)
                seconds.append(time.perf_counter() - start)
        return seconds, curves

    warm()
    single, last = warm()
    ended: list[float] = []

    def timed(workers: int | None):
        run = local_runner(workers)

        def watch(points):
            for result in run(points):
                ended.append(time.perf_counter())
                yield result

        return watch

    phase.local_runner = timed
    with tempfile.TemporaryDirectory() as folder:
        arguments = {"x": ("alpha", alphas), "y": ("kappa", kappas), "t_max": t_max, "folder": folder, "workers": 1}
        start, busy = time.perf_counter(), time.process_time()
        diagram = phase_diagram(MODEL, **arguments)
        whole, busy, first = time.perf_counter() - start, time.process_time() - busy, ended[0] - start
        start = time.perf_counter()
        phase_diagram(MODEL, **arguments)
        again = time.perf_counter() - start
        start = time.perf_counter()
        encode(last)
        file = time.perf_counter() - start
    points = np.diff(ended)
    met = int(diagram.tolerance_met.sum())
    print(f"{len(single)} points to t = {t_max:g}, tolerance 3 %, met at {met}")
    print(f"single warm solve             {np.mean(single):8.2f} s, slowest {np.max(single):.2f} s")
    print(f"point of a sweep              {np.mean(points):8.2f} s, slowest {np.max(points):.2f} s")
    print(f"point / warm solve            {np.sum(points) / np.sum(single[1:]):8.2f}")
    print(f"whole sweep                   {whole:8.2f} s, its first point after {first:.2f} s")
    print(f"the sweep's own process, busy {busy:8.2f} s, {busy / whole:.1%}")
    print(f"making a point's file         {file:8.3f} s, {len(single) * file / whole:.1%} of the sweep for all")
    print(f"nothing left to do            {again:8.2f} s, {again / whole:.1%}")


if __name__ == "__main__":
    main()
