"""The closed forms against exact identities, second routes to the same number, and direct finite-D dynamics.

Simulations here are self-contained (a few lines of NumPy), so that they check the formulas and not other code.
"""

import numpy as np
import pytest
from scipy import integrate, linalg, special

from dmft import ParameterError
from dmft.limits import lazy, linear, marchenko_pastur, population, ridge
from dmft.limits.spectrum import sample_spectrum
from dmft.losses.quadratic import OBSERVABLES
from dmft.models.model import Model

KAPPAS = [1e-3, 0.3, 0.999, 1.0, 1.0 + 1e-7, 1.001, 1.7, 5.5, 1e4]
TIMES = np.array([0.0, 0.4, 1.2, 3.2, 8.0])


def order_of(errors: list[float]) -> float:
    """Order of convergence from errors at steps halved from one to the next."""
    return float(-np.polyfit(np.arange(len(errors)), np.log2(errors), 1)[0])


def largest_z_score(simulate, theory: dict[str, np.ndarray], dims: tuple[int, ...], seeds: int) -> float:
    """Largest |mean - theory| / standard error, the mean extrapolated to infinite D.

    `simulate(dim, rng)` returns arrays (T,). Means over data sets deviate from their limit by a power series in 1/D;
    the polynomial through n sizes (Lagrange weights at 1/D = 0) removes its first n - 1 terms, and its standard error
    follows from those of the sizes.
    """
    means, variances = [], []
    for dim in dims:
        rng = np.random.default_rng([dim, seeds])
        runs = [simulate(dim, rng) for _ in range(seeds)]
        samples = {name: np.array([run[name] for run in runs]) for name in runs[0]}
        factor = np.prod([dim / (dim - other) for other in dims if other != dim])
        means.append({name: factor * sample.mean(axis=0) for name, sample in samples.items()})
        variances.append({name: factor**2 * sample.var(axis=0, ddof=1) / seeds for name, sample in samples.items()})
    scores = []
    for name in means[0]:
        error = np.sqrt(sum(variance[name] for variance in variances))
        deviation = np.abs(sum(mean[name] for mean in means) - theory[name])
        known = error < 1e-14  # not random, as the weights at t = 0, or decayed to nothing
        np.testing.assert_allclose(deviation[known], 0.0, atol=1e-12)
        scores.append((deviation[~known] / error[~known]).max(initial=0.0))
    return max(scores)


