"""Holds what `rotnet export --format onnx` writes against `rotnet extract` and `rotnet predict`, on 200 generated images.

    python scripts/check-onnx.py [path of rotnet]           (default: target/release/rotnet)

A small run of every kind of encoder, head, read-out and preparation of pixels is made in a temporary folder and exported;
each file goes through onnx.checker (full check) and onnxruntime. Prints the largest differences; exit status 1 if one
is over 1e-4 (of features that reach beyond 1, relative to the largest), or if a second export has other bytes. Needs
numpy, onnx and onnxruntime. With torch and safetensors the PyTorch form of each network is compared as well.
"""

import json
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = 1e-4
IMAGES = 200
SIDE = 32
CLASSES = ["amber", "blue", "cyan"]

COMPACT = ["encoder.kind=compact", "encoder.widths=16,24,32", "encoder.pools=true,true,false"]
# What each run is made with, over the settings that all share.
RUNS = {
    "keras, mlp": [],
    "keras scaled, linear on standardised blocks": [
        "data.scale_pixels=true", "extract.layers=block3,block1", "extract.pool=2x2", "extract.views=flip",
        "finetune.head=linear", "finetune.hidden=[]", "finetune.standardise=true"],
    "keras, trained in full": ["finetune.mode=full", "data.scale_pixels=true", "pretrain.epochs=0"],
    "compact, mlp with batch norm, four views mirrored": [
        *COMPACT, "extract.layers=block2,block3", "extract.pool=gap", "extract.views=4+flip",
        "finetune.batch_norm=true", "finetune.hidden=16,8", "finetune.standardise=true"],
    "compact, every place in four views": [
        *COMPACT, "data.scale_pixels=true", "extract.layers=block3", "extract.views=4", "finetune.head=linear", "finetune.hidden=[]"],
    "compact whitened and normalised, ridge": [
        *COMPACT, "encoder.whiten=true", "encoder.widths=54,24,32", "data.normalise=true", "finetune.head=ridge", "finetune.hidden=[]"],
    "rotnet-nin, conv": [
        "encoder.kind=rotnet-nin", "encoder.blocks=3", "data.normalise=true", "extract.layers=block1",
        "finetune.head=conv", "finetune.hidden=16,16"],
    "patches, linear": ["encoder.kind=patches", "encoder.patches=60", "pretrain.epochs=0", "finetune.head=linear", "finetune.hidden=[]",
                        "finetune.standardise=true"],
    "patches triangle, ridge": [
        "encoder.kind=patches", "encoder.patches=60", "encoder.activation=triangle", "encoder.dictionary=kmeans",
        "pretrain.epochs=0", "extract.layers=block1", "extract.pool=4x4", "finetune.head=ridge", "finetune.hidden=[]"],
}
SHARED = ["data.kind=folder", f"data.image_size={SIDE}", "data.train_images=60", "pretrain.batch_size=32", "pretrain.epochs=1",
          "finetune.epochs=3", "finetune.batch_size=16"]


def picture(random, label):
    """A bright sky above a ground of the colour of the class, with noise and a disc."""
    y, x = np.mgrid[:SIDE, :SIDE]
    image = np.where((y < random.integers(10, 20))[..., None], 200, np.array([[160, 120, 20], [20, 40, 160], [20, 140, 150]])[label])
    disc = (y - random.integers(4, 28)) ** 2 + (x - random.integers(4, 28)) ** 2 < random.integers(9, 40)
    image = np.where(disc[..., None], random.integers(0, 255, 3), image)
    return np.clip(image + random.normal(0, 12, image.shape), 0, 255).astype(np.uint8)


def write_png(path, image):
    """8 bits, red, green and blue, without filters."""
    height, width, _ = image.shape
    rows = np.concatenate([np.zeros((height, 1), np.uint8), image.reshape(height, -1)], 1).tobytes()

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def write_images(folder):
    """`train` and `test`; the images of the test set by name."""
    random, test = np.random.default_rng(7), {}
    for part, count in (("train", 60), ("test", IMAGES)):
        for number in range(count):
            label = number % len(CLASSES)
            name = f"{CLASSES[label]}/{number:03}.png"
            path = folder / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            image = picture(random, label)
            write_png(path, image)
            if part == "test":
                test[str(path)] = image
    return test


def largest(found, expected):
    assert found.shape == expected.shape, f"shape {found.shape}, expected {expected.shape}"
    scale = max(1.0, float(np.abs(expected).max()))
    return float(np.abs(found - expected).max()) / scale


