"""The formulas of docs/theory.md, written down again from that page in plain NumPy, against the code.

Sections 4 and 5 are solved for a few steps of gradient descent on the samples of one replica of the solver. Same
samples, same equations: the numbers must be the same to rounding, whatever the number of samples.
"""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from dmft import Model, limits
from dmft.checks import precision_context
from dmft.losses.quadratic import test_loss_terms as loss_terms
from dmft.twotime.engine import Iteration
from dmft.twotime.grid import explicit_grid
from dmft.twotime.loop import solve_one
from dmft.twotime.noise import draw_samples
from dmft.wide.engine import Wide
from dmft.wide.replica import Sampling

PAGE = (Path(__file__).parents[2] / "docs" / "theory.md").read_text(encoding="utf-8")
STEP, STEPS = 0.2, 8
SAMPLING = Sampling(64, 20, "float64")
CASES = {
    "planted": Model(alpha=0.8, epsilon=0.5, kappa=3.0, initial_overlap=0.3),
    "centred, with noise and decay": Model(
        alpha=1.5, epsilon=0.7, kappa=2.0, initial_overlap=0.2, centered=True, label_noise=0.4, weight_decay=0.1
    ),
}


def solver(model):
    with precision_context("float64"):
        return solve_one(
            Wide(model), explicit_grid(STEP, STEP * STEPS), SAMPLING, np.random.SeedSequence(5), Iteration()
        )


def samples():
    with precision_context("float64"):
        drawn = draw_samples(SAMPLING.samples, SAMPLING.modes, np.random.SeedSequence(5), "float64")
    return {name: np.asarray(value) for name, value in drawn._asdict().items()}


