"""Checks that an exported encoder gives the features that rotnet wrote, on the first images of a data set.

    rotnet export runs/a --what encoder,features
    python examples/export_check.py runs/a DATA/cifar-10-batches-bin

Needs numpy, torch and safetensors. Exit status 1 if a feature differs by more than 1e-4 (absolute, or relative to
the largest feature where that is over 1).
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from encoder import load

IMAGES = 100
TOLERANCE = 1e-4


def first_images(folder):
    """The first test images, [IMAGES, 32, 32, 3]."""
    records = np.fromfile(Path(folder) / "test_batch.bin", np.uint8).reshape(-1, 3073)[:IMAGES]
    return torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).copy())


def main():
    run, data = Path(sys.argv[1]), sys.argv[2]
    export = Path(sys.argv[3]) if len(sys.argv) > 3 else run / "export"
    settings = json.loads((run / "features" / "config.json").read_text())["extract"]
    settings = {key: settings[key] for key in ("layers", "pool", "views") if key in settings}
    expected = np.load(export / "test.npy", mmap_mode="r")[:IMAGES]
    with torch.no_grad():
        found = load(export / "encoder.safetensors").read(first_images(data), **settings).numpy()
    assert found.shape == expected.shape, f"shape {found.shape}, expected {expected.shape}"
    scale = max(1.0, float(np.abs(expected).max()))
    difference = float(np.abs(found - expected).max())
    print(f"{len(found)} images, {found.shape[1]} features ({settings or 'last layer'}): largest {scale:.3g}, "
          f"largest difference {difference:.2e}")
    return difference > TOLERANCE * scale


if __name__ == "__main__":
    sys.exit(main())
