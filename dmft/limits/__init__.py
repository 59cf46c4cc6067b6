"""Exact limits of the theory (THEORY section 7): closed forms that the solver and the simulation must meet.

Every limit is a function of plain NumPy in float64. It returns a dictionary of arrays of shape (T,), keyed by names
of `dmft.losses.quadratic.OBSERVABLES`; an observable without a closed form in that limit is left out. All of them are
limits of infinite dimension D and width N: the fields `dim` and `width` of the model are not used, and an
`initial_overlap` of 0 means an overlap that stays 0.

    linear      epsilon = 0: linear regression on a quadratic target, gradient flow or discrete gradient descent
    lazy        alpha -> infinity, centred: kernel regression with the initial tangent kernel
    population  kappa -> infinity: infinitely many samples
    ridge       one linear neuron on a linear target, gradient flow or discrete gradient descent

`logistic` is the end of logistic regression, t -> infinity, in numbers (THEORY section 14).
"""

from dmft.limits.classification import logistic
from dmft.limits.infinite_samples import population
from dmft.limits.regression import linear, ridge
from dmft.limits.spectrum import marchenko_pastur
from dmft.limits.tangent_kernel import lazy

__all__ = ["lazy", "linear", "logistic", "marchenko_pastur", "population", "ridge"]
