"""What an `Experiment` accepts, and what it says of itself."""

import re

import pytest

from dmft.checks import ParameterError
from dmft.models.model import Model
from sim import simulate
from sim.variants.experiment import Experiment

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=3.0, dim=10, width=4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "model"}, "`model` must be a dmft.Model, but is 'model'"),
        ({"model": MODEL.replace(dim=None)}, "`dim` of the model must be a finite integer here, but is None"),
        ({"model": MODEL.replace(width=None)}, "`width` of the model must be a finite integer here, but is None"),
        ({"model": MODEL.replace(initial_overlap=0.1)}, "`initial_overlap` of the model must be 0 in an experiment"),
        ({"activation": "relu"}, "`activation` must be one of quadratic, hermite2, hermite3, hermite4, but is 'relu'"),
        ({"target": "cubic"}, "`target` must be one of quadratic, .*, eigenvector, but is 'cubic'"),
        (
            {"target": "hermite3"},
            "`target` must have the degree of the activation (2, 'quadratic'), but 'hermite3' has",
        ),
        ({"target": "hermite4", "activation": "hermite3"}, "with it give activation = 'hermite4'"),
        ({"activation": "hermite3"}, "with it give activation = 'quadratic' or 'hermite2'"),
        ({"strengths": ()}, "`strengths` must be a sequence of at least one finite number other than 0, but is ()"),
        ({"strengths": (1.0, 0.0)}, "`strengths` must be a sequence of at least one finite number other than 0"),
        ({"strengths": (1.0,) * 11}, "`strengths` must have at most dim = 10 entries (orthogonal directions)"),
        ({"strengths": (1.0, 1.0), "target": "eigenvector", "eigenvector": 1}, "`strengths` must have one entry"),
        ({"eigenvector": 1}, "`eigenvector` must be left out unless target is 'eigenvector', but is 1"),
        ({"test_samples": 9}, "`test_samples` must be left out unless target is 'eigenvector', but is 9"),
        ({"target": "eigenvector"}, "`eigenvector` must be an integer >= 1, but is None"),
        ({"target": "eigenvector", "eigenvector": 61}, "`eigenvector` must be an integer from 1 to .* = 60, but is 61"),
        ({"weight_scale": 0.0}, "`weight_scale` must be a finite number > 0, but is 0"),
        ({"interpolation": 1.5}, "`interpolation` must be a number from 0 to 1, but is 1.5"),
        ({"interpolation": 0.5, "strengths": (-1.0,)}, "`interpolation` must be 0 unless there is strengths > 0"),
        ({"interpolation": 0.5, "train_readout": True}, "`interpolation` must be 0 unless there is fixed readouts"),
        ({"interpolation": 0.5, "strengths": (1.0,) * 3}, "unless there is width >= 6, a pair of neurons per"),
        ({"interpolation": 0.5, "model": MODEL.replace(centered=True)}, "unless there is a model that is not centred"),
        ({"train_readout": "yes"}, "`train_readout` must be True or False, but is 'yes'"),
    ],
)
def test_bad_fields_are_refused_by_name(changes: dict, message: str) -> None:
    pattern = re.escape(message).replace(r"\.\*", ".*")
    with pytest.raises(ParameterError, match=pattern):
        Experiment(**{"model": MODEL} | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"activation": "hermite4", "target": "hermite4", "train_readout": True, "strengths": (2.0, -0.5)},
        {"target": "eigenvector", "eigenvector": 7, "test_samples": 50, "weight_scale": 0.3},
        {"interpolation": 0.25, "strengths": (1, 2)},
    ],
)
def test_attributes_give_the_experiment_back(changes: dict) -> None:
    experiment = Experiment(model=MODEL.replace(label_noise=0.1), **changes)
    assert Experiment.from_attributes(experiment.to_attributes()) == experiment


def test_replace_reaches_the_model_and_refuses_unknown_fields() -> None:
    experiment = Experiment(model=MODEL).replace(alpha=2.0, weight_scale=3.0)
    assert (experiment.model.alpha, experiment.weight_scale, experiment.dim) == (2.0, 3.0, 10)
    with pytest.raises(ParameterError, match="Argument `sigma` is no field of Experiment or Model"):
        experiment.replace(sigma=1.0)


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({}, {"linearized": 1}, "`linearized` must be True or False, but is 1"),
        ({}, {"linearized": True, "optimizer": "momentum"}, "`linearized` must be False unless the optimizer is gd"),
        ({"weight_decay": 0.1}, {"linearized": True}, "`linearized` must be False with weight decay"),
        ({"train_readout": True}, {"form": "reduced"}, "`form` must be auto or network unless"),
        ({}, {"form": "exact"}, "`form` must be one of auto, network, reduced"),
        ({}, {"step": 0.0}, "`step` must be a finite number > 0, but is 0"),
    ],
)
def test_bad_runs_are_refused_by_name(changes: dict, arguments: dict, message: str) -> None:
    experiment = Experiment(model=MODEL).replace(**changes)
    with pytest.raises(ParameterError, match=re.escape(message)):
        simulate(experiment, 1.0, **{"step": 0.1} | arguments)
    with pytest.raises(ParameterError, match=r"`kernel` must be False unless the model is a sim\.Experiment"):
        simulate(MODEL, 1.0, step=0.1, kernel=True)