class Page:
    """Sections 4 and 5 in discrete time: sums over rows, force at step m into row m + 1 (eq. 4.14)."""

    def __init__(self, model, *, with_bath_tangent=True):
        self.model, self.with_bath_tangent = model, with_bath_tangent
        drawn = samples()
        self.weight, self.u = drawn["weight"], drawn["u"][0]
        self.modes = {"c": drawn["common"], "d": drawn["outlier"][0]}
        self.target = 0.5 * self.u**2 + model.label_noise * drawn["label"]  # eq. 1.2
        rows, count = STEPS + 1, len(self.u)
        self.response = {sector: np.zeros((rows, rows)) for sector in "cdr"}
        self.start, self.b = np.ones(rows), np.full(rows, model.initial_overlap**0.5)
        self.p, self.q, self.delta = (np.zeros((rows, count)) for _ in range(3))
        self.h, self.g, self.bath = (np.zeros((count, rows, rows)) for _ in range(3))  # H, G, B of eq. 4.5
        self.gamma_r = np.zeros((rows, rows))
        self.initial_output = 0.0
        tangents = ["p", "q", "x", "y", "delta"]
        self.tangent = {force: {name: np.zeros((rows, count, rows)) for name in tangents} for force in "cd"}
        for n in range(rows):
            self.row(n)
            if n < STEPS:
                self.step(n)

    def mean(self, array):
        return np.tensordot(self.weight, array, axes=1)

    def gram(self, field):
        return (field * self.weight) @ field.T

    def noise(self, sector, forces, n):
        """R h F z: a Gaussian of covariance R Gamma R^T (eqs. 4.6, 4.11), its factor F by Cholesky."""
        if n == 0 or not forces.any():
            return 0.0
        factor = np.linalg.cholesky(self.gram(forces[:n]))
        return STEP * self.response[sector][n, :n] @ factor @ self.modes[sector][:n]

    def row(self, n):
        model, eps = self.model, self.model.epsilon
        k, e = 1 / (model.alpha * model.kappa), eps / (model.alpha * model.kappa)
        scale = 1 / (model.alpha * np.sqrt(model.kappa))
        force_c, force_d = (1 + eps * self.p) * self.delta, self.q * self.delta
        r_c, r_d, r_r = (STEP * self.response[sector] for sector in "cdr")
        self.p[n] = -scale * self.noise("c", force_c, n) - k * r_c[n] @ force_c  # eq. 4.4
        self.q[n] = self.b[n] * self.u - eps * scale * self.noise("d", force_d, n) - e * r_d[n] @ force_d
        c_r = self.bulk_correlation(n)
        past = np.eye(n + 1) + e * r_r[: n + 1, : n + 1] * self.delta[: n + 1].T[:, None, :]
        h = np.linalg.inv(past)  # eq. 4.5
        self.h[:, n, : n + 1] = h[:, n]
        self.g[:, n, : n + 1] = (h @ self.response["r"][: n + 1, : n + 1])[:, n]
        correlation = h @ c_r @ h.transpose(0, 2, 1)
        self.bath[:, n, : n + 1] = correlation[:, n]
        quadratic = self.p[n] ** 2 + self.q[n] ** 2 + correlation[:, n, n]
        output = model.alpha * (self.p[n] + 0.5 * eps * quadratic)
        if n == 0 and model.centered:
            self.initial_output = output
        self.delta[n] = output - self.initial_output - self.target  # eq. 4.1
        both = self.delta[: n + 1] * self.delta[n]
        self.gamma_r[n, : n + 1] = self.gamma_r[: n + 1, n] = self.mean((both * self.bath[:, n, : n + 1].T).T)
        self.tangents(n, "c")
        self.tangents(n, "d")

    def bulk_correlation(self, n):
        """C_r of eq. 4.11."""
        response = STEP * self.response["r"][: n + 1]
        scale = self.model.epsilon**2 / (self.model.alpha**2 * self.model.kappa)
        return np.outer(self.start[: n + 1], self.start[: n + 1]) + scale * response @ self.gamma_r @ response.T

    def tangents(self, n, force, head=None, tangent=None):
        """Eq. 4.9 under a force on c or on d, with R_c or R_d at the head or another response."""
        model, eps = self.model, self.model.epsilon
        k, e = 1 / (model.alpha * model.kappa), eps / (model.alpha * model.kappa)
        tangent = self.tangent[force] if tangent is None else tangent
        p = -k * np.tensordot(STEP * self.response["c"][n], tangent["x"], axes=1)
        q = -e * np.tensordot(STEP * self.response["d"][n], tangent["y"], axes=1)
        headed = p if force == "c" else q
        headed += self.response[force][n] if head is None else head
        w = -2 * e * STEP * np.einsum("sj,jsm->sm", self.g[:, n] * self.bath[:, n], tangent["delta"])
        w *= self.with_bath_tangent
        feature, outlier, delta = 1 + eps * self.p[n][:, None], self.q[n][:, None], self.delta[n][:, None]
        change = model.alpha * (feature * p + eps * outlier * q + 0.5 * eps * w)
        forces = eps * p * delta + feature * change, q * delta + outlier * change
        for name, value in zip(tangent, (p, q, *forces, change), strict=True):
            tangent[name][n] = value

    def step(self, n):
        """Eqs. 4.8 and 4.10."""
        model, force = self.model, np.eye(STEPS + 1)[n]
        keep, rate = 1 - STEP * model.weight_decay, STEP * model.epsilon / model.alpha
        drifts = {
            "c": STEP / model.alpha * self.mean(self.tangent["c"]["x"][n]),
            "d": rate * self.mean(self.tangent["d"]["y"][n]),
            "r": rate * self.mean(self.delta[n][:, None] * self.g[:, n]),
        }
        for sector, drift in drifts.items():
            self.response[sector][n + 1] = keep * self.response[sector][n] + force - drift
        self.b[n + 1] = keep * self.b[n] - rate * self.mean(self.delta[n] * self.q[n] * self.u)
        seen = np.einsum("sm,m->s", self.h[:, n], self.start)  # (H R_0)(n)
        self.start[n + 1] = keep * self.start[n] - rate * self.mean(self.delta[n] * seen)

    def kernels(self):
        """Eqs. 4.10 and 4.11 under the dataset's names."""
        scale, eps = 1 / (self.model.alpha**2 * self.model.kappa), self.model.epsilon
        r_c, r_d = STEP * self.response["c"], STEP * self.response["d"]
        gamma_c, gamma_d = self.gram((1 + eps * self.p) * self.delta), self.gram(self.q * self.delta)
        return {
            "response_common": self.response["c"],
            "response_outlier": self.response["d"],
            "response_bulk": self.response["r"],
            "correlation_common": scale * r_c @ gamma_c @ r_c.T,
            "correlation_outlier": np.outer(self.b, self.b) + eps**2 * scale * r_d @ gamma_d @ r_d.T,
            "correlation_bulk": self.bulk_correlation(STEPS),
        }

    def mean_weight_along_the_target(self):
        """C_cbeta(t, t) of eq. 5.3, by the response of c_beta itself: eq. 4.7 with u^2, and tangents of that head."""
        model, rows = self.model, STEPS + 1
        tangent = {name: np.zeros((rows, len(self.u), rows)) for name in self.tangent["c"]}
        response, keep = np.zeros((rows, rows)), 1 - STEP * model.weight_decay
        for n in range(STEPS):
            self.tangents(n, "c", response[n], tangent)
            change = np.tensordot(self.weight * self.u**2, tangent["x"][n], axes=1)
            response[n + 1] = keep * response[n] + np.eye(rows)[n] - STEP / model.alpha * change
        force = (1 + model.epsilon * self.p) * self.delta
        source = (force * self.weight * self.u**2) @ force.T / (model.alpha**2 * model.kappa)
        return np.einsum("nm,ml,nl->n", STEP * response, source, STEP * response)

    def linear_growth(self):
        """C_beta(t, t) of eqs. 5.1 and 5.2, and its part without the noise."""
        rate, noise = STEP * self.model.epsilon / self.model.alpha, self.model.epsilon / self.model.alpha
        weights = self.weight * self.u**2
        feedback = np.einsum("s,ns,snm->nm", weights, self.delta, self.h)
        sigma = np.einsum("s,ns,ms,snm->nm", weights, self.delta, self.delta, self.bath) / self.model.kappa
        sigma = np.tril(sigma) + np.tril(sigma, -1).T
        response, start = np.zeros((STEPS + 1, STEPS + 1)), np.ones(STEPS + 1)
        for n in range(STEPS):
            response[n + 1] = response[n] + np.eye(STEPS + 1)[n] - rate * feedback[n] @ response
            start[n + 1] = start[n] - rate * feedback[n, : n + 1] @ start[: n + 1]
        return start**2 + np.einsum("nm,ml,nl->n", response, sigma, response) * (noise * STEP) ** 2, start**2


