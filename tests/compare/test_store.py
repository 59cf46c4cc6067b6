"""Points and the folder that keeps them: names, whole files, damage."""

import dataclasses
import importlib.metadata
import json
import threading

import numpy as np
import pytest
import xarray

from compare.sweep.point_file import decode, encode
from compare.sweep.points import Failure, OtherNumerics, Point, compute
from compare.sweep.store import Store, both_sides
from dmft import Model, version

MODEL = Model(alpha=1.0, epsilon=0.5, kappa=2.0, dim=20)
SETTINGS = {"t_max": 0.4, "step": 0.2, "precision": "float64", "seed": 0, "seeds": 2, "form": "auto"}
POINT = Point(side="simulation", model=MODEL, settings=SETTINGS)


def other(**changes):
    return dataclasses.replace(POINT, **changes)


def test_everything_that_determines_the_curves_is_in_the_name():
    assert other().name == POINT.name
    changed = [other(model=MODEL.replace(**{field: 3})) for field in ("alpha", "epsilon", "kappa", "dim", "width")]
    changed += [other(model=MODEL.replace(centered=True)), other(side="theory")]
    changed += [other(settings=SETTINGS | {name: 0.1}) for name in SETTINGS]
    names = {point.name for point in changed}
    assert len(names) == len(changed)
    assert POINT.name not in names


def test_the_theory_knows_no_width():
    assert other(side="theory").name == other(side="theory", model=MODEL.replace(width=50)).name


@pytest.mark.parametrize("package", ["dmft", "jax", "jaxlib", "numpy", "scipy", "optax"])
def test_the_versions_of_all_that_computes_are_in_the_name(package, monkeypatch):
    """Not those of packages that draw or store: other pictures are no reason to compute again."""
    before, asked = POINT.name, POINT.to_json()
    if package == "dmft":
        monkeypatch.setattr(version, "NUMERICS", version.NUMERICS + 1)
    else:
        installed = importlib.metadata.version
        monkeypatch.setattr(importlib.metadata, "version", lambda name: installed(name) + ".1" * (name == package))
    assert POINT.name != before
    with pytest.raises(OtherNumerics, match="numerics" if package == "dmft" else package):
        compute(asked)


def test_a_computed_point_survives_its_file(tmp_path):
    store = Store(tmp_path)
    assert store.read(POINT.name) is None
    outcome = compute(POINT.to_json())
    assert isinstance(outcome, bytes)
    store.write(POINT, outcome)
    curves = store.read(POINT.name)
    from sim import simulate

    xarray.testing.assert_identical(curves, simulate(MODEL, **SETTINGS))


def test_another_version_is_refused_not_mixed():
    content = json.loads(POINT.to_json())
    request = json.dumps(content | {"numerics": content["numerics"] | {"jax": "0.0.1"}})
    with pytest.raises(OtherNumerics, match=r"jax .* there, 0\.0\.1 here"):
        compute(request)


def test_what_fails_says_why_in_one_line(monkeypatch):
    diverges = compute(other(settings=SETTINGS | {"step": 50.0, "t_max": 5e3}).to_json())
    assert isinstance(diverges, Failure)
    assert "diverge" in diverges.message
    monkeypatch.setattr("sim.simulate", lambda *_, **__: 1 / 0)
    unforeseen = compute(POINT.to_json())
    assert unforeseen == Failure("unexpected ZeroDivisionError: division by zero", lasting=False)


def test_failures_are_kept_until_the_point_succeeds(tmp_path, make_theory):
    store = Store(tmp_path)
    store.write(POINT, Failure("no\nluck"))
    assert store.read(POINT.name) == Failure("no\nluck")
    store.write(POINT, encode(make_theory()))
    assert isinstance(store.read(POINT.name), xarray.Dataset)
    assert [path.name for path in tmp_path.iterdir()] == [f"{POINT.name}.nc"]


@pytest.mark.parametrize("harm", ["cut", "empty", "flip", "text"])
def test_a_damaged_file_is_set_aside(tmp_path, make_theory, harm):
    store, content = Store(tmp_path), encode(make_theory())
    store.write(POINT, content)
    path = store.path(POINT.name)
    if harm == "flip":  # one bit of a number, which the format itself does not notice
        place = content.index(np.float64(make_theory().test_loss[50]).tobytes())
        content = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    else:
        content = {"cut": content[: len(content) // 2], "empty": b"", "text": b"not a dataset"}[harm]
    path.write_bytes(content)
    assert store.read(POINT.name) is None
    assert not path.exists()
    assert path.with_name(path.name + ".damaged").read_bytes() == content
    store.write(POINT, encode(make_theory()))
    assert isinstance(store.read(POINT.name), xarray.Dataset)


def test_a_damaged_failure_counts_as_missing(tmp_path):
    store = Store(tmp_path)
    store.write(POINT, Failure("why"))
    (tmp_path / f"{POINT.name}.failed.json").write_text("{")
    assert store.read(POINT.name) is None


def test_writers_at_the_same_time_leave_whole_files(tmp_path, make_theory):
    content = encode(make_theory())
    stores = [Store(tmp_path) for _ in range(4)]
    seen = []

    def work(store):
        for _ in range(20):
            store.write(POINT, content)
            seen.append(store.read(POINT.name))

    threads = [threading.Thread(target=work, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 80
    assert all(isinstance(curves, xarray.Dataset) for curves in seen)
    assert [path.name for path in tmp_path.iterdir()] == [f"{POINT.name}.nc"]


def test_the_file_of_a_point_is_netcdf(tmp_path, make_theory, make_simulation):
    for curves in (make_theory(), make_simulation(), make_simulation().drop_vars("seed", errors="ignore")):
        (tmp_path / "point.nc").write_bytes(encode(curves))
        xarray.testing.assert_identical(xarray.load_dataset(tmp_path / "point.nc", engine="h5netcdf"), curves)
        xarray.testing.assert_identical(decode(encode(curves)), curves)


def test_pairs_are_points_with_both_sides(tmp_path, make_theory, make_simulation):
    store = Store(tmp_path)
    (tmp_path / "a.nc").write_bytes(encode(make_theory()))
    (tmp_path / "b.nc").write_bytes(encode(make_simulation()))
    names = {"point": ["a", "a", ""], "simulation_point": ["b", "", "b"]}
    variables = {name: ("alpha", np.array(value, object)) for name, value in names.items()}
    phase = xarray.Dataset(variables, {"alpha": [1.0, 2.0, 4.0]})
    (pair,) = both_sides(store, phase)
    assert pair[:2] == (1.0, None)
    assert "seed" not in pair[2].dims
    assert "seed" in pair[3].dims
    assert both_sides(store, phase.drop_vars("simulation_point")) == []
