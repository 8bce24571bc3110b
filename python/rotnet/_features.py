"""Features as NumPy arrays that are mapped from the file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Format of feature files that is read here.
FORMAT, VERSION = "rotnet-features", 3
_TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "U8": np.dtype("u1")}


@dataclass(frozen=True)
class Part:
    """The features of one part of the data set, a row an image."""

    #: `float32 [images, features]`, mapped from the file: what is looked at is read.
    values: NDArray[np.float32]
    #: `uint8 [images]`: the class of each.
    labels: NDArray[np.uint8]
    #: Names of the files, if the images are files; else empty.
    names: list[str]


@dataclass(frozen=True)
class Features:
    """What `rotnet extract` left in a run."""

    train: Part
    test: Part
    #: Names of the classes, by label.
    classes: list[str]
    #: What was read of the encoder, in words.
    layer: str


def features(run: str | os.PathLike[str]) -> Features:
    """The features of a run, whose numbers stay in their files until they are looked at.

    Raises `FileNotFoundError` if there are none (`rotnet extract` makes them), `ValueError` for a file of another format.
    """
    folder = Path(run) / "features"
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return Features(
        train=_part(folder / "train.safetensors"),
        test=_part(folder / "test.safetensors"),
        classes=manifest["classes"],
        layer=manifest["origin"]["layer"],
    )


def _part(path: Path) -> Part:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
    said = json.loads(header["__metadata__"]["rotnet"])
    if (said["format"], said["version"]) != (FORMAT, VERSION):
        raise ValueError(
            f"{path}: is {said['format']} version {said['version']}, not {FORMAT} version {VERSION}; "
            "run `rotnet extract` again, or use the package of that version"
        )

    def tensor(name: str) -> NDArray[Any]:
        info = header[name]
        shape = tuple(info["shape"])
        kind = _TYPES[info["dtype"]]
        if 0 in shape:
            return np.empty(shape, kind)
        mapped: NDArray[Any] = np.memmap(path, kind, "r", 8 + length + info["data_offsets"][0], shape)
        return mapped

    joined = bytes(tensor("names")).decode("utf-8") if "names" in header else ""
    return Part(values=tensor("features"), labels=tensor("labels"), names=joined.split("\0") if joined else [])
