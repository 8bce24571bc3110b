"""The encoder that `rotnet export` wrote, in plain PyTorch: python/rotnet/network.py, which has the other networks too.

    from encoder import load
    encoder = load("runs/a/export/encoder.safetensors")
    features = encoder(images)          # uint8 [batch, height, width, 3] to float32 [batch, features]

Needs torch and safetensors.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python" / "rotnet"))

from network import Classifier, Encoder, RotationHead, load  # noqa: E402

__all__ = ["Classifier", "Encoder", "RotationHead", "load"]
