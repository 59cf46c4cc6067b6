"""Curves of one's own in every form that is taken: the same numbers, the same verdict."""

import json
import types

import numpy as np
import pandas
import pytest
import xarray

from compare import grokking_delay, overlay, read_run, regime
from compare.curves import read_side
from dmft import ParameterError

LOSSES = ("train_loss", "test_loss")


@pytest.fixture(scope="module")
def runs(make_simulation):
    """Time and losses of 4 runs, (4, T), as bare arrays."""
    simulation = make_simulation(seeds=4)
    return {"time": simulation.time.values} | {name: simulation[name].values for name in LOSSES}


def single(runs, k):
    return {"time": runs["time"]} | {name: runs[name][k] for name in LOSSES}


def write(folder, ending, table):
    path = folder / f"run{ending}"
    frame = pandas.DataFrame(table)
    if ending in (".csv", ".tsv"):
        frame.to_csv(path, index=False, sep="," if ending == ".csv" else "\t")
    elif ending == ".nc":
        xarray.Dataset({name: ("time", table[name]) for name in LOSSES}, {"time": table["time"]}).to_netcdf(path)
    elif ending == ".npz":
        np.savez(path, **table)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dict("records")))
    return path


def forms(runs, folder):
    """The same four runs in every form."""
    singles = [single(runs, k) for k in range(4)]
    yield runs
    yield types.SimpleNamespace(**runs)
    yield xarray.Dataset({name: (("seed", "time"), runs[name]) for name in LOSSES}, {"time": runs["time"]})
    yield singles
    yield [pandas.DataFrame(table) for table in singles]
    yield [pandas.DataFrame(table).set_index("time") for table in singles]
    yield [pandas.DataFrame(table).set_index("time").rename_axis(None) for table in singles]
    long = pandas.concat([pandas.DataFrame(table).assign(run=k) for k, table in enumerate(singles)])
    yield long
    yield long.set_index(["run", "time"])
    for ending in (".csv", ".tsv", ".nc", ".npz", ".jsonl", ".ndjson"):
        paths = []
        for k, table in enumerate(singles):
            (folder / f"{ending}{k}").mkdir()
            paths.append(write(folder / f"{ending}{k}", ending, table))
        yield paths
        yield tuple(str(path) for path in paths)
    np.savez(folder / "all.npz", **runs)
    yield folder / "all.npz"


def test_every_form_gives_the_same_answers(runs, make_theory, tmp_path):
    theory = make_theory()
    expected = overlay(theory, runs)
    assert expected.summary()["seeds"] == [None, 4]
    times, ending = grokking_delay(runs), regime(runs)
    assert times.t_train.runs == 4
    for form in forms(runs, tmp_path):
        found = overlay(theory, form)
        np.testing.assert_allclose(found.z["test_loss"], expected.z["test_loss"], rtol=1e-9)
        np.testing.assert_allclose(found.degrees["test_loss"], expected.degrees["test_loss"], rtol=1e-9)
        assert grokking_delay(form).delay.value == pytest.approx(times.delay.value)
        assert regime(form) is ending


def test_means_with_their_number_of_runs_are_the_runs(runs, make_theory):
    mean = {"time": runs["time"]}
    for name in LOSSES:
        mean |= {name: runs[name].mean(0), f"{name}_stderr": runs[name].std(0, ddof=1) / 2}
    expected, found = overlay(make_theory(), runs), overlay(make_theory(), mean, runs=4)
    np.testing.assert_allclose(found.degrees["train_loss"], expected.degrees["train_loss"])
    np.testing.assert_allclose(found.threshold("train_loss"), expected.threshold("train_loss"))
    with pytest.raises(ParameterError, match="`runs` must be an integer >= 2"):
        overlay(make_theory(), mean, runs=1)
    with pytest.raises(ParameterError, match="`runs` is for measured means"):
        overlay(make_theory(), runs, runs=4)


def test_one_run_without_errors_gets_no_verdict(runs, make_theory):
    for wrong in (1.0, 3.0):
        table = single(runs, 0) | {"train_loss": wrong * runs["train_loss"][0]}
        rows = overlay(make_theory(), table).summary()["observables"]
        assert {row["verdict"] for row in rows.values()} == {"no error, no verdict"}


def test_a_logger_may_write_losses_on_separate_lines(runs, tmp_path):
    path = tmp_path / "log.jsonl"
    lines = []
    for at, train, test in zip(runs["time"], runs["train_loss"][0], runs["test_loss"][0], strict=True):
        lines.append({"time": at, "train_loss": train})
        if len(lines) % 4 == 1:
            lines.append({"time": at, "test_loss": test, "message": "evaluated"})
    path.write_text("\n".join(json.dumps(line) for line in lines))
    side = read_side("log", path)
    assert side.time.size == 61
    assert 0 < np.isfinite(side.curves["test_loss"]).sum() < 61
    assert "Not used: message." in side.notes
    conflict = path.with_name("conflict.jsonl")
    conflict.write_text("\n".join(json.dumps(line | {"train_loss": k}) for k, line in enumerate(lines)))
    with pytest.raises(ParameterError, match="strictly increasing, but 0 is followed by 0"):
        read_side("log", conflict)