class Check:
    def __init__(self, rotnet, folder):
        self.rotnet, self.folder, self.worst = rotnet, folder, 0.0
        self.images = write_images(folder / "images")
        self.stack = np.stack(list(self.images.values()))

    def call(self, *arguments):
        done = subprocess.run([self.rotnet, *map(str, arguments)], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"rotnet {' '.join(map(str, arguments))}: {done.stderr}")
        return done.stdout

    def run(self, name, settings):
        out = self.folder / name.replace(" ", "_").replace(",", "")
        options = [f"--set={setting}" for setting in SHARED + settings]
        self.call("run", "--quiet", "--data", self.folder / "images", "--out", out, "--seed", 5, *options)
        self.export(out, "encoder,classifier,rotation,features", "onnx,npy")
        differences = self.onnx(out)
        if "patches" not in name:
            differences |= self.torch(out)
        print(f"{name}: " + ", ".join(f"{part} {value:.1e}" for part, value in differences.items()), flush=True)
        self.worst = max(self.worst, *differences.values())

    def export(self, out, what, formats):
        self.call("export", out, "--what", what, "--format", formats)
        once = {path.name: path.read_bytes() for path in (out / "export").iterdir()}
        self.call("export", out, "--what", what, "--format", formats, "--force")
        for name, content in once.items():
            assert (out / "export" / name).read_bytes() == content, f"{name} has other bytes when written again"

    def session(self, path):
        onnx.checker.check_model(str(path), full_check=True)
        properties = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        assert json.loads(properties["rotnet"])["image"] == [SIDE, SIDE, 3]
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        # Any number of images at once.
        name = session.get_outputs()[-1].name
        one, all_ = (session.run([name], {"images": self.stack[:count]})[0] for count in (1, IMAGES))
        assert largest(all_[:1], one) < TOLERANCE
        return session, properties

    def expected(self, out):
        """What rotnet says: features in the order of the images, classes, turns."""
        lines = (out / "export" / "test-images.csv").read_text().splitlines()[1:]
        rows = {line.split(",")[1]: row for row, line in enumerate(lines)}
        assert len(rows) == IMAGES
        features = np.load(out / "export" / "test.npy")
        features = features[[rows[str(Path(path).relative_to(self.folder / "images"))] for path in self.images]]
        said = json.loads(self.call("predict", out, *self.images, "--format", "json", "--quiet"))
        assert [image["file"] for image in said["images"]] == list(self.images)
        classes = np.array([image["probabilities"] for image in said["images"]])
        turns = np.array([image["rotation"]["probabilities"] for image in said["images"]])
        return said["classes"], {"encoder": features, "classifier": classes, "rotation": turns}

    def onnx(self, out):
        names, self.said = self.expected(out)
        differences = {}
        for what, expected in self.said.items():
            session, properties = self.session(out / "export" / f"{what}.onnx")
            if what == "classifier":
                assert json.loads(properties["classes"]) == names == CLASSES
            output = "features" if what == "encoder" else "probabilities"
            differences[what] = largest(session.run([output], {"images": self.stack})[0], expected)
        return differences

    def torch(self, out):
        try:
            import safetensors  # noqa: F401
            import torch
        except ImportError:
            return {}
        sys.path.insert(0, str(ROOT / "python" / "rotnet"))
        import network

        self.export(out, "encoder,classifier,rotation", "safetensors")
        loaded = {what: network.load(out / "export" / f"{what}.safetensors") for what in self.said}
        images = torch.from_numpy(self.stack)
        with torch.no_grad():
            found = {
                "encoder": loaded["encoder"].read(images, **loaded["encoder"].description["readout"]),
                "classifier": loaded["classifier"](images).softmax(1),
                "rotation": loaded["rotation"].probabilities(images),
            }
        return {f"PyTorch {what}": largest(found[what].numpy(), expected) for what, expected in self.said.items()}


def main():
    rotnet = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "target" / "release" / "rotnet"
    with tempfile.TemporaryDirectory() as folder:
        check = Check(rotnet.resolve(), Path(folder).resolve())
        for name, settings in RUNS.items():
            check.run(name, settings)
    print(f"largest difference of {IMAGES} images: {check.worst:.1e}")
    return check.worst > TOLERANCE


if __name__ == "__main__":
    sys.exit(main())
