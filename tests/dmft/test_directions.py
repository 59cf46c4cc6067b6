"""Targets of several directions: exact identities, limits, the two forms of the tangents, refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import solve_ivp

from compare.extrapolation import line
from dmft import Model, ParameterError, solve
from dmft.checks import precision_context
from dmft.limits import lazy, linear, population
from dmft.losses.quadratic import observables
from dmft.twotime.noise import draw_samples
from sim import simulate

PAIR = Model(alpha=1.0, epsilon=0.5, kappa=3.0, strengths=(1.0, 0.5), initial_overlap=(0.1, 0.2))
REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "directions.json").read_text())
few = {"step": 0.1, "replicas": 4, "sample_count": 64}


def differences(first, second, name, other=None):
    """(first - second) over their combined errors, at all times but the first."""
    other = other or name
    error = np.hypot(first[f"{name}_stderr"], second[f"{other}_stderr"])
    return ((first[name] - second[other]) / error).values[1:]


def test_one_direction_of_strength_s_is_an_output_scale():
    """f - s y = s (f/s - y): alpha / s with losses s^2 times as large, to rounding."""
    strong = solve(Model(alpha=1.0, epsilon=0.5, kappa=3.0, strengths=2.0, initial_overlap=0.1), 2.0, **few)
    plain = solve(Model(alpha=0.5, epsilon=0.5, kappa=3.0, initial_overlap=0.1), 2.0, **few)
    for name in ("train_loss", "test_loss", "variance_error"):
        np.testing.assert_allclose(strong[name], 4.0 * plain[name], rtol=1e-9)
    for name in ("trace", "overlap"):
        np.testing.assert_allclose(strong[name], plain[name], rtol=1e-9)


@pytest.mark.parametrize("decay", [pytest.param(0.0, marks=pytest.mark.slow), 0.2])
def test_linear_network_is_exact(decay):
    model = PAIR.replace(epsilon=0.0, weight_decay=decay, label_noise=0.3)
    theory = solve(model, 4.0, **few)
    exact = linear(model, theory.time.values, step=0.1)
    assert set(exact) == set(observables(model))
    for name, curve in exact.items():
        np.testing.assert_allclose(theory[name], curve, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("centered", [False, True])
def test_population_flow_is_that_of_the_matrix(centered):
    """M is diagonal in the basis of the beta_k: D entries obey the matrix equation of THEORY section 7c at finite D."""
    model = PAIR.replace(centered=centered, weight_decay=0.02)
    strengths, times = np.array(model.strengths), np.array([0.0, 1.0, 4.0])
    gain, rate = model.alpha * model.epsilon, model.epsilon / model.alpha

    def at(dim):
        start = np.ones(dim)
        start[:2] = dim * np.array(model.initial_overlaps)
        target = np.zeros(dim)
        target[:2] = dim * strengths

        def flow(_, m):
            error = gain * (m - centered * start) - target
            return -2 * (rate * (0.5 * error.sum() / dim + error / dim) + model.weight_decay) * m

        m = solve_ivp(flow, (0.0, times[-1]), start, t_eval=times, rtol=1e-10, atol=1e-10).y
        return m[:2] / dim, m.sum(axis=0) / dim

    exact = population(model, times)
    each = np.stack([exact["overlap_1"], exact["overlap_2"]])
    off = [
        np.abs(np.concatenate([at(dim)[0] / each - 1, [at(dim)[1] / exact["trace"] - 1]])).max() for dim in (200, 800)
    ]
    assert off[1] < 0.01
    assert off[0] / off[1] == pytest.approx(4.0, rel=0.1)
    np.testing.assert_allclose(exact["overlap"], each.sum(axis=0), rtol=1e-14)


def test_lazy_limit_scales_with_the_strength():
    model = Model(alpha=1.0, epsilon=0.5, kappa=2.0, centered=True)
    one, two = (lazy(model.replace(strengths=s), [0.5, 2.0]) for s in ((2.0,), (1.0, 1.0)))
    np.testing.assert_allclose(one["train_loss"], 4.0 * lazy(model, [0.5, 2.0])["train_loss"], rtol=1e-12)
    # the same mean, half the power of the rest
    assert (two["train_loss"] < one["train_loss"]).all()
    np.testing.assert_allclose(two["variance_error"], one["variance_error"], rtol=1e-12)


@pytest.mark.parametrize(("directions", "samples"), [(2, 64), (2, 256), (3, 256)])
def test_fields_of_several_directions_have_exact_moments(directions, samples):
    with precision_context("float64"):
        drawn = draw_samples(samples, 16, np.random.SeedSequence(1), np.float64, directions)
    weight, u, label, common, outlier = map(np.asarray, drawn)
    assert weight.min() > 0
    assert weight.sum() == pytest.approx(1.0)
    moments = {2: 1.0, 4: 3.0, 6: 15.0}
    for k, own in enumerate(u):
        for power, exact in moments.items():
            assert weight @ own**power == pytest.approx(exact, rel=1e-5)
        assert weight @ (own**2 * u[k - 1] ** 2) == pytest.approx(1.0, rel=1e-5)
        odd = np.vstack([own, outlier[k]])
        np.testing.assert_allclose((odd * weight) @ odd.T, np.eye(len(odd)), atol=1e-9)
    even = np.vstack([np.ones(samples), label, common])
    np.testing.assert_allclose((even * weight) @ even.T, np.eye(len(even)), atol=1e-9)
    np.testing.assert_allclose((common * weight) @ (u**2).T, 0.0, atol=1e-9)


@pytest.mark.slow
def test_the_order_of_the_directions_is_a_matter_of_form():
    """The first answers through its own tangents, the second through its resolvent: the same physics, two forms."""
    about = {"step": 0.2, "replicas": 8, "sample_count": 256}
    one = solve(PAIR, 4.0, **about)
    other = solve(PAIR.replace(strengths=(0.5, 1.0), initial_overlap=(0.2, 0.1)), 4.0, **about)
    pairs = [("overlap_1", "overlap_2"), ("overlap_2", "overlap_1"), ("train_loss",) * 2, ("test_loss",) * 2]
    scores = np.concatenate([differences(one, other, *pair)[4::5] for pair in pairs])
    assert np.abs(scores).max() < stats.t.ppf(1 - 0.005 / len(scores), 7), scores
    assert (one["overlap_2_stderr"] < 0.01 * one["overlap_2"]).all()  # so that a difference would be seen


@pytest.mark.slow
def test_directions_nearly_alike_are_as_alike_ones():
    """One kernel for all, or one for each."""
    about = {"step": 0.2, "replicas": 8, "sample_count": 256}
    alike = solve(PAIR.replace(strengths=(1.0, 1.0), initial_overlap=0.1), 3.0, **about)
    nearly = solve(PAIR.replace(strengths=(1.0, 1.0 + 1e-9), initial_overlap=0.1), 3.0, **about)
    scores = [differences(alike, nearly, name)[4::4] for name in ("overlap_1", "overlap_2", "train_loss", "test_loss")]
    assert np.abs(scores).max() < stats.t.ppf(1 - 0.005 / np.size(scores), 7), scores


# Against simulations of D = 100, 200, 400 (benchmarks/directions.py), extrapolated in 1/D


def limit(rows, name):
    """Value at 1/D = 0 and its standard error, at each time."""
    dims = np.array(sorted(map(int, rows)))
    means, errors = np.array([rows[str(dim)][name] for dim in dims]).swapaxes(0, 1)
    return line(1 / dims, means, errors)[:2]


def scores_of(case, **settings):
    """(theory - extrapolated simulation) / combined error, of all observables at all times."""
    model = Model.from_attributes(case["model"])
    theory = solve(model, case["times"][-1], step=case["step"], times=case["times"], **settings)
    scores = []
    for name in next(iter(case["rows"].values())):
        value, error = limit(case["rows"], name)
        scores.append((theory[name].values - value) / np.hypot(error, theory[f"{name}_stderr"].values))
    return np.array(scores)


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.slow) for one in REFERENCE if one != "two random"]
)
def test_simulations_extrapolated_in_1_over_d_meet_the_theory(name):
    scores = scores_of(REFERENCE[name], replicas=4)
    assert np.abs(scores).max() < stats.norm.ppf(1 - 0.01 / 2 / scores.size), scores


def without_memory(monkeypatch):
    """The other directions do not move the residuals."""
    from dmft.wide import tangents

    monkeypatch.setattr(tangents, "memory", lambda further: 0.0 * further.answer[0])


def without_other_outliers(monkeypatch):
    """The residual sees the first direction alone."""
    from dmft.wide import fields

    right = fields.past_fields

    def wrong(*arguments):
        p, q = right(*arguments)
        return p, q.at[1:].set(0.0)

    monkeypatch.setattr("dmft.wide.local.past_fields", wrong)


@pytest.mark.slow
@pytest.mark.parametrize("change", [without_memory, without_other_outliers])
@pytest.mark.usefixtures("compiled_anew")
def test_the_reference_rejects_a_wrong_theory(monkeypatch, change):
    change(monkeypatch)
    scores = scores_of(REFERENCE["two"], replicas=4)
    assert np.abs(scores).max() > 5.0, scores


@pytest.mark.slow
def test_random_initialisation_seeds_each_direction():
    """Where nothing is planted each overlap begins at 1/D."""
    model = Model(alpha=1.0, epsilon=0.25, kappa=5.5, strengths=(1.0, 0.6), dim=200)
    theory = solve(model, 1.0, **few)
    for name in ("overlap_1", "overlap_2"):
        assert float(theory[name][0]) == pytest.approx(1 / 200)
    mixed = solve(model.replace(initial_overlap=(0.0, 0.3)), 1.0, **few)
    assert float(mixed["overlap_1"][0]) == pytest.approx(1 / 200)
    assert float(mixed["overlap_2"][0]) == pytest.approx(0.3)


@pytest.mark.slow
def test_simulation_begins_and_ends_as_it_should():
    model = PAIR.replace(dim=30, kappa=8.0)
    run = simulate(model, 400.0, seeds=2, times=[0.0, 400.0])
    for k, overlap in enumerate(model.initial_overlaps, start=1):
        np.testing.assert_allclose(run[f"overlap_{k}"][:, 0], overlap, rtol=1e-12)
    # at the end the network is the teacher: M = sum_k s_k beta_k beta_k^T / (alpha epsilon)
    for k, strength in enumerate(model.strengths, start=1):
        np.testing.assert_allclose(run[f"overlap_{k}"][:, 1], strength / 0.5, rtol=0.1)
    np.testing.assert_allclose(run["overlap"], run["overlap_1"] + run["overlap_2"], rtol=1e-12)


def test_forms_of_the_simulation_agree():
    model = PAIR.replace(dim=20, width=60)
    about = {"step": 0.02, "seeds": 2, "times": [0.5, 2.0]}
    network, reduced = (simulate(model, 2.0, form=form, **about) for form in ("network", "reduced"))
    for name in observables(model):
        np.testing.assert_allclose(network[name], reduced[name], rtol=1e-9)


@pytest.mark.slow
def test_kernels_and_spread_of_each_direction():
    found = solve(PAIR.replace(dim=100), 1.0, step=0.2, replicas=4, sample_count=64, kernels=True, spread=True)
    assert found["correlation_outlier"].dims == ("direction", "time", "time2")
    assert found["response_outlier"].shape[0] == 2
    assert found["response_common"].dims == ("time", "time2")
    assert (found["overlap_2_spread"][1:] > 0).all()
    alike = solve(PAIR.replace(strengths=(1, 1), initial_overlap=0.1), 1.0, **few, kernels=True)
    np.testing.assert_array_equal(*alike["correlation_outlier"].values)


def test_a_model_is_the_same_after_it_was_written():
    for model in (PAIR, PAIR.replace(initial_overlap=0.1), Model(alpha=1.0, epsilon=0.5, kappa=3.0)):
        assert Model.from_attributes(model.to_attributes()) == model
    assert "strengths" not in Model(alpha=1.0, epsilon=0.5, kappa=3.0).to_attributes()
    assert Model(alpha=1, epsilon=1, kappa=1, strengths=(1, 2), initial_overlap=[0.1, 0.1]).initial_overlap == 0.1


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"strengths": (1.0, -0.5)}, "`strengths` must hold numbers > 0"),
        ({"strengths": (1.0, 0.0)}, "a direction of strength 0 is none"),
        ({"strengths": ()}, "at least one number"),
        ({"strengths": "1,2"}, "`strengths` must be a finite number, but is '1,2'"),
        ({"strengths": (1.0, np.nan)}, "`strengths` must be a finite number"),
        ({"strengths": (1.0, 1.0), "initial_overlap": (0.1, 0.1, 0.1)}, "one for each of the 2 directions"),
        ({"strengths": (1.0, 1.0), "initial_overlap": (0.1, -0.1)}, "`initial_overlap` must be a finite number >= 0"),
        ({"strengths": {1.0, 0.5}}, "`strengths` must be a finite number, but is {"),
        ({"strengths": (1.0, 1.0), "initial_overlap": {0.1: 1, 0.2: 2}}, "`initial_overlap` must be a finite number"),
        ({"initial_overlap": (0.1, 0.2)}, "one for each of the 1 directions"),
        ({"strengths": (1.0, 1.0), "dim": 3}, "`dim` must be an integer >= 4"),
    ],
)
def test_bad_directions_are_refused_by_name(fields, says):
    with pytest.raises(ParameterError, match=says):
        Model(**{"alpha": 1.0, "epsilon": 0.5, "kappa": 3.0} | fields)


def test_more_directions_than_samples_can_fill_are_refused():
    with pytest.raises(ParameterError, match="`strengths` must have at most 4 entries for the theory, but has 5"):
        solve(Model(alpha=1.0, epsilon=0.5, kappa=3.0, strengths=(1.0,) * 5), 1.0)
