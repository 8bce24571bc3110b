"""The encoder that `rotnet export` wrote, in plain PyTorch.

    from encoder import load
    encoder = load("runs/a/export/encoder.safetensors")
    features = encoder(images)          # uint8 [batch, height, width, 3] to float32 [batch, features]

Needs torch and safetensors.
"""

import json

import torch
from safetensors import safe_open
from torch import nn
from torch.nn.functional import adaptive_avg_pool2d


class Layer(nn.Module):
    def __init__(self, kernel, padding, channels, pool, norm, overlapping=None):
        super().__init__()
        self.conv = nn.Conv2d(*channels, kernel, padding=padding, bias=not norm)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()
        self.norm = nn.BatchNorm2d(channels[1]) if norm else nn.Identity()
        pools = {"max": nn.MaxPool2d(3, 2, 1), "average": nn.AvgPool2d(3, 2, 1)}
        self.last = pools[overlapping] if overlapping else nn.Identity()

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.pool(self.conv(x)))))


class Encoder(nn.Module):
    def __init__(self, description):
        super().__init__()
        pixels = description["pixels"]  # raw, scaled (divided by 255) or normalised
        self.scale = 1 if pixels["kind"] == "raw" else 1 / 255
        self.register_buffer("mean", torch.tensor(pixels.get("mean", [0, 0, 0])), persistent=False)
        self.register_buffer("std", torch.tensor(pixels.get("std", [1, 1, 1])), persistent=False)
        self.layers = nn.ModuleList(Layer(**layer) for layer in description["layers"])
        self.ends = description["blocks"]
        self.dense = nn.Linear(*description["dense"]) if description["dense"] else None

    def outputs(self, images):
        """The output of every block, [batch, channels, height, width] each."""
        x = ((images.float() * self.scale - self.mean) / self.std).permute(0, 3, 1, 2)
        for number, layer in enumerate(self.layers, 1):
            x = layer(x)
            if number in self.ends:
                yield x

    def forward(self, images):
        *_, x = self.outputs(images)
        return x.mean((2, 3)) if self.dense is None else torch.relu(self.dense(x.flatten(1)))

    def read(self, images, layers=(), pool="none", views=1):
        """What `rotnet extract` writes with these settings (section `extract` of the config)."""
        turns = range(4) if str(views).startswith("4") else [0]
        seen = []
        for view in (torch.rot90(images, turn, (1, 2)) for turn in turns):
            features = self.blocks(view, layers, pool)
            if "flip" in str(views):
                features = (features + self.blocks(view.flip(2), layers, pool)) / 2
            seen.append(features)
        return torch.cat(seen, 1)

    def blocks(self, images, layers, pool):
        """The features of an image as it is: of the last layer, or of blocks, channels last."""
        if not layers:
            return self(images)
        outputs = list(self.outputs(images))
        side = {"none": None, "gap": 1, "2x2": 2, "4x4": 4, "8x8": 8}[pool]
        chosen = [outputs[int(layer.removeprefix("block")) - 1] for layer in layers]
        chosen = [x if side is None else adaptive_avg_pool2d(x, side) for x in chosen]
        return torch.cat([x.permute(0, 2, 3, 1).flatten(1) for x in chosen], 1)


def load(path):
    """The encoder in a file, ready for use."""
    with safe_open(path, "pt") as file:
        encoder = Encoder(json.loads(file.metadata()["rotnet"]))
        encoder.load_state_dict({name: file.get_tensor(name) for name in file.keys()})
    return encoder.eval()
