"""The engine's response of the common vector against the memory of fresh samples, computed here in NumPy.

A sample answers a force zeta on its common field p at step m with a change of g(n) = (1 + epsilon p) Delta at every
later step n. The mean of these answers is the memory Sigma_c of the common vector (THEORY section 4), and

    R_c(n+1, m) = R_c(n, m) + delta(n, m) - (h/alpha) sum_j Sigma_c(n, j) R_c(j, m).

The samples are drawn from the engine's correlations. Their derivatives are complex steps through the whole path.
"""

import warnings

import numpy as np
import pytest
from scipy import stats

from dmft import Model, solve

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=3.0, initial_overlap=0.1)
STEP, T_MAX, BATCHES, SAMPLES = 0.3, 3.0, 16, 128


@pytest.fixture(scope="module")
def theory():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return solve(MODEL, T_MAX, step=STEP, rtol=1e-6, sample_count=128, replicas=8, kernels=True)


def answers(theory, generator, *, bulk_answers=True):
    """Sigma_c of SAMPLES fresh samples, (T, T)."""
    alpha, epsilon, kappa = MODEL.alpha, MODEL.epsilon, MODEL.kappa
    kernel = {name: theory[name].values for name in theory if name.startswith(("correlation", "response"))}
    overlap = np.sqrt(theory.overlap.values)
    times = overlap.size
    u = generator.standard_normal(SAMPLES)
    p_free = drawn(kernel["correlation_common"], generator)
    q_free = drawn(kernel["correlation_outlier"] - np.outer(overlap, overlap), generator) + u[:, None] * overlap
    # every sample once for each step m at which its field is moved, by 1e-30 i
    shape = (SAMPLES, times, times)
    p_free = p_free[:, None] + 1e-30j * np.eye(times)
    label = 0.5 * u[:, None] ** 2
    own = np.zeros((*shape, times), complex)  # own(n, :) with B = own C_r own^T: the bulk as this sample has moved it
    g, q_delta, delta = (np.zeros(shape, complex) for _ in range(3))
    common, outlier, bulk = (
        STEP / (alpha * kappa) * kernel[f"response_{name}"] for name in ("common", "outlier", "bulk")
    )
    for n in range(times):
        p = p_free[..., n] - g @ common[n]
        q = q_free[:, None, n] - epsilon * (q_delta @ outlier[n])
        seen = delta if bulk_answers else delta.real
        own[:, :, n] = np.eye(times)[n] - epsilon * np.einsum("j,smj,smja->sma", bulk[n], seen, own)
        variance = np.einsum("sma,ab,smb->sm", own[:, :, n], kernel["correlation_bulk"], own[:, :, n], optimize=True)
        delta[..., n] = alpha * (p + 0.5 * epsilon * (p**2 + q**2 + variance)) - label
        g[..., n], q_delta[..., n] = (1 + epsilon * p) * delta[..., n], q * delta[..., n]
    return g.imag.mean(axis=0).T / 1e-30


def drawn(correlation, generator):
    """Gaussian paths of SAMPLES samples with this correlation, (S, T)."""
    values, vectors = np.linalg.eigh(correlation)
    return generator.standard_normal((SAMPLES, len(values))) @ (vectors * np.sqrt(np.maximum(values, 0))).T


def response(memory):
    """R_c of the memory, by the recursion above."""
    times = len(memory)
    result = np.zeros((times, times))
    for n in range(times - 1):
        result[n + 1] = result[n] + np.eye(times)[n] - STEP / MODEL.alpha * memory[n] @ result
    return result


def compare(theory, **options):
    """Largest |z| of the engine's R_c against that of the batches, what it may be, and the errors of the batches."""
    generator = np.random.default_rng(5)
    memory = np.array([answers(theory, generator, **options) for _ in range(BATCHES)])
    left_out = np.array([response((memory.sum(0) - one) / (BATCHES - 1)) for one in memory])  # jackknife
    error = np.sqrt((BATCHES - 1) * left_out.var(axis=0))
    known = np.tril(np.ones_like(error), -2) > 0  # R(m + 1, m) = 1
    scatter = np.hypot(error, theory.response_common_stderr.values)
    z = (response(memory.mean(0)) - theory.response_common.values)[known] / scatter[known]
    return np.abs(z).max(), stats.t.ppf(1 - 0.01 / 2 / known.sum(), BATCHES - 1), error


def test_response_is_that_of_the_mean_answer(theory):
    z, limit, error = compare(theory)
    assert z < limit
    assert error.max() < 0.005


def test_without_the_answer_through_the_bulk_it_is_not(theory):
    z, limit, _ = compare(theory, bulk_answers=False)
    assert z > 2 * limit