def draw(dim: int, kappa: float, noise: float, rng) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Inputs (P, D), beta (D,), u = X beta and label noise (P,)."""
    samples = round(kappa * dim)
    inputs = rng.standard_normal((samples, dim)) / np.sqrt(dim)
    beta = rng.standard_normal(dim)
    beta *= np.sqrt(dim) / np.linalg.norm(beta)
    return inputs, beta, inputs @ beta, noise * rng.standard_normal(samples)


# Marchenko-Pastur


@pytest.mark.parametrize("kappa", KAPPAS)
def test_spectrum_has_the_exact_moments(kappa):
    eigenvalues, weights = marchenko_pastur(kappa)
    moments = [1.0, 1.0, 1.0 + 1.0 / kappa, 1.0 + 3.0 / kappa + 1.0 / kappa**2]
    for power, exact in enumerate(moments):
        assert weights @ eigenvalues**power == pytest.approx(exact, rel=1e-12)
    edges = (1.0 - kappa**-0.5) ** 2, (1.0 + kappa**-0.5) ** 2
    inside = eigenvalues[1:] if kappa < 1.0 else eigenvalues
    assert inside.min() >= edges[0] * (1.0 - 1e-12)
    assert inside.max() <= edges[1] * (1.0 + 1e-12)
    assert (weights >= 0.0).all()
    if kappa < 1.0:
        assert eigenvalues[0] == 0.0
        assert weights[0] == 1.0 - kappa


@pytest.mark.parametrize("kappa", [0.3, 0.999, 1.001, 1.7, 5.5])
def test_spectrum_has_the_exact_inverse_moment(kappa):
    eigenvalues, weights = marchenko_pastur(kappa)
    inside = eigenvalues > 0.0
    # a matrix and its transpose share their non-zero eigenvalues, up to the factor kappa of the normalisation
    exact = 1.0 / (1.0 - 1.0 / kappa) if kappa > 1.0 else kappa**2 / (1.0 - kappa)
    assert (weights[inside] / eigenvalues[inside]).sum() == pytest.approx(exact, rel=1e-11)


def test_hard_edge_against_bessel_functions():
    """kappa = 1: moments are Catalan numbers, so int e^{-s t} = e^{-2t} [I_0(2t) + I_1(2t)]."""
    eigenvalues, weights = marchenko_pastur(1.0)
    for time in [0.0, 0.1, 3.0, 1e2, 1e5, 1e8]:
        exact = special.ive(0, 2.0 * time) + special.ive(1, 2.0 * time)
        assert weights @ np.exp(-eigenvalues * time) == pytest.approx(exact, rel=1e-11)
    for kappa in (1.0 - 1e-9, 1.0 + 1e-9):
        nearby, nearby_weights = marchenko_pastur(kappa)
        time = 1e3
        limit = weights @ ((1.0 - np.exp(-eigenvalues * time)) ** 2 / eigenvalues)
        inside = nearby > 0.0
        value = nearby_weights[inside] @ ((1.0 - np.exp(-nearby[inside] * time)) ** 2 / nearby[inside])
        assert value == pytest.approx(limit, rel=1e-6)


@pytest.mark.parametrize("kappa", [0.4, 2.0])
def test_spectrum_against_adaptive_quadrature_of_the_density(kappa):
    low, high = (1.0 - kappa**-0.5) ** 2, (1.0 + kappa**-0.5) ** 2

    def density(s):
        return kappa * np.sqrt(max(0.0, (high - s) * (s - low))) / (2.0 * np.pi * s)

    eigenvalues, weights = marchenko_pastur(kappa)
    for function in (lambda s: np.exp(-2.0 * s), lambda s: 1.0 / (s + 0.1), np.cos):
        exact = integrate.quad(lambda s, f=function: f(s) * density(s), low, high, epsabs=1e-12, epsrel=1e-11)[0]
        atom = (1.0 - kappa) * function(0.0) if kappa < 1.0 else 0.0
        assert weights @ function(eigenvalues) == pytest.approx(exact + atom, rel=1e-9)


# Linear


@pytest.mark.parametrize("step", [None, 0.2])
@pytest.mark.parametrize("kappa", [0.5, 1.0, 3.0])
def test_linear_start_and_units(kappa, step):
    model = Model(alpha=2.0, epsilon=0.0, kappa=kappa, label_noise=0.5, initial_overlap=0.3)
    values = linear(model, TIMES, step=step)
    assert set(values) == set(OBSERVABLES)
    assert all(value.shape == TIMES.shape for value in values.values())
    start = {"train_loss": 1.0, "test_loss": 0.75, "variance_error": 0.25, "misalignment_error": 0.5}
    start |= {"linear_power": 0.0, "trace": 1.3, "overlap": 0.3, "mean_weight_norm": 0.0}
    for name, exact in start.items():
        assert values[name][0] == pytest.approx(exact, rel=1e-12)
    parts = values["variance_error"] + values["misalignment_error"] + values["linear_power"]
    np.testing.assert_allclose(values["test_loss"], parts, rtol=1e-14)
    other = linear(model.replace(alpha=0.1, centered=True), TIMES, step=step)
    for name in ("train_loss", "test_loss", "overlap"):
        np.testing.assert_allclose(other[name], values[name], rtol=1e-12)
    np.testing.assert_allclose(other["mean_weight_norm"], 400.0 * values["mean_weight_norm"], rtol=1e-12)


def test_linear_ends_at_least_squares():
    end = [1e9]
    above = linear(Model(alpha=1.0, epsilon=0.0, kappa=3.0), end)
    assert above["train_loss"][0] == pytest.approx(0.75 * (1.0 - 1.0 / 3.0), rel=1e-12)
    assert above["test_loss"][0] == pytest.approx(0.75 + 0.75 / 3.0 / (1.0 - 1.0 / 3.0), rel=1e-11)
    below = linear(Model(alpha=1.0, epsilon=0.0, kappa=0.4), end)
    assert below["train_loss"][0] == pytest.approx(0.0, abs=1e-14)
    assert below["test_loss"][0] == pytest.approx(0.75 + 0.75 * 0.4 / (1.0 - 0.4), rel=1e-11)


def test_linear_weight_decay_ends_at_ridge():
    """train = (v/kappa) [kappa - 1 + int (lambda/(s + lambda))^2], by the Stieltjes transform of Marchenko-Pastur."""
    kappa, decay = 0.8, 0.3
    values = linear(Model(alpha=1.0, epsilon=0.0, kappa=kappa, weight_decay=decay), [1e4])

    def stieltjes(z):  # int 1/(s + z)
        ratio = 1.0 / kappa
        return (-(z + 1.0 - ratio) + np.sqrt((z + 1.0 - ratio) ** 2 + 4.0 * ratio * z)) / (2.0 * ratio * z)

    first = stieltjes(decay)
    second = -(stieltjes(decay + 1e-5) - stieltjes(decay - 1e-5)) / 2e-5  # int 1/(s + lambda)^2
    train = 0.75 / kappa * (kappa - 1.0 + decay**2 * second)
    assert values["train_loss"][0] == pytest.approx(train, rel=1e-8)
    assert values["linear_power"][0] == pytest.approx(0.75 / kappa * (first - decay * second), rel=1e-8)


@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_discrete_steps_converge_to_the_flow_at_first_order(decay):
    times = np.array([0.8, 4.0])
    model = Model(alpha=1.0, epsilon=0.0, kappa=1.0, weight_decay=decay, initial_overlap=0.2)
    flow, flow_ridge = linear(model, times), ridge(2.0, times, weight_decay=decay, label_noise=0.3)
    steps = [0.05 / 2**level for level in range(4)]
    for name in ("train_loss", "test_loss", "mean_weight_norm"):
        errors = [np.abs(linear(model, times, step=step)[name] - flow[name]).max() for step in steps]
        assert order_of(errors) == pytest.approx(1.0, abs=0.05)
        runs = [ridge(2.0, times, weight_decay=decay, label_noise=0.3, step=step) for step in steps]
        assert order_of([np.abs(run[name] - flow_ridge[name]).max() for run in runs]) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(("kappa", "decay"), [(1.5, 0.0), (0.7, 0.15)])
def test_linear_agrees_with_gradient_descent_on_neurons(kappa, decay):
    """Weights in pairs +w, -w make f(0) = 0 at finite width, as at infinite width."""
    alpha, noise, overlap, step, width = 1.6, 0.4, 0.3, 0.2, 64
    steps = np.rint(TIMES / step).astype(int)

    def simulate(dim, rng):
        inputs, beta, u, labels = draw(dim, kappa, noise, rng)
        labels = labels + 0.5 * u**2
        weights = rng.standard_normal((width // 2, dim))
        weights += (np.sqrt(overlap * dim) - 1.0) / dim * np.outer(weights @ beta, beta)
        weights = np.concatenate([weights, -weights])
        rows = []
        for count in range(steps[-1] + 1):
            mean = weights.mean(axis=0)
            residual = alpha * (inputs @ mean) - labels
            if count in steps:
                power = alpha**2 * (mean @ mean) / dim
                trace, along = (weights**2).sum() / (width * dim), ((weights @ beta) ** 2).mean() / dim**2
                rows.append([(residual**2).mean(), 0.75 + power, trace, along, power / alpha**2])
            weights = weights - step * (inputs.T @ residual / (alpha * kappa) + decay * weights)
        names = ("train_loss", "test_loss", "trace", "overlap", "mean_weight_norm")
        return dict(zip(names, np.array(rows).T, strict=True))

    model = Model(alpha=alpha, epsilon=0.0, kappa=kappa, label_noise=noise, initial_overlap=overlap, weight_decay=decay)
    assert largest_z_score(simulate, linear(model, TIMES, step=step), (60, 180), 300) < 4.0


# Lazy


def kernel_run(inputs, beta, labels, epsilon, kappa, times):
    """Exact dynamics with the initial tangent kernel of one data set; every part of the decomposition."""
    dim = inputs.shape[1]
    gram = inputs @ inputs.T
    rates, modes = np.linalg.eigh((gram + epsilon**2 * gram**2) / kappa)
    start = -(modes.T @ labels)
    decay = np.exp(-np.outer(times, rates))
    residual = (decay * start) @ modes.T
    integral = ((1.0 - decay) / rates * start) @ modes.T
    power = ((integral @ inputs) ** 2).sum(axis=1) / (kappa**2 * dim)
    error = -2.0 * epsilon**2 / kappa * np.einsum("tp,pi,pj->tij", integral, inputs, inputs, optimize=True)
    error -= np.outer(beta, beta)
    variance = 0.25 * (np.trace(error, axis1=1, axis2=2) / dim) ** 2
    misalignment = 0.5 * (error**2).sum(axis=(1, 2)) / dim**2
    values = {"train_loss": (residual**2).mean(axis=1), "linear_power": power}
    values |= {"variance_error": variance, "misalignment_error": misalignment}
    return values | {"test_loss": variance + misalignment + power}


def test_lazy_without_features_is_linear():
    model = Model(alpha=1.0, epsilon=0.0, kappa=1.3, centered=True, label_noise=0.2)
    kernel, exact = lazy(model, TIMES), linear(model, TIMES)
    for name, value in kernel.items():
        np.testing.assert_allclose(value, exact[name], rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("kappa", [0.6, 1.0, 3.0])
def test_lazy_start_and_end(kappa):
    model = Model(alpha=1.0, epsilon=0.9, kappa=kappa, centered=True, label_noise=0.2)
    values = lazy(model, [0.0, 1e9])
    assert values["train_loss"] == pytest.approx([0.79, 0.0], abs=1e-12)
    assert values["test_loss"][0] == pytest.approx(0.75, rel=1e-12)
    # at the end the inverse kernel fits the labels: g = (1/2) epsilon^2 sigma / (1 + epsilon^2 sigma)
    eigenvalues, weights = sample_spectrum(kappa)
    sigma = 0.81 * (weights / (eigenvalues + 0.81 / kappa)).sum()
    gain = 0.5 * sigma / (1.0 + sigma)
    assert values["variance_error"][1] == pytest.approx((gain - 0.5) ** 2, rel=1e-10)


@pytest.mark.parametrize("kappa", [0.6, 3.0])
def test_lazy_against_the_stepped_spectral_equations(kappa):
    epsilon, noise = 0.8, 0.3
    model = Model(alpha=1.0, epsilon=epsilon, kappa=kappa, centered=True, label_noise=noise)
    eigenvalues, weights = sample_spectrum(kappa)
    rates = eigenvalues + epsilon**2 / kappa

    def flow(_, state):
        mode, remainder = state[:2]
        return np.array([-rates * mode - epsilon**2 * (weights @ mode), -rates * remainder, mode, remainder])

    shape = (4, eigenvalues.size)
    start = np.zeros(shape)
    start[:2] = [[-0.5], [1.0]]
    solution = integrate.solve_ivp(
        lambda t, state: flow(t, state.reshape(shape)).ravel(),
        (0.0, TIMES[-1]),
        start.ravel(),
        method="DOP853",
        t_eval=TIMES,
        rtol=1e-11,
        atol=1e-13,
    )
    mode, remainder, mode_integral, remainder_integral = solution.y.reshape(*shape, -1)
    power = 0.5 + noise**2
    values = lazy(model, TIMES)
    np.testing.assert_allclose(values["train_loss"], weights @ (mode**2 + power * remainder**2), rtol=1e-8)
    linear_power = (weights * eigenvalues) @ (mode_integral**2 + power * remainder_integral**2)
    np.testing.assert_allclose(values["linear_power"], linear_power, rtol=1e-8, atol=1e-12)
    gain = -(epsilon**2) * (weights @ mode_integral)
    np.testing.assert_allclose(values["test_loss"], (gain - 0.5) ** 2 + 0.5 + linear_power, rtol=1e-9)


def test_lazy_against_the_volterra_equation():
    """mbar = -phi/2 - epsilon^2 int phi(t - s) mbar(s) ds by the trapezoidal rule: converges at second order."""
    epsilon, kappa, end = 0.8, 2.0, 3.0
    exact = lazy(Model(alpha=1.0, epsilon=epsilon, kappa=kappa, centered=True), [end])["variance_error"][0]
    eigenvalues, weights = sample_spectrum(kappa)
    errors = []
    for count in (40, 80, 160, 320):
        step = end / count
        grid = step * np.arange(count + 1)
        phi = np.exp(-np.outer(grid, eigenvalues + epsilon**2 / kappa)) @ weights
        mean = np.zeros(count + 1)
        for n in range(count + 1):
            memory = phi[n:0:-1] @ mean[:n] - 0.5 * phi[n] * mean[0] if n else 0.0
            mean[n] = (-0.5 * phi[n] - epsilon**2 * step * memory) / (1.0 + (n > 0) * 0.5 * epsilon**2 * step * phi[0])
        gain = -(epsilon**2) * integrate.trapezoid(mean, grid)
        errors.append(abs((gain - 0.5) ** 2 - exact))
    assert order_of(errors) == pytest.approx(2.0, abs=0.05)
    assert errors[-1] < 1e-5


@pytest.mark.parametrize("kappa", [0.7, pytest.param(2.5, marks=pytest.mark.slow)])
def test_lazy_agrees_with_kernel_regression(kappa):
    epsilon, noise = 1.2, 0.3
    model = Model(alpha=1.0, epsilon=epsilon, kappa=kappa, centered=True, label_noise=noise)

    def simulate(dim, rng):
        inputs, beta, u, labels = draw(dim, kappa, noise, rng)
        return kernel_run(inputs, beta, 0.5 * u**2 + labels, epsilon, kappa, TIMES)

    assert largest_z_score(simulate, lazy(model, TIMES), (40, 80, 160), 60) < 4.0


def test_the_network_becomes_lazy_as_alpha_grows():
    """The reduced flow of THEORY section 3 on one data set: its distance from kernel regression falls like 1/alpha."""
    dim, kappa, epsilon, step = 24, 2.0, 0.8, 0.02
    inputs, beta, u, _ = draw(dim, kappa, 0.0, np.random.default_rng(5))
    labels = 0.5 * u**2
    kernel = kernel_run(inputs, beta, labels, epsilon, kappa, np.array([2.0]))["train_loss"][0]
    errors = []
    for alpha in (100.0, 200.0, 400.0):

        def residual(factor, mean, alpha=alpha):
            fields = ((inputs @ factor) ** 2).sum(axis=1) - (inputs**2).sum(axis=1) + (inputs @ mean) ** 2
            return alpha * (inputs @ mean + 0.5 * epsilon * fields) - labels

        def flow(state, alpha=alpha, residual=residual):
            factor, mean = state[:-1], state[-1]
            force = residual(factor, mean) / (alpha * kappa)
            change = -epsilon * inputs.T @ (force[:, None] * (inputs @ factor))
            return np.vstack([change, -inputs.T @ (force * (1.0 + epsilon * (inputs @ mean)))])

        state = np.vstack([np.eye(dim), np.zeros(dim)])
        for _ in range(100):  # Runge-Kutta of order 4, error about step^4
            first = flow(state)
            second = flow(state + 0.5 * step * first)
            third = flow(state + 0.5 * step * second)
            fourth = flow(state + step * third)
            state = state + step / 6.0 * (first + 2.0 * second + 2.0 * third + fourth)
        errors.append(abs((residual(state[:-1], state[-1]) ** 2).mean() - kernel))
    assert order_of(errors) == pytest.approx(1.0, abs=0.1)


# Population


def test_population_force_is_the_average_over_inputs():
    """(D/alpha) E[Delta phi'(w.x) x] = (epsilon/alpha) A w for wbar = 0, by Gauss-Hermite quadrature at D = 3."""
    dim, alpha, epsilon = 3, 1.7, 0.6
    rng = np.random.default_rng(3)
    beta = np.array([1.0, -1.0, 1.0])
    weights = rng.standard_normal((4, dim))
    weights = np.concatenate([weights, -weights])
    nodes, masses = np.polynomial.hermite_e.hermegauss(8)
    inputs = np.stack(np.meshgrid(nodes, nodes, nodes, indexing="ij"), axis=-1).reshape(-1, dim) / np.sqrt(dim)
    masses = masses / masses.sum()
    masses = (masses[:, None, None] * masses[:, None] * masses).ravel()
    fields = inputs @ weights.T
    residual = alpha * (fields + 0.5 * epsilon * fields**2).mean(axis=1) - 0.5 * (inputs @ beta) ** 2
    force = dim / alpha * np.einsum("x,x,xn,xi->ni", masses, residual, 1.0 + epsilon * fields, inputs)
    error = alpha * epsilon * weights.T @ weights / len(weights) - np.outer(beta, beta)
    matrix = 0.5 * np.trace(error) / dim * np.eye(dim) + error / dim
    np.testing.assert_allclose(force, epsilon / alpha * weights @ matrix, rtol=1e-12, atol=1e-13)
    terms = 0.25 * (np.trace(error) / dim) ** 2 + 0.5 * (error**2).sum() / dim**2
    assert masses @ residual**2 == pytest.approx(terms, rel=1e-12)


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_population_agrees_with_the_matrix_flow(centered, decay):
    """The D x D flow approaches the two closed equations like 1/D; extrapolated, it meets them to 1/D^2."""
    alpha, epsilon, overlap = 1.3, 0.6, 0.15
    model = Model(
        alpha=alpha, epsilon=epsilon, kappa=1.0, initial_overlap=overlap, centered=centered, weight_decay=decay
    )
    exact = population(model, TIMES)

    def matrix_flow(dim):
        beta = np.random.default_rng(0).standard_normal(dim)
        beta *= np.sqrt(dim) / np.linalg.norm(beta)
        target = np.outer(beta, beta)
        start = np.eye(dim) + (overlap * dim - 1.0) * target / dim
        offset = start if centered else np.zeros((dim, dim))

        def flow(_, state):
            moment = state.reshape(dim, dim)
            error = alpha * epsilon * (moment - offset) - target
            matrix = 0.5 * np.trace(error) / dim * np.eye(dim) + error / dim
            change = -epsilon / alpha * (matrix @ moment + moment @ matrix) - 2.0 * decay * moment
            return change.ravel()

        solution = integrate.solve_ivp(flow, (0.0, TIMES[-1]), start.ravel(), t_eval=TIMES, rtol=1e-9, atol=1e-10)
        moments = solution.y.T.reshape(-1, dim, dim)
        errors = alpha * epsilon * (moments - offset) - target
        variance = 0.25 * (np.trace(errors, axis1=1, axis2=2) / dim) ** 2
        misalignment = 0.5 * (errors**2).sum(axis=(1, 2)) / dim**2
        trace, along = np.trace(moments, axis1=1, axis2=2) / dim, beta @ moments @ beta / dim**2
        return {"trace": trace, "overlap": along, "variance_error": variance, "misalignment_error": misalignment}

    runs = [matrix_flow(dim) for dim in (20, 40, 80)]
    for name in runs[0]:
        coarse, middle, fine = (run[name] for run in runs)
        np.testing.assert_allclose(2.0 * fine - middle, exact[name], atol=2e-3)
        first, second = np.abs(2.0 * middle - coarse - exact[name]), np.abs(2.0 * fine - middle - exact[name])
        assert second.max() < 0.3 * first.max() + 1e-8
    np.testing.assert_allclose(exact["test_loss"], exact["variance_error"] + exact["misalignment_error"], rtol=1e-14)


def test_population_without_spike_is_logistic():
    """m0 = 0: db/dt = r b - epsilon^2 b^2 with r = epsilon/alpha - 2 lambda."""
    epsilon, alpha, decay = 0.7, 1.3, 0.05
    times = np.array([30.0, 0.0, 3.0, 3.0, 0.5])
    values = population(Model(alpha=alpha, epsilon=epsilon, kappa=1.0, weight_decay=decay, label_noise=0.2), times)
    rate = epsilon / alpha - 2.0 * decay
    exact = rate / (epsilon**2 + (rate - epsilon**2) * np.exp(-rate * times))
    np.testing.assert_allclose(values["trace"], exact, rtol=1e-10)
    np.testing.assert_allclose(values["overlap"], 0.0, atol=0.0)
    np.testing.assert_allclose(values["train_loss"], values["test_loss"] + 0.04, rtol=1e-14)


def test_population_learns_the_target_algebraically():
    """Late, o = 1/(alpha epsilon) - b/3 follows the bulk, and db/dt = -(2/3) epsilon^2 b^2: b -> 3/(2 epsilon^2 t)."""
    alpha, epsilon, overlap, late = 2.0, 0.7, 1e-8, 1e6
    gain = alpha * epsilon
    values = population(Model(alpha=alpha, epsilon=epsilon, kappa=1.0, initial_overlap=overlap), [0.0, late])
    assert set(values) == set(OBSERVABLES)
    start = 0.25 * (gain * (1.0 + overlap) - 1.0) ** 2 + 0.5 * (gain * overlap - 1.0) ** 2
    assert values["test_loss"][0] == pytest.approx(start, rel=1e-12)
    bulk = 1.5 / (epsilon**2 * late)
    assert values["trace"][1] - values["overlap"][1] == pytest.approx(bulk, rel=1e-3)
    assert 1.0 / gain - values["overlap"][1] == pytest.approx(bulk / 3.0, rel=1e-3)
    assert values["test_loss"][1] == pytest.approx((gain * bulk) ** 2 * (1.0 / 9.0 + 1.0 / 18.0), rel=1e-2)


# Ridge


@pytest.mark.parametrize("step", [None, 0.1])
def test_ridge_identities(step):
    alpha, norm, alignment, noise = 1.4, 1.5, 0.3, 0.5
    values = ridge(
        0.8,
        TIMES,
        alpha=alpha,
        initial_norm=norm,
        initial_alignment=alignment,
        label_noise=noise,
        weight_decay=0.1,
        step=step,
    )
    assert values["overlap"][0] == pytest.approx(alignment**2, rel=1e-12)
    assert values["trace"][0] == pytest.approx(norm, rel=1e-12)
    start = alpha**2 * norm - 2.0 * alpha * alignment + 1.0
    assert values["test_loss"][0] == pytest.approx(start, rel=1e-12)
    assert values["train_loss"][0] == pytest.approx(start + noise**2, rel=1e-12)
    square = alpha**2 * values["mean_weight_norm"] - 2.0 * alpha * np.sqrt(values["overlap"]) + 1.0
    np.testing.assert_allclose(values["test_loss"], square, rtol=1e-11)


def test_ridge_of_pure_noise_is_the_linear_limit():
    """To the linear network its target is noise: subtracting the signal must give the same curves."""
    kappa, decay, step = 1.2, 0.1, 0.2
    clean = ridge(kappa, TIMES, weight_decay=decay, initial_norm=0.0, step=step)
    noisy = ridge(kappa, TIMES, weight_decay=decay, initial_norm=0.0, step=step, label_noise=np.sqrt(0.75))
    network = linear(Model(alpha=1.0, epsilon=0.0, kappa=kappa, weight_decay=decay), TIMES, step=step)
    np.testing.assert_allclose(noisy["train_loss"] - clean["train_loss"], network["train_loss"], rtol=1e-11)
    power = noisy["test_loss"] - clean["test_loss"]
    np.testing.assert_allclose(power, network["linear_power"], rtol=1e-11, atol=1e-14)


def test_ridge_agrees_with_gradient_descent():
    kappa, alpha, noise, decay, step, alignment, norm = 1.4, 1.3, 0.5, 0.1, 0.2, -0.4, 0.9
    steps = np.rint(TIMES / step).astype(int)

    def simulate(dim, rng):
        inputs, beta, u, labels = draw(dim, kappa, noise, rng)
        labels = labels + u
        other = rng.standard_normal(dim)
        other -= (other @ beta) / dim * beta
        weights = alignment * beta + np.sqrt((norm - alignment**2) * dim) / np.linalg.norm(other) * other
        rows = []
        for count in range(steps[-1] + 1):
            residual = alpha * (inputs @ weights) - labels
            if count in steps:
                test = ((alpha * weights - beta) ** 2).sum() / dim
                rows.append([(residual**2).mean(), test, (weights @ weights) / dim, (weights @ beta / dim) ** 2])
            weights = weights - step * (inputs.T @ residual / (alpha * kappa) + decay * weights)
        return dict(zip(("train_loss", "test_loss", "trace", "overlap"), np.array(rows).T, strict=True))

    values = ridge(
        kappa,
        TIMES,
        alpha=alpha,
        initial_norm=norm,
        initial_alignment=alignment,
        label_noise=noise,
        weight_decay=decay,
        step=step,
    )
    assert largest_z_score(simulate, values, (60, 180), 300) < 4.0


def test_ridge_ends_at_the_ridge_solution():
    """(X^T X / kappa + lambda) v = X^T y / kappa on one large data set; its scatter is of order 1/D."""
    kappa, decay, noise = 0.8, 0.2, 0.4
    inputs, beta, u, labels = draw(1500, kappa, noise, np.random.default_rng(2))
    matrix = inputs.T @ inputs / kappa + decay * np.eye(1500)
    solution = linalg.solve(matrix, inputs.T @ (u + labels) / kappa, assume_a="pos")
    values = ridge(kappa, [1e3], label_noise=noise, weight_decay=decay)
    assert ((solution - beta) ** 2).sum() / 1500 == pytest.approx(values["test_loss"][0], rel=0.03)
    assert ((inputs @ solution - u - labels) ** 2).mean() == pytest.approx(values["train_loss"][0], rel=0.1)


# Arguments


def test_long_runs_are_worked_off_in_blocks():
    model = Model(alpha=1.0, epsilon=0.0, kappa=2.0, weight_decay=0.01)
    times = 0.1 * np.arange(5000)
    values = linear(model, times, step=0.1)
    np.testing.assert_allclose(values["test_loss"][4999], linear(model, [499.9], step=0.1)["test_loss"][0], rtol=1e-13)
    assert values["train_loss"].shape == (5000,)


@pytest.mark.parametrize("times", [[], [[1.0]], [-1.0], [np.nan], [np.inf], "soon", 1.0])
def test_times_are_checked(times):
    model = Model(alpha=1.0, epsilon=0.0, kappa=2.0, centered=True)
    for limit in (linear, lazy, population):
        with pytest.raises(ParameterError, match="`times`"):
            limit(model, times)
    with pytest.raises(ParameterError, match="`times`"):
        ridge(2.0, times)


def test_what_a_limit_excludes_is_refused_by_name():
    model = Model(alpha=1.0, epsilon=0.5, kappa=2.0, centered=True)
    with pytest.raises(ParameterError, match="`epsilon` must be 0"):
        linear(model, [1.0])
    for change in ({"centered": False}, {"initial_overlap": 0.1}, {"weight_decay": 0.1}):
        with pytest.raises(ParameterError, match=f"`{next(iter(change))}`"):
            lazy(model.replace(**change), [1.0])
    plain = model.replace(epsilon=0.0)
    with pytest.raises(ParameterError, match="`step` must be at most"):
        linear(plain, [1.0], step=1.0)
    with pytest.raises(ParameterError, match=r"multiples of `step` = 0\.3"):
        linear(plain, [0.3, 1.0], step=0.3)
    with pytest.raises(ParameterError, match="`initial_alignment`"):
        ridge(2.0, [1.0], initial_alignment=1.1)
    with pytest.raises(ParameterError, match="`kappa`"):
        marchenko_pastur(0.0)
    with pytest.raises(ParameterError, match="`nodes`"):
        marchenko_pastur(2.0, nodes=1)