@pytest.mark.parametrize("case", CASES)
def test_section_4_is_what_is_solved(case):
    page, replica = Page(CASES[case]), solver(CASES[case])
    for name, kernel in page.kernels().items():
        size = np.abs(kernel).max()
        np.testing.assert_allclose(kernel, replica.kernels[name], rtol=0, atol=1e-9 * size, err_msg=name)
    np.testing.assert_allclose(page.mean((page.delta**2).T), replica.curves["train_loss"], rtol=1e-9)
    np.testing.assert_allclose(page.b**2, replica.curves["overlap"], rtol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_the_test_loss_of_section_4(case):
    """Eq. 4.13, centred or not."""
    model, replica = CASES[case], solver(CASES[case])
    c, q, r = (np.diagonal(replica.kernels[f"correlation_{sector}"]) for sector in ("common", "outlier", "bulk"))
    b, strength = replica.curves["overlap"] ** 0.5, model.alpha * model.epsilon
    trace, planted = c + q + r, model.initial_overlap * model.centered
    trace = trace - trace[0] * model.centered
    spike = q**2 - 2 * planted * b**2 + planted**2 + c**2
    loss = (strength * trace - 1) ** 2 / 4 + (strength**2 * spike - 2 * strength * (b**2 - planted) + 1) / 2
    np.testing.assert_allclose(loss + model.alpha**2 * c, replica.curves["test_loss"], rtol=1e-12)


def test_a_theory_without_the_bath_s_tangent_is_told_apart():
    page, replica = Page(CASES["planted"], with_bath_tangent=False), solver(CASES["planted"])
    assert np.abs(page.kernels()["response_common"] - replica.kernels["response_common"]).max() > 1e-2


def test_section_5_is_how_a_random_start_grows():
    dim = 10**8
    model = Model(alpha=1.0, epsilon=0.5, kappa=3.0)
    replica = solver(model.replace(dim=dim))
    growth = dim * (replica.curves["overlap"] - replica.mean_weight_overlap[:, 0])
    with_noise, without = Page(model).linear_growth()
    # the solver's outlier has sampled noise of its own, whose mean with u is 0 in the limit of many samples
    np.testing.assert_allclose(with_noise, growth, rtol=0.01)
    assert without[-1] < 0.9 * growth[-1]


@pytest.mark.parametrize("case", CASES)
def test_section_5_is_the_mean_weight_along_the_target(case):
    model, dim = CASES[case], 50
    replica = solver(model.replace(dim=dim))
    along = Page(model).mean_weight_along_the_target() / dim
    assert along[-1] > 0.002
    np.testing.assert_allclose(along, replica.mean_weight_overlap[:, 0], rtol=1e-9)
    np.testing.assert_allclose(replica.curves["overlap"] - solver(model).curves["overlap"], along, rtol=1e-9)


def test_time_unit_of_section_1():
    """Eqs. 1.3 and 1.4: a step of length dt is a step of descent on the half mean square, by finite differences."""
    model = Model(alpha=1.3, epsilon=0.4, kappa=1.5, dim=4, width=3)
    generator = np.random.default_rng(0)
    x, w = generator.standard_normal((6, 4)) / 2, generator.standard_normal((3, 4))
    y = generator.standard_normal(6)

    def residual(w):
        h = x @ w.T
        return model.alpha * (h + 0.5 * model.epsilon * h**2).mean(1) - y

    velocity = -(residual(w)[:, None] * (1 + model.epsilon * x @ w.T)).T @ x / (model.alpha * model.kappa)
    slope = np.zeros_like(w)
    for index in np.ndindex(*w.shape):
        moved = w.copy()
        moved[index] += 1e-6
        slope[index] = (np.mean(residual(moved) ** 2) - np.mean(residual(w) ** 2)) / 2e-6
    rate = 0.7
    np.testing.assert_allclose(model.step_from_learning_rate(rate) * velocity, -rate * slope, atol=1e-5)


def test_parts_of_the_test_loss_of_section_2():
    """Eqs. 2.1 and 2.2 against Gauss-Hermite quadrature of (f - y)^2 in two dimensions."""
    alpha, epsilon, dim = 1.3, 0.6, 2
    w = np.random.default_rng(1).standard_normal((3, dim))
    beta = np.sqrt(dim) * np.array([0.6, 0.8])
    nodes, weights = np.polynomial.hermite_e.hermegauss(8)
    x = np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, dim) / np.sqrt(dim)
    h = x @ w.T
    error = alpha * (h + 0.5 * epsilon * h**2).mean(1) - 0.5 * (x @ beta) ** 2
    loss = np.outer(weights, weights).ravel() @ error**2 / weights.sum() ** 2
    e = alpha * epsilon * w.T @ w / len(w) - np.outer(beta, beta)
    terms = loss_terms(alpha, np.trace(e) / dim, (e**2).sum() / dim**2, (w.mean(0) ** 2).sum() / dim)
    np.testing.assert_allclose(terms.test_loss, loss, rtol=1e-12)


