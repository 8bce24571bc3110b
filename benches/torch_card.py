#!/usr/bin/env python3
"""Images/s of training steps of a reference network in PyTorch on a CUDA card.

Usage: torch_card.py TORCH_STEP seed|compact|nin [--seconds S]

TORCH_STEP is the reference program of compare.py, which leaves its network as `net`. 128 samples a step, FP32 and bfloat16
(autocast), as long as --seconds says after a warm-up; images are made up.
"""
import argparse
import runpy
import sys
import tempfile
import time
from pathlib import Path

import torch

BATCH = 128


def rate(net, seconds, bf16):
    """Steps as `rotnet bench` makes them: rotated images, forward, loss, backward, update."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    images = torch.randint(0, 256, (BATCH // 4, 3, 32, 32), dtype=torch.uint8, device="cuda")
    turns = torch.arange(4, device="cuda").repeat_interleave(len(images))
    steps, start = -10, None
    while start is None or time.perf_counter() - start < seconds:
        if steps == 0:
            torch.cuda.synchronize()
            start = time.perf_counter()
        base = images.float() / 255
        inputs = torch.cat([torch.rot90(base, turn, (2, 3)) for turn in range(4)])
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            loss = torch.nn.functional.cross_entropy(net(inputs), turns)
        loss.backward()
        optimizer.step()
        steps += 1
    torch.cuda.synchronize()
    return steps * BATCH / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("network")
    parser.add_argument("--seconds", type=float, default=3)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("this torch sees no CUDA card")
    with tempfile.TemporaryDirectory() as folder:
        # The program wants images before it makes its network.
        (Path(folder) / "data_batch_1.bin").write_bytes(bytes(3073 * 8))
        sys.argv = [arguments.program, folder, "--net", arguments.network, "--batch", "8", "--steps", "1"]
        net = runpy.run_path(arguments.program)["net"].cuda()
    for bf16 in (False, True):
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {arguments.network}"
              f"{' bf16' if bf16 else ''}: {rate(net, arguments.seconds, bf16):.0f} images/s")


if __name__ == "__main__":
    main()
