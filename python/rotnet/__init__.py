"""rotnet from Python: run it, read what it left, use its networks.

    import rotnet
    run = rotnet.run("compact", data="photos", out="runs/a", pretrain={"epochs": 5})
    rotnet.features(run).test.values       # NumPy, mapped from the file: [images, features]
    rotnet.metrics(run)["finetune"].summary["test_accuracy"]
    network = rotnet.load(run)             # a PyTorch module, if torch is installed
"""

from ._binary import Error, binary, call
from ._features import Features, Part, features
from ._load import load
from ._run import Stage, metrics, run

__all__ = [
    "Error",
    "Features",
    "Part",
    "Stage",
    "binary",
    "call",
    "features",
    "load",
    "metrics",
    "run",
]
