#!/usr/bin/env python3
"""Training and extraction speed of rotnet beside Keras and PyTorch, in turn, on the same machine, in one run.

Usage: compare.py --rotnet target/release/rotnet --data DIR --keras keras_seed.py --torch torch_step.py
                  [--python PYTHON] [--batches 32,128] [--rounds 5] [--json FILE]

DIR holds data_batch_1..5.bin and test_batch.bin. PYTHON is an interpreter with tensorflow-cpu and torch.
keras_seed.py and torch_step.py are the reference programs: the first prints `... images/s` a pretraining epoch and
`extract: ... images/s`, the second prints `... images/s` of training steps. Each round runs every program once, one
after the other; ratios are taken within a round, and the median over the rounds is shown.
"""
import argparse
import json
import platform
import re
import resource
import statistics
import subprocess
import sys

IMAGES_PER_SECOND = re.compile(r"([\d.]+) images/s")


def run(command):
    """Standard output of a command, and its peak memory in MB."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return done.stdout, max(before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def keras(arguments, batch):
    out, memory = run([arguments.python, arguments.keras, arguments.data, "--scale", "--batch", str(batch),
                       "--images", str(arguments.keras_images), "--epochs", "2"])
    epochs = [IMAGES_PER_SECOND.search(line) for line in out.splitlines() if line.startswith("pretrain epoch 2")]
    extract = [IMAGES_PER_SECOND.search(line) for line in out.splitlines() if line.startswith("extract")]
    return {"train": float(epochs[0][1]), "extract": float(extract[0][1])}


def torch(arguments, batch):
    """The faster of both memory layouts."""
    rates = []
    for layout in ([], ["--channels-last"]):
        out, _ = run([arguments.python, arguments.torch, arguments.data, "--batch", str(batch),
                      "--steps", str(max(50, 12800 // batch)), *layout])
        rates.append(float(IMAGES_PER_SECOND.search(out)[1]))
    return {"train": max(rates)}


def rotnet(arguments, batch, *options):
    out, _ = run([arguments.rotnet, "bench", "--json", "--repeats", "3", "--seconds", "1",
                  "--set", f"pretrain.batch_size={batch}", *options])
    result = json.loads(out)
    return {kind: result[kind]["images_per_second"]["median"] for kind in ("train", "extract", "input")} | {
        "memory": result["peak_memory_bytes"], "environment": result["environment"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("rotnet", "data", "keras", "torch"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--batches", default="32,128")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keras-images", type=int, default=5000)
    parser.add_argument("--json", help="also write every single figure here")
    arguments = parser.parse_args()

    rows = []
    for batch in map(int, arguments.batches.split(",")):
        for index in range(arguments.rounds):
            row = {"batch": batch,
                   "keras": keras(arguments, batch),
                   "rotnet": rotnet(arguments, batch),
                   "torch": torch(arguments, batch),
                   "burn": rotnet(arguments, batch, "--burn-operations")}
            rows.append(row)
            print(f"batch {batch} round {index + 1}: " + ", ".join(
                f"{name} {row[name]['train']:.0f}" for name in ("keras", "torch", "burn", "rotnet")), file=sys.stderr)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(rows, file, indent=1)

    environment = rows[0]["rotnet"]["environment"]
    print(f"{environment['processor']}, {environment['kernels']} kernels, {environment['threads']} threads, "
          f"{platform.system()}; medians of {arguments.rounds} rounds, images/s\n")
    print("| batch | work | Keras | PyTorch | burn flex | rotnet | rotnet / Keras | rotnet / PyTorch |")
    print("|---|---|---|---|---|---|---|---|")
    for batch in sorted({row["batch"] for row in rows}):
        these = [row for row in rows if row["batch"] == batch]
        for work in ("train", "extract"):
            def median(name):
                values = [row[name][work] for row in these if work in row[name]]
                return f"{statistics.median(values):,.0f}" if values else "–"

            def ratio(name):
                values = [row["rotnet"][work] / row[name][work] for row in these if work in row[name]]
                return f"{statistics.median(values):.2f}" if values else "–"

            print(f"| {batch} | {work} | {median('keras')} | {median('torch')} | {median('burn')} | "
                  f"{median('rotnet')} | {ratio('keras')} | {ratio('torch')} |")


if __name__ == "__main__":
    main()
