"""Different models are not compared by accident, and what a theory neglects is said."""

import functools

import numpy as np
import optax
import pytest

from compare import overlay
from dmft import Committee, Model, ParameterError
from dmft.twotime.momentum import momentum_of
from sim import Experiment, Optimizer
from sim.training.optimizers import schedule_attributes

TIME = np.concatenate([[0.0], np.geomspace(0.1, 100.0, 60)])


@pytest.fixture
def make_theory(make_theory):
    return functools.partial(make_theory, TIME)


def test_different_parameters_are_refused_with_both_values(make_theory, make_simulation):
    with pytest.raises(ParameterError, match=r"alpha is 0\.7 in the first and 2 in the second and kappa is 2\.5 .* 4"):
        overlay(make_theory(alpha=0.7, kappa=2.5), make_simulation())
    agreement = overlay(make_theory(alpha=0.7), make_simulation(), mixed=True)
    assert agreement.notes[0] == "Different models are compared: alpha is 0.7 in the first and 2 in the second."
    assert overlay(make_theory(alpha=2.0 * (1.0 + 1e-8)), make_simulation()).notes == ()


def test_activations_and_classes_of_models_are_physics(make_theory, make_simulation):
    erf, relu = (
        Committee(alpha=1.0, kappa=2.0, width=2, activation=name, dim=100).to_attributes() for name in ("erf", "relu")
    )
    with pytest.raises(ParameterError, match="activation is erf in the first and relu in the second"):
        overlay(make_theory(**erf), make_simulation(**relu))
    with pytest.raises(ParameterError, match="model is committee in the first and wide"):
        overlay(make_theory(**erf), make_simulation())
    model = Model(alpha=2.0, epsilon=0.25, kappa=4.0, dim=100, width=10)
    plain, cubic = (
        Experiment(model=model, activation=name, target=name).to_attributes() for name in ("quadratic", "hermite3")
    )
    assert overlay(make_theory(initial_overlap=0.0), make_simulation(**plain)).notes == ()
    with pytest.raises(ParameterError, match="activation is the usual one in the first and hermite3"):
        overlay(make_theory(initial_overlap=0.0), make_simulation(**cubic))


def test_measured_curves_have_the_model_that_they_are_compared_with(make_theory):
    theory = make_theory()
    assert overlay(theory.assign_attrs(alpha=3.0), {**theory}).notes[0].startswith("Errors are taken")


def test_sizes_may_differ_and_are_named(make_theory, make_simulation):
    assert overlay(make_theory(dim=200), make_simulation()).notes == (
        "Sizes differ: D = 200 in the first and 100 in the second.",
    )
    assert overlay(make_theory(width=7), make_simulation(width=9)).summary()["observables"]


def test_what_a_theory_at_infinite_dimension_neglects_is_said(make_theory, make_simulation):
    random = {"initial_overlap": 0.0}
    (note,) = overlay(make_theory(dim="infinite", **random), make_simulation(**random)).notes
    assert "infinite D overlap(0) = 0" in note
    assert "stays 0. Give the theory dim = 100." in note
    (note,) = overlay(make_simulation(), make_theory(dim="infinite")).notes  # planted
    assert note.endswith("differences of order 1/D are not contained in z.")


def test_other_optimisers_and_steps_are_named(make_theory, make_simulation):
    notes = overlay(make_theory(step="flow"), make_simulation(optimizer="adam", step=0.1)).notes
    assert notes == ("Optimisers differ: gd and adam.", "Steps differ: gradient flow and steps of 0.1.")
    assert overlay(make_theory(step="flow"), make_simulation(step="flow")).notes == ()


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        ({}, {"schedule": "constant", "warmup": 5}, "gd and gd, 5 steps of warmup."),
        ({}, {"batch_size": 20, "replacement": 0}, "gd and gd, minibatches of 20."),
        (
            {"schedule": "cosine", "t_max": 10.0},
            {"schedule": "cosine", "warmup": 0, "t_max": 20.0},
            "gd, cosine to t = 10 and gd, cosine to t = 20.",
        ),
    ],
)
def test_warmup_batches_and_ends_of_schedules_are_named(make_theory, make_simulation, one, other, says):
    both = {"optimizer": "gd", "step": 0.1}
    assert overlay(make_theory(**both, **one), make_simulation(**both, **other)).notes == (
        f"Optimisers differ: {says}",
    )


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        ({"schedule_factors": "a"}, {"schedule_factors": "a"}, None),
        ({"schedule_factors": "a"}, {"schedule_factors": "b"}, "both are gd, array to t = 10, with other factors."),
        ({"schedule_factors": "a"}, {"schedule": "linear", "warmup": 3, "schedule_factors": "a"}, None),
        ({"schedule_factors": "a"}, {"schedule": "constant"}, "gd, array to t = 10 and gd."),
        ({"schedule_factors": "constant"}, {"schedule": "constant"}, None),
        ({}, {"schedule_factors": "b"}, None),  # not known
        ({}, {"optimizer": "momentum", "momentum": 0.9}, "gd and momentum 0.9."),
        (
            {"schedule_factors": "a", "optimizer": "momentum", "momentum": 0.5},
            {"schedule_factors": "a", "optimizer": "momentum", "momentum": 0.9},
            "momentum 0.5 and momentum 0.9.",
        ),
    ],
)
def test_schedules_of_arrays_are_told_by_their_factors(make_theory, make_simulation, one, other, says):
    both = {"optimizer": "gd", "step": 0.1, "t_max": 10.0, "schedule": "array"}
    notes = overlay(make_theory(**both | one), make_simulation(**both | other)).notes
    assert notes == (() if says is None else (f"Optimisers differ: {says}",))


def test_theory_and_simulation_have_the_same_code_of_the_same_factors():
    ramp = (np.arange(64) + 1) / 64
    schedules = {"array": ramp, "function": lambda n: (n + 1) / 64, "cosine": "cosine", "half": lambda n: 0.5 + 0 * n}
    theory = {}
    for name, schedule in schedules.items():
        rule = momentum_of(0.0, False, schedule, 0.1, 6.4)
        assert rule is not None
        theory[name] = rule.to_attributes()["schedule_factors"]
    assert theory["array"] == theory["function"]
    assert len(set(theory.values())) == 3
    for name, schedule in schedules.items():
        assert schedule_attributes(Optimizer(schedule=schedule), 64) == {"schedule_factors": theory[name]}
    assert schedule_attributes(Optimizer(schedule=optax.cosine_decay_schedule(1.0, 64)), 64) == {
        "schedule_factors": theory["cosine"]
    }
    assert schedule_attributes(Optimizer(), 64) == {}
