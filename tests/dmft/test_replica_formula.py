"""Late times of one linear neuron under the logistic loss: the replica formula (14.6), and Cover's threshold."""

import numpy as np
import pytest
from scipy import special, stats

from dmft import Committee, ParameterError, solve
from dmft.limits import logistic
from dmft.models import labels

pytestmark = pytest.mark.filterwarnings("ignore::dmft.twotime.prediction.ToleranceWarning")

STUDENT = Committee(
    alpha=1.4,
    kappa=3.0,
    width=1,
    activation="linear",
    teacher=lambda u: 2.0 * u[..., 0],
    loss="logistic",
    labels="probability",
    label_flips=0.1,
    initial_teacher_overlap=[[0.5]],
)
COINS = STUDENT.replace(teacher="linear", labels="sign", label_flips=0.5, initial_teacher_overlap=[[0.0]], alpha=1.0)


def trained(model: Committee, dim: int, seeds: int) -> dict[str, np.ndarray]:
    """The minimum on data of that dimension, (seeds,) each, by Newton's method."""
    found = []
    for seed in range(seeds):
        generator = np.random.default_rng([7, seed])
        x = generator.standard_normal((round(model.kappa * dim), dim)) / np.sqrt(dim)
        beta = generator.standard_normal(dim)
        beta *= np.sqrt(dim) / np.linalg.norm(beta)
        share = labels.training_share(model.labels, model.label_flips, model.psi.values((x @ beta)[:, None]))
        y = np.where(generator.random(len(x)) < share, 1.0, -1.0)
        theta = np.zeros(dim)
        for _ in range(12):
            wrong = special.expit(-y * (x @ theta))
            ridge = model.kappa * model.weight_decay
            force = x.T @ (-y * wrong) + ridge * theta
            theta -= np.linalg.solve((x.T * (wrong * (1.0 - wrong))) @ x + ridge * np.eye(dim), force)
        margin = y * (x @ theta)
        overlaps = theta @ beta / dim / model.alpha, theta @ theta / dim / model.alpha**2
        found.append([np.logaddexp(0.0, -margin).mean(), margin.mean(), *overlaps])
    return dict(zip(("train_loss", "margin", "teacher_overlap", "self_overlap"), np.array(found).T, strict=True))


@pytest.mark.parametrize("model", [STUDENT.replace(weight_decay=0.3), COINS.replace(kappa=4.0)], ids=["ridge", "coins"])
def test_the_formula_is_the_minimum_on_large_data(model: Committee) -> None:
    expected, found = logistic(model), trained(model, 200, 10)
    for name, values in found.items():
        allowed = stats.t.isf(0.01 / 2 / 4, 9) * values.std(ddof=1) / np.sqrt(10) + 0.005 * abs(expected[name])
        assert abs(values.mean() - expected[name]) < allowed, name


def test_without_decay_separable_data_have_no_end() -> None:
    with pytest.raises(ParameterError, match=r"`weight_decay` must be > 0 at kappa = 1\.5"):
        logistic(COINS.replace(kappa=1.5))
    with pytest.raises(ParameterError, match=r"`activation` must be .linear."):
        logistic(STUDENT.replace(activation="erf"))


def compare(model: Committee, t_max: float, **settings: object) -> None:
    last = solve(model, t_max, times=[t_max], replicas=6, sample_count=4096, **settings).isel(time=-1)  # type: ignore[arg-type]
    expected = logistic(model)
    for name, value in expected.items():
        z = (float(last[name].squeeze()) - value) / float(last[f"{name}_error"].squeeze())
        assert abs(z) < stats.t.isf(0.01 / 2 / len(expected), 5), (name, z)
        assert float(last[f"{name}_error"].squeeze()) < 0.03 * max(abs(value), 0.2), name


def test_descent_with_ridge_ends_at_the_replica_formula() -> None:
    compare(STUDENT.replace(weight_decay=0.5), 16.0, step=1.0)


@pytest.mark.slow
def test_flow_with_ridge_ends_at_the_replica_formula() -> None:
    compare(STUDENT.replace(weight_decay=0.5), 16.0, points=14)


@pytest.mark.slow
def test_random_labels_are_fitted_below_covers_threshold_alone() -> None:
    """P < 2 D random labels are separable: the loss goes to 0, like 1/t in the end. Above, it ends at (14.6)."""
    compare(COINS.replace(kappa=5.0), 100.0, step=2.0)
    below = solve(COINS.replace(kappa=1.2), 100.0, step=2.0, times=[30.0, 100.0], replicas=4, sample_count=1024)
    early, late = below.train_loss.to_numpy()
    assert late < early / 2.0
    assert late < 0.1
    assert float(below.train_accuracy[-1]) > 0.999  # the rest is fitted later still
