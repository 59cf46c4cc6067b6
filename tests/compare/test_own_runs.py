"""Twenty runs of one's own, in conventions drawn at random: the right verdict, and the right reason where it differs.

The runs are those of the reduced simulator, to which a plain NumPy loop, as anyone would write it, is equal; the curves
that they are held against are the mean of other draws.
"""

import numpy as np
import pandas
import pytest

from compare import overlay, read_run
from dmft import Model, ParameterError
from sim import simulate
from sim.systems.draws import draw_replica

MODEL = Model(alpha=1.5, epsilon=0.5, kappa=3.0, dim=40, width=120)
STEP, T_MAX = 0.2, 24.0
LOSSES = ("train_loss", "test_loss")
ETA = MODEL.learning_rate_from_step(STEP)


@pytest.fixture(scope="module")
def reference():
    return simulate(MODEL, T_MAX, step=STEP, seeds=200)


@pytest.fixture(scope="module")
def runs():
    """Losses of 160 other draws."""
    drawn = simulate(MODEL, T_MAX, step=STEP, seeds=160, seed=1)
    return {"time": drawn.time.values} | {name: drawn[name].values for name in LOSSES}


def own_run(draw, steps):
    """Train and test loss of plain gradient descent on half the mean square, as (2, steps + 1)."""
    x, y, w, beta = draw.inputs, draw.labels, draw.weights.copy(), draw.beta
    fresh = np.random.default_rng(0).standard_normal((400, x.shape[1])) / np.sqrt(x.shape[1])

    def f(x):
        h = x @ w.T
        return MODEL.alpha * (h + MODEL.epsilon / 2 * h**2).mean(axis=1)

    losses = []
    for _ in range(steps + 1):
        residual = f(x) - y
        losses.append([np.mean(residual**2), np.mean((f(fresh) - (fresh @ beta) ** 2 / 2) ** 2)])
        slope = residual[:, None] * (1 + MODEL.epsilon * x @ w.T)
        w -= ETA * MODEL.alpha / (len(w) * len(x)) * slope.T @ x
    return np.array(losses).T


def test_a_numpy_loop_is_the_simulator(runs):
    for k in range(2):
        train, test = own_run(draw_replica(MODEL, 1, k), 40)
        np.testing.assert_allclose(train, runs["train_loss"][k, :41], rtol=1e-9)
        np.testing.assert_allclose(test, runs["test_loss"][k, :41], rtol=0.35)


LOSS = {
    "half": lambda loss: loss / 2,
    "twice": lambda loss: loss * 2,
    "1/D": lambda loss: loss / MODEL.dim,
    "D": lambda loss: loss * MODEL.dim,
    "root": np.sqrt,
    "log": np.log,
    "log10": np.log10,
}
TIME = {"steps": 1 / STEP, "twice the rate": 0.5, "times D": MODEL.dim, "another rate": 3.7}
#: What their reasons are called: a time that counts nothing and is stretched a little may be another model's.
STRETCH = {"steps": "time", "twice the rate": "pace", "times D": "time", "another rate": "pace"}


