"""Parameters of measured curves: on closed forms in place of the solver, and on the solver itself."""

import dataclasses
import json
import warnings

import numpy as np
import pandas
import pytest
from scipy import stats

from compare import FitWarning, fit
from compare.cli import main
from compare.fitting.curves import read_curves
from compare.fitting.fit import check_bounds, check_free, check_measured, fitted, unit_of_time
from compare.fitting.identify import product, unidentified
from compare.fitting.least_squares import Problem
from compare.fitting.theory import Prediction
from dmft import Model, ParameterError, limits

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=3.0)
TIMES = np.geomspace(0.05, 20.0, 30)


@dataclasses.dataclass
class Closed:
    """Two losses in closed form in the place of the solver: rate alpha, rate epsilon, and a floor 0.3/kappa."""

    own: float = 1e-6
    spread: float = 0.0
    names: tuple[str, ...] = ("train_loss", "test_loss")

    def losses(self, model, times):
        return np.stack([0.02 + np.exp(-model.alpha * times), 0.3 / model.kappa + np.exp(-model.epsilon * times)])

    def predict(self, model, times):
        log = np.log(self.losses(model, times))
        up, down = (np.log(self.losses(model, times * np.exp(h))) for h in (1e-5, -1e-5))
        return Prediction(log, np.full(log.shape, self.own), (up - down) / 2e-5)

    def derivatives(self, model, times, wrt):
        found = []
        for name in wrt:
            up, down = (
                np.log(self.losses(model.replace(**{name: getattr(model, name) * np.exp(h)}), times))
                for h in (1e-5, -1e-5)
            )
            found.append((up - down) / 2e-5)
        return np.stack(found, axis=-1) if found else np.zeros((2, len(times), 0))

    def draw(self, rng, times):
        """Relative deviations of a run: smooth in log t, so that neighbouring times have nearly the same."""
        waves = np.stack([np.ones_like(times), np.log(times), np.log(times) ** 2 / 3])
        return self.spread * rng.standard_normal((2, 3)) @ waves

    def deviations(self, model, times):  # noqa: ARG002
        rng = np.random.default_rng(5)
        return np.stack([self.draw(rng, times) for _ in range(64)]) if self.spread else None


class Product(Closed):
    """Losses that know alpha times epsilon alone."""

    def losses(self, model, times):
        return super().losses(
            model.replace(alpha=model.alpha * model.epsilon, epsilon=model.alpha * model.epsilon), times
        )


class Linear(Closed):
    """The linear network."""

    def losses(self, model, times):
        found = limits.linear(model, times)
        return np.stack([found[name] for name in self.names])


