"""What a first curve costs over the whole range of models: each one solved in a process of its own.

    python benchmarks/survey.py --file survey.jsonl               40 models, an hour or so on two cores
    python benchmarks/survey.py --file survey.jsonl --count 12    the first of them
    python benchmarks/survey.py --file survey.jsonl --table       of what is there, nothing is run

The models are drawn once and for all: alpha .1 to 30, epsilon .05 to 2, kappa .3 to 20, t_max 10 to 10^4, all uniform
in the logarithm; every other one planted, the rest random with D 50 to 5000; some centred, noisy or decaying. The
tolerance is 2 % in train and test loss. Each line of the file is one model: what is there is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

RTOL, TIMEOUT = 0.02, 420.0
#: Quantiles of the seconds in the table.
QUANTILES = (0.5, 0.9, 1.0)
#: Within which an estimate is right.
FACTOR = 2.0


def draw(index: int) -> dict[str, Any]:
    """Fields of model `index`, and t_max."""
    generator = np.random.default_rng([20, index])

    def between(low: float, high: float) -> float:
        return float(f"{np.exp(generator.uniform(np.log(low), np.log(high))):.3g}")

    fields: dict[str, Any] = {"alpha": between(0.1, 30), "epsilon": between(0.05, 2), "kappa": between(0.3, 20)}
    t_max, dim, overlap = between(10, 1e4), int(between(50, 5000)), between(0.02, 0.3)
    fields |= {"initial_overlap": overlap} if index % 2 else {"dim": dim}
    noise, decay, centered = between(0.03, 0.3), between(1e-4, 0.03), bool(generator.random() < 0.25)
    fields |= {"label_noise": noise} if generator.random() < 0.25 else {}
    fields |= {"weight_decay": decay} if generator.random() < 0.25 else {}
    return fields | {"centered": centered, "t_max": t_max}


def measure(asked: dict[str, Any]) -> dict[str, Any]:
    """Solve one model: what was expected of it; seconds from the import on, memory, and how it ended."""
    start = time.perf_counter()
    from dmft import Model, RunError, estimate, solve
    from dmft.compiled.executables import COUNTS

    warnings.simplefilter("ignore")
    fields = dict(asked)
    t_max, found = fields.pop("t_max"), {}
    expected = estimate(Model(**fields), t_max, rtol=RTOL)
    told = {"expected_seconds": expected.seconds, "expected_memory": expected.memory_bytes / 2**30}
    print(json.dumps(told), flush=True)  # what is known of a run that does not end in time
    try:
        theory = solve(Model(**fields), t_max, rtol=RTOL)
        found = {name: theory.attrs[name] for name in ("tolerance_met", "tolerance_message", "limited_by", "replicas")}
        ended = "met" if theory.attrs["tolerance_met"] else "not met"
    except RunError as error:
        ended, found = "failed", {"tolerance_message": str(error)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    about = told | {"seconds": time.perf_counter() - start, "processor": time.process_time(), "memory": peak}
    return about | {"ended": ended, "programs": dict(COUNTS), **found}


def isolated(asked: dict[str, Any], timeout: float) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--one", json.dumps(asked)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True)
    except subprocess.TimeoutExpired as error:
        told = json.loads((error.stdout or b"{}").splitlines()[0])
        return told | {"seconds": timeout, "ended": "time out"}
    except subprocess.CalledProcessError as error:
        return {"seconds": 0.0, "ended": "crashed", "tolerance_message": error.stderr[-300:]}
    return json.loads(done.stdout.splitlines()[-1])


def load(path: Path) -> dict[int, dict[str, Any]]:
    """The results of a file by model; a line that was cut off is left out."""
    results = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            one = json.loads(line)
        except json.JSONDecodeError:
            continue
        results[one["index"]] = one
    return results


def table(results: dict[int, dict[str, Any]]) -> str:
    """A line for each model, and the quantiles."""
    lines = []
    for index, one in sorted(results.items()):
        fields = " ".join(f"{name}={value}" for name, value in one["asked"].items() if value is not False)
        numbers = f"{one['seconds']:6.1f} s {one.get('processor', np.nan):6.1f} s {one.get('memory', np.nan):5.2f} GiB"
        said = one.get("expected_seconds") or np.nan, one.get("expected_memory", np.nan)
        numbers += f" (expected {said[0]:.0f} s, {said[1]:.1f} GiB)"
        why = "" if one["ended"] == "met" else one.get("tolerance_message", "")
        lines.append(f"{index:3} {one['ended']:8} {numbers}  {one.get('replicas', '-'):>3}  {fields}  {why}")
    seconds = [one["seconds"] for one in results.values()]
    shares = ", ".join(f"{share:.0%}: {np.quantile(seconds, share):.1f} s" for share in QUANTILES)
    met = np.mean([one["ended"] == "met" for one in results.values()])
    told = f"{len(results)} models, {met:.0%} met; seconds at the quantiles {shares}"
    return "\n".join([*lines, told, *(quality(results, what) for what in ("seconds", "memory"))])


def quality(results: dict[int, dict[str, Any]], what: str) -> str:
    """How often an estimate was right; for a run that was ended, whether it was not too low."""
    right = []
    for one in results.values():
        said, took = one.get(f"expected_{what}"), one.get(what)
        if said and took:
            right.append(took / said <= FACTOR and (one["ended"] == "time out" or said / took <= FACTOR))
    return f"estimates of {what}: within a factor {FACTOR:g} in {sum(right)} of {len(right)}"


def main() -> None:
    parser = argparse.ArgumentParser(description="What a first curve costs over the whole range of models.")
    parser.add_argument("--file", type=Path, default=Path("survey.jsonl"), help="results, one a line")
    parser.add_argument("--count", type=int, default=40, help="how many of the models")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="seconds for each")
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(json.loads(options.one))))
        return
    results = load(options.file)
    for index in [] if options.table else [index for index in range(options.count) if index not in results]:
        results[index] = {"index": index, "asked": draw(index), **isolated(draw(index), options.timeout)}
        with options.file.open("a") as file:
            file.write(json.dumps(results[index]) + "\n")
        print(f"{index}: {results[index]['ended']}, {results[index]['seconds']:.1f} s", flush=True)
    print(f"load {os.getloadavg()[0]:.1f}\n{table(results)}" if results else "nothing there")


if __name__ == "__main__":
    main()