def recipes(count, seed):
    """Conventions of `count` runs: a loss, a time, exchanged or not, a column left out, how many runs."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        loss = generator.choice(["", "", *LOSS])
        time = generator.choice(["", "", *TIME])
        exchanged = generator.random() < 0.2
        missing = generator.choice(LOSSES) if generator.random() < 0.1 else ""
        yield number, str(loss), str(time), bool(exchanged), str(missing), int(generator.choice([1, 4, 8]))


def spoilt(runs, number, loss, time, exchanged, missing, many):
    """The runs `number`, ... in other conventions, as a table."""
    first = 8 * number
    some = {name: runs[name][first : first + many] for name in LOSSES}
    table = {name: LOSS[loss](values) if loss else values for name, values in some.items()}
    table = {name: values if many > 1 else values[0] for name, values in table.items()}
    at = np.rint(runs["time"] / STEP) if time == "steps" else runs["time"] * TIME.get(time, 1.0)
    if exchanged:
        table = dict(zip(LOSSES, [table[name] for name in LOSSES[::-1]], strict=True))
    if missing:
        del table[missing]
    return {"time": at, **table}


def test_twenty_own_runs_get_the_right_verdict_and_reason(reference, runs):
    right = 0
    for recipe in recipes(20, seed=5):
        _, loss, time, exchanged, missing, many = recipe
        table = spoilt(runs, *recipe)
        if missing:
            with pytest.raises(ParameterError, match=f"must hold `{missing}`, but holds time, "):
                overlay(reference, table)
            right += 1
            continue
        agreement = overlay(reference, table)
        verdicts = {row["verdict"] for row in agreement.summary()["observables"].values()}
        expected = {loss, STRETCH.get(time, ""), "exchanged" if exchanged else ""} - {""}
        found = {slip for reason in agreement.reasons for slip in reason.slips}
        if many == 1:
            assert verdicts == {"no error, no verdict"}
        else:
            assert ("differs" in verdicts) == bool(expected)
        assert expected or not found, "accused"
        right += found == expected
    assert right >= 18


#: Changes of one parameter that make another model.
OTHERS = {
    "alpha": (2.25, 1.0, 4.5, 0.5),
    "epsilon": (0.75, 0.33),
    "kappa": (6.0, 1.0),
    "label_noise": (0.5,),
    "weight_decay": (0.1,),
    "initial_overlap": (0.1,),
    "centered": (True,),
    "width": (10,),
}


@pytest.mark.slow
def test_another_model_is_not_accused_of_a_slip(reference):
    """104 runs of other models, single ones and four: at most its pace is spoken of, as a parameter's or a unit's."""
    accused, spoken = [], 0
    for change in ({name: value} for name, values in OTHERS.items() for value in values):
        other = simulate(MODEL.replace(**change), T_MAX, step=STEP, seeds=20, seed=2)
        for first in range(4):
            for chosen in (other.isel(seed=16 + first), other.isel(seed=slice(4 * first, 4 * first + 4))):
                table = {"time": other.time.values} | {name: chosen[name].values for name in LOSSES}
                for reason in overlay(reference, table).reasons:
                    spoken += reason.slips == ("pace",)
                    if reason.slips != ("pace",):
                        accused.append((change, reason.slips))
                    else:
                        assert "or the model: alpha, epsilon, kappa?" in reason.says
    assert len(accused) <= 2, accused
    assert spoken > 5


def reason_of(reference, table, **options):
    """The slips of the one reason, and its sentence."""
    (reason,) = overlay(reference, table, **options).reasons
    return set(reason.slips), reason.says


def test_an_offset_of_one_step_is_seen(reference):
    late = {"time": reference.time.values[:-1]} | {name: reference[name].values[:, 1:] for name in LOSSES}
    slips, says = reason_of(reference, late)
    assert slips == {"offset"}
    assert "one step (0.2) later" in says


def test_the_scatter_of_one_draw_is_no_other_pace(reference):
    """At this D one draw may be a fifth slower than the mean; twice is no scatter."""
    mean = {name: reference[name].mean("seed").values for name in LOSSES}
    for factor, found in ((1.2, set()), (2.0, {"pace"})):
        (one,) = overlay(reference, {"time": factor * reference.time.values, **mean}).reasons or (None,)
        assert (set(one.slips) if one else set()) == found, factor


def test_an_accuracy_is_no_loss(reference, runs):
    table = {name: np.minimum(1.0, np.exp(-runs[name][:8])) for name in LOSSES}
    assert "is it an accuracy" in reason_of(reference, {"time": runs["time"], **table})[1]


def test_inputs_that_are_not_scaled_are_seen(reference):
    draw = draw_replica(MODEL, 1, 0)
    big = draw._replace(inputs=draw.inputs * np.sqrt(MODEL.dim), labels=draw.labels * MODEL.dim)
    residual = (MODEL.alpha * MODEL.epsilon / 2 * (big.inputs @ draw.weights.T) ** 2).mean(axis=1) - big.labels
    start = np.mean(residual**2)
    time = np.linspace(0.0, T_MAX, 30)
    slips, says = reason_of(reference, {"time": time, **dict.fromkeys(LOSSES, start * np.exp(-30.0 * time) + 20.0)})
    assert slips == {"inputs"}
    assert "not scaled by D^-1/2" in says


def test_an_output_that_is_not_centred_is_seen():
    centred = simulate(MODEL.replace(epsilon=2.0, centered=True), 4.0, step=0.05, seeds=4, seed=2)
    plain = simulate(MODEL.replace(epsilon=2.0), 4.0, step=0.05, seeds=4, seed=3)
    for first, second, flag in ((centred, plain, False), (plain, centred, True)):
        table = {"time": second.time.values} | {name: second[name].values for name in LOSSES}
        slips, says = reason_of(first, table)
        assert slips == {"centred"}
        assert f"(centered={flag})" in says


def test_too_few_common_times_are_named(reference, runs):
    early = {"time": runs["time"] * 20.0} | {name: runs[name][:3] for name in LOSSES}
    cut = reference.isel(time=slice(0, 30))
    few = {name: values[..., [0, 60, 120]] for name, values in early.items()}
    assert "Only 0 times after t = 0 are common: the run has 3" in reason_of(cut, few)[1]


def test_conventions_that_are_named_undo_the_slip(reference, runs):
    log = pandas.DataFrame({"iteration": np.rint(runs["time"] / STEP), "loss/val": runs["test_loss"][0] / 2})
    log["loss/train"], log["time"] = runs["train_loss"][0] / 2, 0.0  # a clock that was not running
    names = {"time": "iteration", "train": "loss/train", "test": "loss/val"}
    run = read_run(log, **names, loss="half", learning_rate=ETA, model=MODEL)
    np.testing.assert_allclose(run.time, runs["time"], rtol=1e-12)
    np.testing.assert_allclose(run.test_loss, runs["test_loss"][0])
    assert overlay(reference, run).reasons == ()
    for loss, function in {"root": np.sqrt, "log": np.log, "log10": np.log10, 3.0: lambda x: 3.0 * x}.items():
        table = {"time": runs["time"], **{name: function(runs[name][:4]) for name in LOSSES}}
        np.testing.assert_allclose(read_run(table, loss=loss).train_loss, runs["train_loss"][:4])


def test_errors_follow_their_losses(runs):
    loss = runs["test_loss"][0]
    for name, slope in (("half", 2.0), ("log", loss), ("root", 2.0 * np.sqrt(loss))):
        function = {"half": lambda x: x / 2, "log": np.log, "root": np.sqrt}[name]
        table = {"time": runs["time"], **dict.fromkeys(LOSSES, function(loss)), "test_loss_stderr": 0.1 + 0.0 * loss}
        np.testing.assert_allclose(read_run(table, loss=name).test_loss_stderr, 0.1 * slope)
    several = {"time": runs["time"], **{name: runs[name][:4] for name in LOSSES}, "test_loss_stderr": 0.1 + 0.0 * loss}
    found = read_run(several, loss="half").test_loss_stderr
    assert found.dims == ("time",)
    np.testing.assert_allclose(found, 0.2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": "los"}, "must hold `los`, but holds time, train_loss, test_loss"),
        ({"loss": "quarter"}, "`loss` must be one of mean, half, root, log, log10"),
        ({"loss": -1}, "`loss` must be a finite number > 0"),
        ({"learning_rate": 1.0, "time": "time"}, "`model` must be given with `learning_rate`"),
        ({"learning_rate": 1.0, "model": MODEL}, "must hold `step`"),
        (
            {"learning_rate": 1.0, "model": MODEL.replace(width=None), "time": "time"},
            "`width` of the model must be set",
        ),
        ({"model": 3}, "`model` must be a dmft.Model"),
        ({"test": 3}, "`test` must be the name of a column"),
    ],
)
def test_what_cannot_be_read_is_named(options, message, runs):
    table = {"time": runs["time"]} | {name: runs[name][0] for name in LOSSES}
    with pytest.raises(ParameterError, match=message):
        read_run(table, **options)