def found_by(theory, curves, model=MODEL, free=("alpha", "epsilon"), starts=1, intervals=False, rate=None, **columns):
    names = check_free(free, model)
    columns = {"time": None, "train": "train_loss", "test": "test_loss", "loss": "mean"} | columns
    measured = read_curves(curves, steps=rate is not None, **columns)
    check_measured(measured, names, rate)
    bounds = check_bounds(None, names, model)
    problem = Problem(theory, model, names, measured, lambda model: unit_of_time(rate, 1.0, model), bounds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        return fitted(problem, starts, 0, intervals)


def curves_of(theory, truth, times=TIMES, noise=0.0, seed=0, errors=True):
    losses = theory.losses(truth, times)
    noisy = losses * (1 + noise * np.random.default_rng(seed).standard_normal(losses.shape))
    found = {"time": times, "train_loss": noisy[0], "test_loss": noisy[1]}
    if errors:
        found |= {"train_loss_stderr": noise * losses[0], "test_loss_stderr": noise * losses[1]}
    return found


TRUTH = MODEL.replace(alpha=1.7, epsilon=0.2, kappa=4.0)


def test_planted_parameters_are_found_from_exact_curves():
    found = found_by(Closed(), curves_of(Closed(), TRUTH, noise=0.0), free=("alpha", "epsilon", "kappa"), starts=3)
    for name, value in found.values.items():
        assert value == pytest.approx(getattr(TRUTH, name), rel=1e-4)
    assert found.converged
    assert found.unidentified == ""
    assert found.model == MODEL.replace(**found.values)


def test_errors_and_intervals_cover_as_they_say_for_independent_noise():
    scores, inside, p_values = [], {0.68: 0, 0.95: 0}, []
    count = 150
    for seed in range(count):
        curves = curves_of(Closed(), TRUTH, times=TIMES[:25], noise=0.03, seed=seed)
        found = found_by(Closed(), curves, intervals=seed < 60, model=TRUTH, free=("alpha", "epsilon"))
        scores += [
            np.log(found.values[n] / getattr(TRUTH, n)) / (found.errors[n] / found.values[n]) for n in found.values
        ]
        p_values.append(found.p_value)
        for level in inside:
            ends = [found.intervals[name].get(level) for name in found.values]
            inside[level] += sum(
                one is not None and one[0] < getattr(TRUTH, n) < one[1]
                for one, n in zip(ends, found.values, strict=True)
            )
    assert abs(np.mean(scores)) < 4 / np.sqrt(2 * count)
    assert abs(np.std(scores) - 1) < 4 / np.sqrt(4 * count)
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3
    for level, hits in inside.items():
        assert stats.binomtest(hits, 120, level).pvalue > 1e-3


def test_single_runs_are_covered_although_their_noise_is_correlated_over_time():
    theory, scores, rng = Closed(spread=0.03), [], np.random.default_rng(11)
    for _ in range(150):
        losses = theory.losses(TRUTH, TIMES) * (1 + theory.draw(rng, TIMES))
        curves = {"time": TIMES, "train_loss": losses[0], "test_loss": losses[1]}
        found = found_by(theory, curves, model=TRUTH)
        scores += [
            np.log(found.values[n] / getattr(TRUTH, n)) / (found.errors[n] / found.values[n]) for n in found.values
        ]
    assert stats.binomtest(int((np.abs(scores) < 1).sum()), 300, 0.683).pvalue > 1e-3
    assert stats.binomtest(int((np.abs(scores) < 1.96).sum()), 300, 0.95).pvalue > 1e-3


def test_a_wrong_theory_is_seen_in_the_goodness_of_fit():
    curves = curves_of(Closed(), TRUTH, noise=0.01)
    curves["test_loss"] = curves["test_loss"] * TIMES**0.1
    assert found_by(Closed(), curves).p_value < 1e-4


def test_curves_without_errors_have_the_scatter_about_the_fit():
    found = found_by(Closed(), curves_of(Closed(), TRUTH, noise=0.05, errors=False), model=TRUTH)
    known = found_by(Closed(), curves_of(Closed(), TRUTH, noise=0.05), model=TRUTH)
    assert found.p_value is None
    assert found.errors["alpha"] == pytest.approx(known.errors["alpha"], rel=0.4)


@pytest.mark.parametrize(
    ("free", "says"),
    [
        (("alpha", "epsilon"), "not identifiable: alpha and epsilon; only alpha * epsilon is"),
        (("alpha",), ""),
        (("alpha", "epsilon", "kappa"), "not identifiable: alpha and epsilon; only "),
    ],
)
def test_a_product_alone_is_identified(free, says):
    found = found_by(Product(), curves_of(Product(), TRUTH, noise=0.01), free=free)
    assert found.unidentified.startswith(says)
    if len(free) == 2:
        assert found.values["alpha"] * found.values["epsilon"] == pytest.approx(1.7 * 0.2, rel=0.05)
        assert found.errors["alpha"] > found.values["alpha"]


def test_a_linear_network_knows_no_alpha():
    model = Model(alpha=1.0, epsilon=0.0, kappa=3.0, label_noise=0.3)
    curves = curves_of(Linear(), model.replace(kappa=2.0, label_noise=0.5), noise=0.01)
    found = found_by(Linear(), curves, model=model, free=("alpha", "kappa", "label_noise"))
    assert found.unidentified == "not identifiable: alpha"
    assert found.values["kappa"] == pytest.approx(2.0, rel=0.05)


def test_a_free_time_scale_is_found_from_far_away():
    curves = curves_of(Closed(), TRUTH)
    found = found_by(
        Closed(), curves | {"time": TIMES / 0.004}, free=("alpha", "kappa", "time"), model=MODEL.replace(epsilon=0.2)
    )
    assert found.values["time"] == pytest.approx(0.004, rel=1e-3)
    assert found.values["alpha"] == pytest.approx(1.7, rel=1e-3)
    scaled = found_by(Closed(), curves, free=("alpha", "epsilon", "time"))
    assert scaled.unidentified.startswith("not identifiable: alpha and epsilon and time")


def test_steps_become_time_with_a_free_alpha():
    model = Model(alpha=1.0, epsilon=0.2, kappa=4.0, dim=10, width=10)
    truth = model.replace(alpha=1.5)
    steps = TIMES / truth.step_from_learning_rate(2.0)
    losses = Closed().losses(truth, TIMES)
    curves = {"step": steps, "train_loss": losses[0], "test_loss": losses[1]}
    found = found_by(Closed(), curves, model=model, free=("alpha",), rate=2.0)
    assert found.values["alpha"] == pytest.approx(1.5, rel=1e-3)


def test_one_of_the_losses_is_enough(tmp_path):
    curves = curves_of(Closed(), TRUTH)
    pandas.DataFrame({"step": TIMES, "val": 0.5 * curves["test_loss"]}).to_csv(tmp_path / "run.csv", index=False)
    theory = Closed(names=("test_loss",))
    theory.losses = lambda model, times: Closed().losses(model, times)[1:]
    measured = read_curves(tmp_path / "run.csv", time=None, train="train_loss", test="val", loss="half", steps=False)
    assert measured.names == ("test_loss",)
    assert measured.in_steps
    np.testing.assert_allclose(measured.log[0], np.log(curves["test_loss"]), rtol=1e-12)


def test_a_fit_that_ends_on_a_bound_says_so():
    far = TRUTH.replace(alpha=100.0, epsilon=0.2)
    curves = curves_of(Closed(), far, times=np.geomspace(0.001, 1, 20), noise=0.01)
    found = found_by(Closed(), curves)
    assert not found.converged
    assert any("ended on a bound, alpha = 20" in note for note in found.notes)
    assert json.dumps(found.summary(), allow_nan=False)


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        (
            {},
            {"free": "alhpa"},
            "Argument `free` names `alhpa`, which is no parameter to be varied; did you mean `alpha`?",
        ),
        ({}, {"free": ("dim",)}, "`dim`, which is no parameter to be varied; allowed: alpha, epsilon,"),
        ({}, {"free": "label_noise"}, "`label_noise`, which must be > 0 in the model to have a logarithm, but is 0."),
        (
            {"time": [1.0], "train_loss": [1.0], "test_loss": [1.0]},
            {"free": ("alpha", "epsilon", "kappa")},
            "must hold at least as many points as parameters are free, 3, but holds 2.",
        ),
        ({"test_loss": -1}, {}, "Argument `curves` must hold `test_loss` > 0, whose logarithm is fitted, but it is -1"),
        ({"test_loss": None, "train_loss": None}, {}, "must hold `train_loss`, but holds time"),
        ({"time": None}, {}, "must hold `time`"),
        ({}, {"test": "val"}, "must hold `val`"),
        ({"time": None, "step": TIMES}, {}, "Argument `learning_rate` must be given with steps"),
        ({"time": None, "step": TIMES}, {"learning_rate": 0.1}, "Argument `dim` of the model must be set"),
        ({}, {"bounds": {"kappa": (1, 2)}}, "Argument `bounds` must be of free parameters, alpha, epsilon, but"),
        ({}, {"bounds": {"alpha": (2, 3)}}, "Argument `bounds` must be (least, largest) about the model's alpha"),
        ({}, {"bounds": {"alpha": (0.5, 1, 2)}}, "Argument `bounds` must be (least, largest) about the model's alpha"),
        ({}, {"bounds": {"alpha": 2.0}}, "Argument `bounds` must be (least, largest) about the model's alpha"),
        ({}, {"bounds": {"alpha": (1.0, 1.0000001)}}, "`bounds` must be (least, largest) about the model's alpha"),
        ({}, {"bounds": {"alpha": (None, 2.0)}}, "Argument `bounds[alpha]` must be"),
        ({}, {"bounds": (0.5, 2.0)}, "Argument `bounds` must map parameters to (least, largest), but is (0.5, 2.0)."),
        ({}, {"free": None}, "Argument `free` must be names of parameters, but is None."),
        ({}, {"free": 3}, "Argument `free` must be names of parameters, but is 3."),
        ({"time": TIMES - 1.0}, {}, "Argument `curves` must hold `time` >= 0, but it begins at -0.95."),
        ({}, {"starts": 0}, "Argument `starts` must be an integer >= 1"),
    ],
)
def test_what_cannot_be_fitted_is_said_before_anything_is_solved(changes, settings, message):
    curves = {"time": TIMES, "train_loss": np.ones(30), "test_loss": np.ones(30)}
    curves |= {name: np.full(30, value) if np.isscalar(value) else value for name, value in changes.items()}
    curves = {
        name: value
        for name, value in curves.items()
        if value is not None and not (isinstance(value, np.ndarray) and value.dtype == object)
    }
    with pytest.raises(ParameterError) as error:
        fit(curves, MODEL, **settings)
    assert message in str(error.value).replace("Argument `width` of the model", "Argument `dim` of the model")