def test_runs_of_different_length_are_compared_where_all_are(runs):
    short = {name: values[:40] for name, values in single(runs, 0).items()}
    side = read_side("runs", [short, single(runs, 1), single(runs, 2)])
    assert np.isfinite(side.curves["test_loss"]).sum() == 40
    assert "test_loss is not finite at 21 of 61 times" in " ".join(side.notes)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            {"test_loss": "test_los"},
            r"must hold `test_loss`, but holds time, train_loss, test_los; is `test_los` meant\?",
        ),
        ({"test_loss": "Test Loss"}, r"is `Test Loss` meant\?"),
        ({"time": "step"}, "must hold `time`, but holds step, train_loss, test_loss."),
        ({"train_loss": "loss"}, "must hold `train_loss`, but holds time, loss, test_loss."),
    ],
)
def test_a_missing_column_is_named_with_its_neighbour(names, message, runs, make_theory, tmp_path):
    table = {names.get(name, name): values for name, values in single(runs, 0).items()}
    pandas.DataFrame(table).to_csv(tmp_path / "run.csv", index=False)
    for form in (table, pandas.DataFrame(table), tmp_path / "run.csv"):
        for function in (lambda form: overlay(make_theory(), form), grokking_delay, regime):
            with pytest.raises(ParameterError, match=message):
                function(form)


def test_columns_that_are_not_used_are_named(runs, make_theory):
    table = single(runs, 0) | {"accuracy": runs["time"], "overlp": runs["time"]}
    notes = overlay(make_theory(), table).notes
    assert "Not used: accuracy (is test_accuracy meant?), overlp (is overlap meant?)." in notes


def test_variables_of_a_dataset_that_are_not_used_are_named(runs, make_theory, make_simulation):
    own = xarray.Dataset({name: ("time", runs[name][0]) for name in LOSSES}, {"time": runs["time"]})
    own = own.assign(overlp=own.train_loss, accuracy=own.train_loss, train_loss_bias=own.train_loss)
    assert "Not used: overlp (is overlap meant?), accuracy." in overlay(make_theory(), own).notes
    assert not any("Not used" in note for note in overlay(make_theory(), make_simulation()).notes)


def test_one_run_takes_the_spread_that_the_theory_predicts(runs, make_theory):
    theory = make_theory()
    theory = theory.assign(train_loss_spread=0.05 * theory.train_loss, test_loss_spread=0.05 * theory.test_loss)
    for wrong, verdict in ((1.0, "agrees"), (2.0, "differs")):
        table = single(runs, 0) | {"train_loss": wrong * runs["train_loss"][0]}
        for tested, of_test in ((10**6, "agrees"), (None, "no error, no verdict")):
            agreement = overlay(theory, read_run(table, test_samples=tested))
            rows = agreement.summary()["observables"]
            assert (rows["train_loss"]["verdict"], rows["test_loss"]["verdict"]) == (verdict, of_test)
            assert any("spread over data sets that the theory predicts" in note for note in agreement.notes)
            assert any("of how many inputs is it the mean" in note for note in agreement.notes) == (tested is None)
    off = single(runs, 0) | {"test_loss": 1.5 * runs["test_loss"][0]}
    for tested, verdict in ((10**6, "differs"), (100, "agrees")):  # a mean of 100 scatters by a third
        rows = overlay(theory, read_run(off, test_samples=tested)).summary()["observables"]
        assert rows["test_loss"]["verdict"] == verdict
    several = overlay(theory, runs)  # whose own scatter is their error
    np.testing.assert_allclose(several.z.test_loss, overlay(make_theory(), runs).z.test_loss)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "no file is at"),
        ("run.xlsx", "x", r"but is '.*run.xlsx'"),
        ("run.csv", "", "cannot be read"),
        ("run.nc", "x", "cannot be read"),
        ("run.npz", "x", "cannot be read"),
        ("run.jsonl", "{", "cannot be read"),
        ("run.csv", "time,train_loss,test_loss\n0,a,1\n", "must hold numbers in `train_loss`"),
        ("run.csv", "time,train_loss,test_loss\n", "must hold curves over `time`, but holds one time or none"),
        ("run.csv", "time,train_loss,test_loss\n0,1,1,3\n1,2,1,4\n", "cannot be read"),  # not read as 1, 1, 3
        (
            "run.csv",
            "seed,time,train_loss,test_loss\n0,0,1,1\n,0,1,1\n",
            "`seed` in every row, but holds none in row 2",
        ),
    ],
)
def test_a_file_that_is_no_run_is_one_sentence(name, content, message, make_theory, tmp_path):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ParameterError, match=message):
        overlay(make_theory(), tmp_path / name)
    if content:
        with pytest.raises(ParameterError, match=message):
            read_run(tmp_path / name)
    with pytest.raises(ParameterError, match="a folder is at"):
        overlay(make_theory(), str(tmp_path))


@pytest.mark.parametrize("wrong", [None, 3, [1.0, 2.0], [], np.zeros(3), object(), [[1, 2], [3, 4]]])
def test_what_holds_no_curves_is_refused(wrong, make_theory):
    with pytest.raises(ParameterError, match="`second` must be a dataset"):
        overlay(make_theory(), wrong)
    with pytest.raises(ParameterError, match="`dataset` must be a dataset"):
        grokking_delay(wrong)


def test_a_negative_loss_is_noted(runs, make_theory):
    logs = single(runs, 0) | {"test_loss": np.log(runs["test_loss"][0])}
    assert any(
        "test_loss is negative at" in note and 'loss="log"' in note for note in overlay(make_theory(), logs).notes
    )
    assert not any("negative" in note for note in overlay(make_theory(), runs).notes)
