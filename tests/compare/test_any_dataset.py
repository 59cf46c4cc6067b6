"""Whatever has happened to a dataset: an error that names the thing, or the answer of clean data on what is left.

Random chains of what people do to datasets (values that are not finite, gaps, subsets, concatenations, casts, other
orders of dimensions) are applied to a simulation, and beside it to bare arrays. `overlay`, `grokking_delay` and
`regime` of the dataset must say what they say of the arrays that are left.
"""

import contextlib
import dataclasses

import numpy as np
import pytest
import xarray
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from compare import grokking_delay, overlay, regime
from dmft import ParameterError

LOSSES = ("train_loss", "test_loss")
TIME = np.concatenate([[0.0], np.geomspace(0.1, 100.0, 40)])


@dataclasses.dataclass(repr=False)
class Run:
    """A dataset, and the arrays that are left in it: losses (S, T), NaN where they are not finite."""

    dataset: xarray.Dataset
    time: np.ndarray
    losses: dict[str, np.ndarray]

    def select(self, seeds=slice(None), times=slice(None)):
        dataset = self.dataset.isel(seed=seeds, time=times)
        return Run(dataset, self.time[times], {name: loss[seeds][:, times] for name, loss in self.losses.items()})


def spoil(run, draw):
    """Some seeds of one loss are not finite over some times."""
    name, value = draw(st.sampled_from(LOSSES)), draw(st.sampled_from([np.nan, np.inf, -np.inf, 1e200]))
    seeds = np.array(draw(st.lists(st.booleans(), min_size=len(run.losses[name]), max_size=len(run.losses[name]))))
    start, stop = sorted(draw(st.tuples(*[st.integers(0, run.time.size)] * 2)))
    where = seeds[:, None] & (np.arange(run.time.size) >= start) & (np.arange(run.time.size) < stop)
    shape = xarray.DataArray(where, dims=("seed", "time"))
    with np.errstate(over="ignore"):  # in single precision what is too large is infinite
        dataset = run.dataset.assign({name: run.dataset[name].where(~shape, value)})
    return Run(dataset, run.time, {**run.losses, name: np.where(where, np.nan, run.losses[name])})


def some_seeds(run, draw):
    count = len(run.losses["train_loss"])
    return run.select(seeds=draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=count, unique=True)))


def some_times(run, draw):
    chosen = draw(st.lists(st.integers(0, run.time.size - 1), min_size=1, max_size=run.time.size, unique=True))
    return run.select(times=sorted(chosen))


def early_times(run, draw):
    end = draw(st.integers(1, run.time.size))
    cut = run.select(times=slice(0, end))
    dataset = run.dataset.where(
        run.dataset["time"] <= run.time[end - 1] * (1 + 1e-6), drop=True
    )  # spreads errors over the seeds
    return Run(dataset, cut.time, cut.losses)


def joined(run, draw):
    """Cut in two and put together again."""
    dim = draw(st.sampled_from(["seed", "time"]))
    cut = draw(st.integers(0, run.dataset.sizes[dim]))
    parts = [run.dataset.isel({dim: slice(None, cut)}), run.dataset.isel({dim: slice(cut, None)})]
    parts = [part for part in parts if part.sizes[dim]]
    return Run(xarray.concat(parts, dim, data_vars=draw(st.sampled_from(["all", "minimal"]))), run.time, run.losses)


def doubled(run, _):
    """The same runs twice are no new runs."""
    return Run(xarray.concat([run.dataset, run.dataset], "seed", data_vars="all"), run.time, run.losses)


@np.errstate(over="ignore")
def rounded(run, draw):
    dataset = run.dataset.astype("float32")
    if draw(st.booleans()):
        dataset = dataset.assign_coords(time=dataset["time"].astype("float32"))
    return Run(dataset, run.time, {name: loss.astype(np.float32).astype(float) for name, loss in run.losses.items()})


def turned(run, draw):
    return Run(run.dataset.transpose(*draw(st.permutations(["seed", "time"]))), run.time, run.losses)


def nameless(run, _):
    return Run(run.dataset.drop_attrs(deep=False).drop_vars("seed", errors="ignore"), run.time, run.losses)


SOUND = (spoil, spoil, some_seeds, some_times, early_times, joined, rounded, turned, nameless)

#: What is refused, with what the message must name.
REFUSED = {
    "backwards": (lambda d: d.isel(time=slice(None, None, -1)), "`time`"),
    "times twice": (lambda d: xarray.concat([d, d], "time", data_vars="minimal"), "`time`"),
    "time unknown": (lambda d: d.drop_vars("time"), "`time`"),
    "time not finite": (lambda d: d.assign_coords(time=d["time"].where(d["time"] < 1.0)), "`time`"),
    "another dimension": (lambda d: xarray.concat([d, d], "kappa", data_vars="all"), "`kappa`"),
    "a loss of words": (lambda d: d.assign(test_loss=d["test_loss"].astype(str)), "`test_loss`"),
    "no losses": (lambda d: d[[name for name in d if "loss" not in name]].drop_attrs(), "`train_loss`"),
}