def test_a_fit_needs_a_model():
    curves = {"time": TIMES, "train_loss": np.ones(30), "test_loss": np.ones(30)}
    for model in (None, Model):
        with pytest.raises(ParameterError, match=r"^Argument `model` must be a dmft\.Model"):
            fit(curves, model)


def test_combinations_in_words():
    assert product(("alpha", "kappa"), np.array([2.0, -1.0])) == "alpha / kappa^(1/2)"
    assert product(("alpha", "kappa"), np.array([-0.3, 1.0])) == "alpha^(1/3) / kappa"
    flat = np.diag([1e-4, 1e6, 1e-4])
    assert unidentified(("alpha", "epsilon", "kappa"), flat) == "not identifiable: epsilon"


def test_the_picture_is_drawn(tmp_path):
    found_by(Closed(), curves_of(Closed(), TRUTH, noise=0.02)).plot(tmp_path / "fit.png")
    assert (tmp_path / "fit.png").stat().st_size > 10_000


def test_the_command_line_refuses(capsys, tmp_path):
    assert main(["fit"]) == 2
    assert "`curves`" in capsys.readouterr().err
    assert main(["fit", "run.csv", "--t-max", "3"]) == 2
    assert "`t_max` must be left out" in capsys.readouterr().err
    assert main(["fit", str(tmp_path / "no.csv"), "--out", str(tmp_path / "out")]) == 2
    assert "no file" in capsys.readouterr().err
