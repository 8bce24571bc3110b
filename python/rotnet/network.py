"""The networks that `rotnet export` wrote, in plain PyTorch.

    from rotnet.network import load
    encoder = load("runs/a/export/encoder.safetensors")
    features = encoder(images)          # uint8 [batch, height, width, 3] to float32 [batch, features]
    classifier = load("runs/a/export/classifier.safetensors")
    logits = classifier(images)         # [batch, classes]; classifier.classes has their names

Needs torch and safetensors, and nothing else of this package: the file can be copied.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

__all__ = ["Classifier", "Encoder", "RotationHead", "load"]


class Layer(nn.Module):
    """Convolution, pooling, normalisation, ReLU, overlapping pooling."""

    def __init__(
        self,
        kernel: int,
        padding: int,
        channels: Sequence[int],
        pool: bool,
        norm: bool,
        overlapping: str | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels[0], channels[1], kernel, padding=padding, bias=not norm)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.norm = nn.BatchNorm2d(channels[1]) if norm else nn.Identity()
        pools = {"max": nn.MaxPool2d(3, 2, 1), "average": nn.AvgPool2d(3, 2, 1)}
        self.last = pools[overlapping] if overlapping else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(torch.relu(self.norm(self.pool(self.conv(x)))))
        return x


class Encoder(nn.Module):
    """Images, uint8 [batch, height, width, 3], to the features of the last layer."""

    mean: Tensor
    std: Tensor

    def __init__(self, description: dict[str, Any]) -> None:
        super().__init__()
        self.description = description
        pixels = description["pixels"]  # raw, scaled (divided by 255) or normalised
        self.scale = 1 if pixels["kind"] == "raw" else 1 / 255
        self.register_buffer("mean", torch.tensor(pixels.get("mean", [0, 0, 0])), persistent=False)
        self.register_buffer("std", torch.tensor(pixels.get("std", [1, 1, 1])), persistent=False)
        self.layers = nn.ModuleList(Layer(**layer) for layer in description["layers"])
        self.ends = description["blocks"]
        self.dense = nn.Linear(*description["dense"]) if description["dense"] else None

    def outputs(self, images: Tensor) -> Iterator[Tensor]:
        """The output of every block, [batch, channels, height, width] each."""
        x = ((images.float() * self.scale - self.mean) / self.std).permute(0, 3, 1, 2)
        for number, layer in enumerate(self.layers, 1):
            x = layer(x)
            if number in self.ends:
                yield x

    def forward(self, images: Tensor) -> Tensor:
        *_, x = self.outputs(images)
        return x.mean((2, 3)) if self.dense is None else torch.relu(self.dense(x.flatten(1)))

    def read(
        self,
        images: Tensor,
        layers: Sequence[str] = (),
        pool: str = "none",
        views: int | str = 1,
    ) -> Tensor:
        """What `rotnet extract` writes with these settings (section `extract` of the config)."""
        turns = range(4) if str(views).startswith("4") else [0]
        seen = []
        for view in (torch.rot90(images, turn, (1, 2)) for turn in turns):
            features = self.blocks(view, layers, pool)
            if "flip" in str(views):
                features = (features + self.blocks(view.flip(2), layers, pool)) / 2
            seen.append(features)
        return torch.cat(seen, 1)

    def blocks(self, images: Tensor, layers: Sequence[str], pool: str) -> Tensor:
        """The features of an image as it is: of the last layer, or of blocks, channels last."""
        if not layers:
            return self.forward(images)
        outputs = list(self.outputs(images))
        side = {"none": None, "gap": 1, "2x2": 2, "4x4": 4, "8x8": 8}[pool]
        chosen = [outputs[int(layer.removeprefix("block")) - 1] for layer in layers]
        chosen = [x if side is None else adaptive_avg_pool2d(x, side) for x in chosen]
        return torch.cat([x.permute(0, 2, 3, 1).flatten(1) for x in chosen], 1)


class Standardise(nn.Module):
    """Features less a mean, times a factor."""

    mean: Tensor
    factor: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("factor", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) * self.factor


class Hidden(nn.Module):
    """A dense layer, normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, norm: bool) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)
        self.norm = nn.BatchNorm1d(outputs) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.dense(x)))


class Classifier(nn.Module):
    """Images, uint8 [batch, height, width, 3], to one logit a class; `classes` has the names."""

    def __init__(self, description: dict[str, Any]) -> None:
        super().__init__()
        self.encoder = Encoder(description)
        head, self.readout = description["head"], description["readout"]
        self.classes: list[str] = head["classes"]
        self.map = head["map"]
        hidden = head["hidden"]
        inputs = (hidden or [head["output"]])[0][0]
        if self.map:
            height, width, channels = self.map
            inputs = height * width * channels
        self.standardise = Standardise(inputs) if head["standardise"] else nn.Identity()
        self.convolutions = nn.ModuleList(Layer(**layer) for layer in head["convolutions"])
        self.hidden = nn.ModuleList(Hidden(inputs, outputs, head["batch_norm"]) for inputs, outputs in hidden)
        self.output = nn.Linear(*head["output"])

    def head(self, features: Tensor) -> Tensor:
        """Features, as the read-out gives them, to logits."""
        x = self.standardise(features)
        if self.map:
            x = x.unflatten(1, self.map).permute(0, 3, 1, 2)
            for layer in self.convolutions:
                x = layer(x)
            x = x.mean((2, 3))
        for layer in self.hidden:
            x = layer(x)
        logits: Tensor = self.output(x)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder.read(images, **self.readout))


class RotationHead(Classifier):
    """Images to one logit a rotation: 0, 90, 180, 270 degrees, counter-clockwise."""

    def probabilities(self, images: Tensor) -> Tensor:
        """How likely an image was turned by each of them, all four views of it taken together, as `rotnet orient` says."""
        views = [self.forward(torch.rot90(images, turn, (1, 2))).log_softmax(1) for turn in range(4)]
        # An image that is shown with so many more turns has its own and these.
        return torch.stack([view.roll(-turn, 1) for turn, view in enumerate(views)]).mean(0).softmax(1)


def load(path: str | PathLike[str]) -> Encoder | Classifier:
    """The network in a file, ready for use."""
    with safe_open(path, "pt") as file:
        description = json.loads(file.metadata()["rotnet"])
        kinds: dict[str | None, type[Encoder | Classifier]] = {
            None: Encoder,
            "classifier": Classifier,
            "rotation": RotationHead,
        }
        network = kinds[(description.get("head") or {}).get("kind")](description)
        network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})
    network.eval()
    return network
