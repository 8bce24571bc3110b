"""Networks as PyTorch modules."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ._binary import call

if TYPE_CHECKING:
    from torch import nn


def load(
    run: str | os.PathLike[str],
    what: Literal["encoder", "classifier", "rotation"] | None = None,
) -> nn.Module:
    """A network of a run as a PyTorch module that takes images, uint8 [batch, height, width, 3].

    `what`: `classifier` (logits; `classes` has the names), `encoder` (features of the last layer; `read` gives others) or
    `rotation` (logits of 0, 90, 180 and 270 degrees; `probabilities` as `rotnet orient` says); if absent, the classifier
    where the run has one, else the encoder. Needs torch and safetensors (`pip install rotnet[torch]`).

    Raises `rotnet.Error` if the run has no such network or it cannot be written for PyTorch.
    """
    network: Any
    try:
        from . import network
    except ImportError as error:
        raise ImportError("rotnet.load needs torch and safetensors: pip install 'rotnet[torch]'") from error
    if what is None:
        what = "classifier" if (Path(run) / "finetune" / "summary.json").exists() else "encoder"
    with tempfile.TemporaryDirectory() as folder:
        call(["export", run, "--what", what, "--format", "safetensors", "--out", folder, "--quiet"])
        module: nn.Module = network.load(Path(folder) / f"{what}.safetensors")
        return module