def test_reduced_equations_of_section_3():
    """Eqs. 3.1: U and c move every weight of a network as its own gradient does."""
    alpha, epsilon, kappa, decay = 1.2, 0.5, 2.0, 0.1
    generator = np.random.default_rng(2)
    x, w = generator.standard_normal((8, 4)) / 2, generator.standard_normal((5, 4))
    u, c, start = np.eye(4), np.zeros(4), w.copy()
    for _ in range(5):
        h = x @ w.T
        delta = alpha * (h + 0.5 * epsilon * h**2).mean(1) - 1.0
        w = (1 - 0.1 * decay) * w - 0.1 / (alpha * kappa) * (delta[:, None] * (1 + epsilon * h)).T @ x
        push = x.T @ (delta * (1 + epsilon * x @ c))
        u = (1 - 0.1 * decay) * u - 0.1 * epsilon / (alpha * kappa) * x.T @ (delta[:, None] * x) @ u
        c = (1 - 0.1 * decay) * c - 0.1 / (alpha * kappa) * push
    np.testing.assert_allclose(start @ u.T + c, w, rtol=1e-12)


def test_linear_limit_of_section_7():
    """Eq. 7.1 by the quadrature of the spectrum."""
    kappa, noise, times = 2.5, 0.3, np.array([0.1, 1.0, 7.0])
    s, weight = limits.marchenko_pastur(kappa)
    decay, v = np.exp(-np.outer(times, s)), 0.75 + noise**2
    exact = limits.linear(Model(alpha=1.0, epsilon=0.0, kappa=kappa, label_noise=noise), times)
    np.testing.assert_allclose(v * (1 - 1 / kappa + decay**2 @ weight / kappa), exact["train_loss"], rtol=1e-9)
    np.testing.assert_allclose(0.75 + v / kappa * ((1 - decay) ** 2 / s) @ weight, exact["test_loss"], rtol=1e-9)


