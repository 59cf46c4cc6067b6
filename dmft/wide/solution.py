"""What one replica of the wide theory predicts."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from dmft.wide.sectors import BySector
from dmft.wide.state import Bases, Row, State

#: Names and meanings of the kernels a dataset may hold, over (time, time2).
KERNELS: dict[str, str] = {
    "correlation_common": "C_c(t, s), correlation of the common vector",
    "correlation_outlier": "C_q(t, s), correlation of the outlier, target part included",
    "correlation_bulk": "C_r(t, s), correlation of a bulk neuron",
    "response_common": "R_c(t, s), response of the common vector at t to a force at s",
    "response_outlier": "R_d(t, s), response of the outlier at t to a force at s",
    "response_bulk": "R_r(t, s), response of a bulk neuron at t to a force at s",
}


class SampleCurves(NamedTuple):
    """The samples of a replica and their processes."""

    u: np.ndarray  # (K, S)
    weight: np.ndarray  # (S,)
    residual: np.ndarray  # Delta, (T, S)
    p: np.ndarray  # (T, S)
    q: np.ndarray  # (T, K, S)


class Replica(NamedTuple):
    """What one replica predicts on its grid."""

    curves: dict[str, np.ndarray]  # OBSERVABLES, (T,) each, correlations in propagator form
    differential: dict[str, np.ndarray]  # the same with correlations in differential form
    controls: np.ndarray  # (T, 3): zero-mean violations of exact identities, see dmft.wide.consistency
    kernels: dict[str, np.ndarray]  # KERNELS, (T, T) each; of several directions those of the outlier (K, T, T)
    second: dict[str, np.ndarray]  # the correlations in differential form, likewise
    responses: BySector  # R_c, R_d of each kind of direction, R_r as the multistep rule has them, (T, T) each
    samples: SampleCurves
    mean_weight_overlap: np.ndarray  # (c . beta)^2/D^2 for each kind of direction, (T, G)
    bases: Bases  # of the forces in sample space, (M, S) each
    rounds: np.ndarray  # (T,) inner iterations
    mismatch: np.ndarray  # (T,) what they left, relative
    rows: Row | None  # of all kernels, to guide other replicas on the same grid, if it is to be kept

    def with_full_bases(self) -> Replica:
        """The same with bases to which no vector is added."""
        vectors = self.bases.vectors
        return self._replace(bases=Bases(vectors, np.full(len(vectors), vectors.shape[1], np.int32)))  # type: ignore[arg-type]


class Like(NamedTuple):
    """What a replica has of others.

    Attributes:
        bases: of the same replica on another grid: the noise is made of the same modes first.
        rows: of another replica on the same grid, of as many samples or not: the first guess.
    """

    bases: Bases | None
    rows: Row | None

    def begun(self, state: State) -> State:
        """The state at t = 0 with these."""
        if self.bases is not None:
            state = state._replace(bases=self.bases)
        if self.rows is not None:
            state = state._replace(guide=jax.tree.map(_fitted, self.rows, state.guide))
        return state


def _fitted(array: np.ndarray, like: np.ndarray) -> np.ndarray:
    """The array with the shape of another: cut, or padded with zeros."""
    result, common = np.zeros_like(like), tuple(map(slice, np.minimum(array.shape, like.shape)))
    result[common] = array[common]
    return result
