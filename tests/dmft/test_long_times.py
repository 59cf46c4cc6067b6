"""Rows solved at late times, where steps are far larger than the fast rates."""

import numpy as np
import pytest

from dmft import Model
from dmft.checks import precision_context
from dmft.twotime.engine import Iteration
from dmft.twotime.grid import graded_times, implicit_grid
from dmft.twotime.loop import solve_one
from dmft.wide.engine import Wide
from dmft.wide.replica import Sampling


@pytest.mark.slow
def test_coarse_grids_to_ten_thousand_are_solved_row_by_row():
    # Steps grow by 1.4 each, up to 3000 time units. An iteration that squares the condition number of its least
    # squares, or drops its history on a restart, leaves some of these rows with a residual of 0.1.
    model = Model(alpha=1.0, epsilon=0.5, kappa=5.5, initial_overlap=0.1)
    grid = implicit_grid(graded_times(1e4, 36))
    sampling, iteration = Sampling(256, grid.size, "float64"), Iteration()
    with precision_context("float64"):
        for index in (0, 4, 6):
            seed = np.random.SeedSequence(1, spawn_key=(index,))
            replica = solve_one(Wide(model), grid, sampling, seed, iteration)
            assert replica.mismatch.max() <= iteration.tolerance
            late = grid.times > 100
            train, test = replica.curves["train_loss"], replica.curves["test_loss"]
            assert np.all(np.diff(train[late]) < 0), "the train loss must not level off"
            assert np.all(np.diff(test[late]) < 0)
            assert train[-1] < 3e-6
            assert test[-1] < 1e-3