def test_lazy_limit_of_section_7():
    """Eq. 7.2 as a system of differential equations."""
    kappa, epsilon, times = 3.0, 0.8, np.array([0.5, 2.0, 6.0])
    s, weight = limits.marchenko_pastur(kappa, nodes=64)
    s, weight = np.append(0.0, s), np.append(1 - 1 / kappa, weight / kappa)
    rate, size = s + epsilon**2 / kappa, len(s)

    def slope(_, z):
        x = z[:size]
        return np.concatenate([-rate * x - epsilon**2 * weight @ x, x, [-(epsilon**2) * weight @ x]])

    begin = np.concatenate([np.full(size, -0.5), np.zeros(size + 1)])
    z = solve_ivp(slope, (0.0, 6.0), begin, t_eval=times, rtol=1e-10, atol=1e-12).y
    x, total, g = z[:size], z[size:-1], z[-1]
    y = np.exp(-np.outer(rate, times))
    power = weight * s @ (total**2 + 0.5 * ((1 - y) / rate[:, None]) ** 2)
    exact = limits.lazy(Model(alpha=1.0, epsilon=epsilon, kappa=kappa, centered=True), times)
    np.testing.assert_allclose(weight @ (x**2 + 0.5 * y**2), exact["train_loss"], rtol=1e-6)
    np.testing.assert_allclose((g - 0.5) ** 2 + 0.5 + power, exact["test_loss"], rtol=1e-6)


def test_equations_are_numbered_in_order_and_name_what_computes_them():
    equations = re.findall(r'<div class="equation" id="eq-(\d+)\.(\d+)" markdown>\n(.*?)</div>', PAGE, flags=re.DOTALL)
    assert len(equations) == PAGE.count("\\tag{") == PAGE.count('class="equation"')
    counts: dict[str, int] = {}
    for section, number, body in equations:
        counts[section] = counts.get(section, 0) + 1
        assert int(number) == counts[section]
        assert f"\\tag{{{section}.{number}}}" in body
        assert f"\n## {section}. " in PAGE[: PAGE.index(body)]
        names = re.findall(r"\[`([\w.]+)`\]", body)
        assert names, f"equation {section}.{number} names no function"
        for name in names:
            resolve(name)


def resolve(name):
    """The object of a dotted name; AttributeError or ImportError if there is none."""
    parts = name.split(".")
    for split in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        for part in parts[split:]:
            found = getattr(found, part)
        return found
    raise ImportError(name)


def test_names_that_do_not_exist_are_noticed():
    with pytest.raises(AttributeError):
        resolve("dmft.wide.row.no_such_function")
