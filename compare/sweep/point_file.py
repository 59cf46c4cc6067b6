"""The curves of a point as the bytes of one file: NetCDF, and after its end a digest of every byte before.

Written and read with h5py: a dataset of the solver has 73 variables, for which xarray takes .3 s each way, more than
some points take to compute. The layout is that of netCDF-4 on HDF5 (each dimension a scale that its variables are
attached to), so that xarray and other readers open the file as they do any other; they pass over the digest.
"""

from __future__ import annotations

import hashlib
from io import BytesIO

import h5py
import xarray

_MARK = b"\nsha256 "
_SEAL = len(_MARK) + hashlib.sha256().digest_size * 2 + 1

#: What a dimension without coordinates is called in a netCDF-4 file, before its length.
_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable. "


class Damaged(ValueError):
    """The bytes are not those that were written."""


def encode(curves: xarray.Dataset) -> bytes:
    """The file of `curves`: numbers, with plain attributes."""
    buffer = BytesIO()
    with h5py.File(buffer, "w", track_order=True) as file:
        file.attrs.update(curves.attrs)
        written = {}
        for name, variable in curves.variables.items():
            written[name] = file.create_dataset(str(name), data=variable.to_numpy())
            written[name].attrs.update(variable.attrs)
        for dimension, length in curves.sizes.items():
            scale = written.get(dimension)
            if scale is None:
                scale = file.create_dataset(str(dimension), shape=(length,), dtype=">f4")
            scale.make_scale(str(dimension) if dimension in written else f"{_NO_VARIABLE}{length:10d}")
            for name, variable in curves.variables.items():
                if name != dimension and dimension in variable.dims:
                    written[name].dims[variable.dims.index(dimension)].attach_scale(scale)
    content = buffer.getvalue()
    return content + _seal(content)


def decode(content: bytes) -> xarray.Dataset:
    """The curves in the file that `content` is.

    Raises:
        Damaged: its digest is not that of the rest, or it has none.
    """
    if len(content) < _SEAL or _seal(content[:-_SEAL]) != content[-_SEAL:]:
        raise Damaged("its bytes are not those that were written")
    variables, scales = {}, {}
    with h5py.File(BytesIO(content), "r") as file:
        attributes = dict(file.attrs)
        names = {scale.id: name for name, scale in file.items() if scale.is_scale}
        for name, variable in file.items():
            dims = [name] if variable.is_scale else [names[axis[0].id] for axis in variable.dims]
            if variable.attrs.get("NAME", b"").startswith(_NO_VARIABLE.encode()):
                continue
            own = {key: value for key, value in variable.attrs.items() if key not in _OF_SCALES}
            (scales if variable.is_scale else variables)[name] = (dims, variable[()], own)
    return xarray.Dataset(variables, scales, attributes)


#: Attributes by which HDF5 ties variables to dimensions.
_OF_SCALES = ("CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST")


def _seal(content: bytes) -> bytes:
    return _MARK + hashlib.sha256(content).hexdigest().encode() + b"\n"
