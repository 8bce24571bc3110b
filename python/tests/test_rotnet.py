"""The package on a run of seconds; `python -m unittest discover python/tests`.

Tests the installed package, or this one with PYTHONPATH=python ROTNET_BINARY=target/release/rotnet.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np

import rotnet

HAS_TORCH = all(importlib.util.find_spec(name) for name in ("torch", "safetensors"))
#: The Keras program on a few generated images.
SMALL = {
    "config": "keras-scaled",
    "data": {"kind": "scenes", "train_images": 300},
    "pretrain": {"epochs": 1, "batch_size": 64},
    "finetune": {"epochs": 2},
    "seed": 3,
}


class OnARun(unittest.TestCase):
    folder: tempfile.TemporaryDirectory[str]

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        before = os.getcwd()
        cls.addClassCleanup(os.chdir, before)
        # The program stays the same one in another folder.
        program = mock.patch.dict(os.environ, ROTNET_BINARY=str(Path(rotnet.binary()).resolve()))
        program.start()
        cls.addClassCleanup(program.stop)
        os.chdir(cls.folder.name)
        cls.said = io.StringIO()
        with contextlib.redirect_stderr(cls.said):
            cls.run_directory = rotnet.run(out="runs/a", **SMALL)

    def test_a_run_returns_its_directory_and_says_how_far_it_is(self) -> None:
        self.assertEqual(self.run_directory, Path("runs/a"))
        self.assertIn("pretrain", self.said.getvalue().lower())

    def test_settings_reach_the_config_and_metrics_are_what_was_written(self) -> None:
        stages = rotnet.metrics("runs/a")
        self.assertEqual(list(stages), ["pretrain", "extract", "finetune"])
        self.assertEqual(len(stages["pretrain"].epochs), 1)
        self.assertEqual([entry["epoch"] for entry in stages["finetune"].epochs], [1, 2])
        self.assertEqual(stages["finetune"].summary["labels"], 300)
        self.assertTrue(0 <= stages["finetune"].summary["test_accuracy"] <= 1)
        self.assertEqual(stages["extract"].epochs, [])

    def test_features_are_mapped_and_are_those_that_export_writes(self) -> None:
        features = rotnet.features("runs/a")
        self.assertIsInstance(features.test.values, np.memmap)
        with tempfile.TemporaryDirectory() as folder:
            rotnet.call(["export", "runs/a", "--what", "features", "--out", folder])
            for part in ("train", "test"):
                own = getattr(features, part)
                np.testing.assert_array_equal(own.values, np.load(Path(folder) / f"{part}.npy"))
                lines = (Path(folder) / f"{part}-images.csv").read_text().splitlines()[1:]
                labels = [line.split(",") for line in lines]
                self.assertEqual([int(label) for _, label, _ in labels], own.labels.tolist())
                self.assertEqual([name for _, _, name in labels], [features.classes[label] for label in own.labels])
        self.assertEqual((features.train.names, features.layer), ([], "dense"))

    def test_features_of_files_have_their_names(self) -> None:
        # A picture of 32 by 32 in the simplest format there is.
        header = b"BM" + (54 + 3072).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
        header += (40).to_bytes(4, "little") + (32).to_bytes(4, "little") * 2 + b"\x01\x00\x18\x00" + bytes(24)
        for number in range(12):
            path = Path("pictures") / ("train" if number < 8 else "test") / "ab"[number % 2] / f"{number}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(header + bytes((number * pixel) % 256 for pixel in range(3072)))
        settings = {"pretrain": {"epochs": 0}, "finetune": {"epochs": 1}}
        rotnet.run("keras", data="pictures", out="runs/files", progress=False, **settings)
        features = rotnet.features("runs/files")
        self.assertEqual(sorted(features.test.names), ["test/a/10.bmp", "test/a/8.bmp", "test/b/11.bmp", "test/b/9.bmp"])
        labels = [features.classes[label] for label in features.test.labels]
        self.assertEqual(labels, [name.split("/")[1] for name in features.test.names])

    def test_what_is_wrong_is_raised_in_one_line(self) -> None:
        with self.assertRaisesRegex(rotnet.Error, "runs/a.*already holds results") as raised:
            rotnet.run(out="runs/a", progress=False, **SMALL)
        self.assertEqual((raised.exception.code, str(raised.exception).count("\n")), (1, 0))
        with self.assertRaisesRegex(rotnet.Error, "pretrain.epochs") as raised:
            rotnet.run({"pretrain": {"epochs": -1}}, out="runs/b")
        self.assertEqual(raised.exception.code, 2)
        with self.assertRaises(ValueError):
            rotnet.run(existing="replace")
        with self.assertRaisesRegex(ValueError, "extract goes on in a run's directory"):
            rotnet.run(command="extract")
        with self.assertRaises(FileNotFoundError):
            rotnet.features("runs/b")
        with self.assertRaises(FileNotFoundError):
            rotnet.metrics("runs/b")

    def test_stages_go_one_by_one_and_a_run_without_a_name_gets_one(self) -> None:
        settings = {**SMALL, "pretrain": {"epochs": 0}, "progress": False}
        self.assertEqual(rotnet.run(command="pretrain", out="runs/parts", **settings), Path("runs/parts"))
        rotnet.run(command="extract", out="runs/parts", progress=False)
        self.assertEqual(list(rotnet.metrics("runs/parts")), ["pretrain", "extract"])
        self.assertEqual(rotnet.run(**settings), Path("runs/keras-scaled"))
        self.assertTrue((Path("runs/keras-scaled") / "finetune" / "summary.json").exists())

    def test_a_finished_run_goes_on_without_work(self) -> None:
        before = (self.run_directory / "finetune" / "checkpoint.safetensors").read_bytes()
        rotnet.run(out="runs/a", existing="resume", progress=False, **SMALL)
        self.assertEqual((self.run_directory / "finetune" / "checkpoint.safetensors").read_bytes(), before)

    @unittest.skipUnless(os.name == "posix", "signals")
    def test_an_interruption_saves_the_state(self) -> None:
        # In the background of a shell without job control SIGINT is ignored; here it must not be.
        listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        run = "import rotnet; rotnet.run(out='runs/long', data={'train_images': 300}, pretrain={'epochs': 3000})"
        code = listening + run
        words = [sys.executable, "-c", code]
        for all_of_the_group in (False, True):
            with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
                assert process.stderr is not None
                # A step, not the note of a resumed run: from then on the program listens.
                said = next(line for line in process.stderr if line.startswith("epoch"))
                (os.killpg if all_of_the_group else os.kill)(process.pid, signal.SIGINT)
                rest = process.stderr.read()
            self.assertRegex(rest, r"KeyboardInterrupt: pretrain: stopped by .*saved; continue with .*--resume", said)
            words[2] = code.replace("out=", "existing='resume', out=")

    @unittest.skipUnless(HAS_TORCH, "needs torch and safetensors")
    def test_networks_are_modules_that_give_the_features(self) -> None:
        import torch

        features = rotnet.features("runs/a")
        records = np.fromfile("data/scenes/cifar-10-batches-bin/test_batch.bin", np.uint8).reshape(-1, 3073)[:100]
        images = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1).copy())
        with torch.no_grad():
            found = rotnet.load("runs/a", "encoder")(images).numpy()
            self.assertLess(np.abs(found - features.test.values[:100]).max(), 1e-4)
            classifier = rotnet.load("runs/a")
            self.assertEqual(classifier.classes, features.classes)
            logits = classifier(images)
            self.assertEqual(logits.shape, (100, 10))
            torch.testing.assert_close(logits, classifier.head(torch.from_numpy(found)))
            turns = rotnet.load("runs/a", "rotation").probabilities(images)
            torch.testing.assert_close(turns.sum(1), torch.ones(100))

    @unittest.skipIf(HAS_TORCH, "torch is there")
    def test_without_torch_it_is_said_what_to_install(self) -> None:
        with self.assertRaisesRegex(ImportError, r"pip install 'rotnet\[torch\]'"):
            rotnet.load("runs/a")


if __name__ == "__main__":
    unittest.main()
