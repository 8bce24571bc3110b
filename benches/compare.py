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
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile

IMAGES_PER_SECOND = re.compile(r"([\d.]+) images/s")


def run(command):
    """Standard output of a command, and its peak memory in MB."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        out.seek(0)
        errors.seek(0)
        if status:
            sys.exit(f"{' '.join(command)}\n{errors.read()[-2000:]}")
        return out.read(), usage.ru_maxrss / 1024


def rates(text, start):
    """The figures before `images/s` in the lines that begin with `start`."""
    lines = [line for line in text.splitlines() if line.startswith(start)]
    return [float(IMAGES_PER_SECOND.search(line)[1]) for line in lines]


def keras(arguments, batch):
    """Second epoch of a short run: the first one includes building the graph."""
    out, memory = run([arguments.python, arguments.keras, arguments.data, "--scale", "--batch", str(batch),
                       "--images", str(arguments.keras_images), "--epochs", "2"])
    return {"train": rates(out, "pretrain epoch 2")[0], "extract": rates(out, "extract")[0], "memory": memory}


def torch(arguments, batch, net="seed"):
    """The faster of both memory layouts."""
    results = []
    for layout in ([], ["--channels-last"]):
        out, memory = run([arguments.python, arguments.torch, arguments.data, "--net", net, "--batch", str(batch),
                           "--steps", str(max(20, 6400 // batch)), *layout])
        results.append({"train": rates(out, "torch")[0], "memory": memory})
    return max(results, key=lambda result: result["train"])


def rotnet(arguments, *options):
    out, _ = run([arguments.rotnet, "bench", "--json", "--repeats", "3", "--seconds", "0.7", *options])
    result = json.loads(out)
    return {kind: result[kind]["images_per_second"]["median"] for kind in ("train", "extract", "input")} | {
        "memory": result["peak_memory_bytes"] / 2**20, "environment": result["environment"]}


def seed_round(arguments, batch):
    setting = ["--set", f"pretrain.batch_size={batch}"]
    return {"name": f"seed, batch {batch}", "keras": keras(arguments, batch), "rotnet": rotnet(arguments, *setting),
            "torch": torch(arguments, batch), "burn": rotnet(arguments, *setting, "--burn-operations")}


def compact_round(arguments):
    setting = ["--set", "encoder.kind=compact", "--set", "pretrain.rotations=all", "--set", "pretrain.batch_size=64"]
    return {"name": "compact, batch 256", "rotnet": rotnet(arguments, *setting),
            "torch": torch(arguments, 256, "compact"), "burn": rotnet(arguments, *setting, "--burn-operations")}


def table(rows):
    print("| network | work | Keras | PyTorch | burn flex | rotnet | rotnet / Keras | rotnet / PyTorch |")
    print("|---|---|---|---|---|---|---|---|")
    for name in dict.fromkeys(row["name"] for row in rows):
        these = [row for row in rows if row["name"] == name]

        def values(who, work):
            return [row[who][work] for row in these if work in row.get(who, {})]

        def median(who, work):
            found = values(who, work)
            return f"{statistics.median(found):,.0f}" if found else "–"

        def ratio(who, work):
            found = [row["rotnet"][work] / row[who][work] for row in these if work in row.get(who, {})]
            return f"{statistics.median(found):.2f}" if found else "–"

        for work in ("train", "extract"):
            print(f"| {name} | {work}, images/s | " + " | ".join(
                median(who, work) for who in ("keras", "torch", "burn", "rotnet")) +
                f" | {ratio('keras', work)} | {ratio('torch', work)} |")
        print(f"| {name} | peak memory, MB | " + " | ".join(
            median(who, "memory") for who in ("keras", "torch", "burn", "rotnet")) + " | – | – |")


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
    rounds = [lambda batch=int(batch): seed_round(arguments, batch) for batch in arguments.batches.split(",")]
    for one in [*rounds, lambda: compact_round(arguments)]:
        for index in range(arguments.rounds):
            row = one()
            rows.append(row)
            print(f"{row['name']}, round {index + 1}: " + ", ".join(
                f"{who} {row[who]['train']:.0f}" for who in ("keras", "torch", "burn", "rotnet") if who in row),
                file=sys.stderr, flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(rows, file, indent=1)

    environment = rows[0]["rotnet"]["environment"]
    print(f"{environment['processor']}, {environment['kernels']} kernels, {environment['threads']} threads, "
          f"{platform.system()}; medians of {arguments.rounds} rounds\n")
    table(rows)


if __name__ == "__main__":
    main()