@st.composite
def handed_on(draw, run):
    """The run after a few steps, and their names."""
    steps = draw(st.lists(st.sampled_from(SOUND), min_size=1, max_size=4))
    for step in steps:
        run = step(run, draw)
    if draw(st.booleans()) and "seed" in run.dataset.coords:
        steps, run = [*steps, doubled], doubled(run, draw)
    note(", ".join(step.__name__ for step in steps))
    return run


def left_over(run):
    """The runs that have both losses."""
    there = np.all([np.isfinite(run.losses[name]).any(axis=1) for name in LOSSES], axis=0)
    return {name: run.losses[name][there] for name in LOSSES}


def clean(name, run, losses):
    """The times at which every run has this loss, which stands for both."""
    known = np.isfinite(losses[name]).all(axis=0)
    return {"time": run.time[known]} | dict.fromkeys(LOSSES, losses[name][:, known])


def check_overlay(theory, run):
    losses = left_over(run)
    clean_data = {name: clean(name, run, losses) for name in LOSSES}
    if not len(losses["train_loss"]) or not all(table["time"].size for table in clean_data.values()):
        return  # nothing is left of a loss: refused, or a verdict on the other
    summary = overlay(theory, run.dataset).summary()
    for name in LOSSES:
        found = summary["observables"][name]
        expected = overlay(theory, clean_data[name]).summary()["observables"][name]
        assert found["verdict"] == expected["verdict"]
        assert found["compared_times"] == expected["compared_times"]
        for key in ("max_abs_z", "threshold", "time"):
            assert found[key] == (None if expected[key] is None else pytest.approx(expected[key], rel=1e-4)), key
        spoiled = clean_data[name]["time"].size < run.time.size
        assert any(f"{name} is not finite at" in sentence for sentence in summary["notes"]) == spoiled


def check_delay(run):
    losses = left_over(run)
    if not len(losses["train_loss"]):
        return
    times = grokking_delay(run.dataset)
    for name, found in (("train_loss", times.t_train), ("test_loss", times.t_test)):
        each = []
        for loss in losses[name]:
            known = np.isfinite(loss)
            alone = {"time": run.time[known]} | dict.fromkeys(LOSSES, loss[known])
            each.append(grokking_delay(alone).t_train)
        reached = [one.value for one in each if one.reached]
        assert (found.runs, found.runs_reached) == (len(each), len(reached))
        if reached:
            assert found.value == pytest.approx(np.mean(reached), rel=1e-5)


def check_regime(run):
    losses = left_over(run)
    known = [np.isfinite(losses[name]).all(axis=0) for name in LOSSES]
    if not len(losses["train_loss"]) or not all(map(np.any, known)) or not np.array_equal(*known):
        return
    table = {"time": run.time[known[0]]} | {name: losses[name][:, known[0]] for name in LOSSES}
    assert regime(run.dataset) is regime(table)


def enough(run):
    """Whether both losses are known at some common time."""
    losses = left_over(run)
    return all(len(loss) and np.isfinite(loss).all(axis=0).any() for loss in losses.values())


@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data(), right=st.booleans())
def test_a_dataset_that_was_handed_on_is_judged_by_what_is_left(make_theory, make_simulation, data, right):
    theory = make_theory()
    simulation = make_simulation(TIME, shift=0.0 if right else 0.3)
    start = Run(simulation, TIME, {name: simulation[name].values for name in LOSSES})
    run = data.draw(handed_on(start))
    for check in (lambda: check_overlay(theory, run), lambda: check_delay(run), lambda: check_regime(run)):
        with contextlib.nullcontext() if enough(run) else contextlib.suppress(ParameterError):
            check()


@settings(suppress_health_check=list(HealthCheck), deadline=None)
@given(data=st.data(), fault=st.sampled_from(sorted(REFUSED)))
def test_what_cannot_be_judged_is_refused_by_name(make_theory, make_simulation, data, fault):
    simulation = make_simulation(TIME)
    start = Run(simulation, TIME, {name: simulation[name].values for name in LOSSES})
    run = data.draw(handed_on(start).filter(lambda run: run.time.size > 2 and run.time[-1] > 1.0))
    spoil_it, named = REFUSED[fault]
    dataset = spoil_it(run.dataset)
    for function in (lambda: overlay(make_theory(), dataset), lambda: grokking_delay(dataset), lambda: regime(dataset)):
        with pytest.raises(ParameterError, match=named):
            function()
