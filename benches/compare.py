#!/usr/bin/env python3
"""Training, extraction and use of rotnet beside Keras and PyTorch, in turn, on the same machine, in one run.

Usage: compare.py --rotnet target/release/rotnet --data DIR --torch torch_step.py [--keras keras_seed.py]
                  [--python PYTHON] [--networks seed-32,seed-128,compact,nin] [--rounds 5] [--no-bf16] [--json FILE]
       compare.py --rotnet target/release/rotnet --photographs FOLDER [--classifier RUN] [--large 64]
                  [--python PYTHON] [--rounds 5] [--json FILE]

DIR holds data_batch_1..5.bin and test_batch.bin. PYTHON is an interpreter with tensorflow-cpu and torch.
keras_seed.py and torch_step.py are the reference programs: the first prints `... images/s` a pretraining epoch and
`extract: ... images/s`, the second takes --net, --batch, --steps, --channels-last and --bf16, prints `... images/s` of
training steps, and leaves its network as `net`, whose inference is measured here.

--photographs measures `orient` with the network in the program, and `predict` with RUN, from files to answers: on the
photographs in FOLDER, and on as many as --large says of them scaled up to 12 megapixels. benches/photographs.py is the
other side and needs Pillow, torch and safetensors. rotnet's time is that of the whole process, PyTorch's begins after
imports and loading.

Each round runs every program once, one after the other, PyTorch in both memory layouts and both precisions (--no-bf16:
in FP32 alone, for processors that compute bfloat16 in software). Ratios are taken within a round, between the fastest of
each side; shown are medians over the rounds with the lowest and the highest.
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
import time

IMAGES_PER_SECOND = re.compile(r"([\d.]+) images/s")

# Runs the reference program for its network, then measures that in evaluation.
TORCH = """
import runpy, sys, time
import torch
sys.argv = sys.argv[1:]
found = runpy.run_path(sys.argv[0])
net, args = found["net"].eval(), found["args"]
images = torch.rand(256, 3, 32, 32)
if args.channels_last:
    images = images.to(memory_format=torch.channels_last)
with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
    net(images)
    start, count = time.time(), 0
    while time.time() - start < 2:
        net(images)
        count += len(images)
print(f"inference {count / (time.time() - start):.0f} images/s")
"""

# Name: PyTorch's network, samples a step, settings of rotnet, whether Keras has it.
NETWORKS = {
    "seed-32": ("seed", 32, ["pretrain.batch_size=32"], True),
    "seed-128": ("seed", 128, ["pretrain.batch_size=128"], True),
    "compact": ("compact", 256, ["encoder.kind=compact", "pretrain.rotations=all", "pretrain.batch_size=64"], False),
    "nin": ("nin", 128, ["encoder.kind=rotnet-nin", "pretrain.rotations=all", "pretrain.batch_size=32"], False),
}


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


def torch(arguments, net, batch, *switches):
    steps = max(8, (1280 if net == "nin" else 6400) // batch)
    out, memory = run([arguments.python, "-c", TORCH, arguments.torch, arguments.data, "--net", net, "--batch", str(batch),
                       "--steps", str(steps), *switches])
    return {"train": rates(out, "torch")[0], "extract": rates(out, "inference")[0], "memory": memory}


def rotnet(arguments, settings, *options):
    settings = [word for setting in settings for word in ("--set", setting)]
    out, _ = run([arguments.rotnet, "bench", "--config", "keras-scaled", "--json", "--repeats", "3", "--seconds", "1", *settings, *options])
    result = json.loads(out)
    return {kind: result[kind]["images_per_second"]["median"] for kind in ("train", "extract")} | {
        "memory": result["peak_memory_bytes"] / 2**20, "environment": result["environment"]}


def one_round(arguments, name):
    net, batch, settings, in_keras = NETWORKS[name]
    row = {"rotnet": rotnet(arguments, settings)}
    if arguments.bf16:
        row["rotnet bf16"] = rotnet(arguments, settings, "--precision", "bf16")
    if in_keras and arguments.keras:
        row["Keras"] = keras(arguments, batch)
    for precision in ([], ["--bf16"]) if arguments.bf16 else ([],):
        for layout in ([], ["--channels-last"]):
            label = " ".join(["PyTorch", *(word[2:] for word in precision + layout)])
            row[label] = torch(arguments, net, batch, *precision, *layout)
    return row


def fastest(row, kind, *beginnings, without="no such word"):
    found = [values[kind] for name, values in row.items() if name.startswith(beginnings) and without not in name]
    return max(found, default=None)


def spread(values, form):
    values = [value for value in values if value is not None]
    if not values:
        return "–"
    middle, low, high = (format(value, form) for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"


def table(name, rounds):
    _, batch, _, _ = NETWORKS[name]
    print(f"\n{name}, {batch} images a step\n\n| | training, images/s | inference, images/s | memory, MB |\n|---|---|---|---|")
    for who in rounds[0]:
        cells = [spread([row[who][kind] for row in rounds], form)
                 for kind, form in (("train", ",.0f"), ("extract", ",.0f"), ("memory", ",.0f"))]
        print(f"| {who} | " + " | ".join(cells) + " |")
    for label, ours, theirs, without in (
            ("FP32 of PyTorch's FP32", "rotnet", "PyTorch", "bf16"), ("best of best PyTorch", "rotnet", "PyTorch", "none"),
            ("FP32 of Keras", "rotnet", "Keras", "bf16")):
        cells = []
        for kind in ("train", "extract"):
            pairs = [(fastest(row, kind, ours, without=without), fastest(row, kind, theirs, without=without))
                     for row in rounds]
            cells.append(spread([our / their for our, their in pairs if their], ".2f"))
        print(f"| **{label}** | " + " | ".join(cells) + " | |")


def use(arguments):
    """Rows of `orient` and `predict` on photographs, by name; in each a round after the other."""
    here = os.path.dirname(os.path.abspath(__file__))
    program, photos = os.path.join(here, "photographs.py"), os.path.join(here, "..", "models", "photos")
    with tempfile.TemporaryDirectory() as scratch:
        large = os.path.join(scratch, "large")
        run([arguments.python, program, "enlarge", arguments.photographs, large, str(arguments.large)])
        works = {"orient": (["orient"], [scratch, "--checkpoint", photos], "rotation")}
        if arguments.classifier:
            works["predict"] = (["predict", arguments.classifier], [arguments.classifier], "classifier")
        networks = {work: export(arguments, os.path.join(scratch, work), *source)
                    for work, (_, *source) in works.items()}
        results = {}
        for index in range(arguments.rounds):
            for pixels, folder in (("as they are", arguments.photographs), ("12 megapixels", large)):
                for work, (words, *_) in works.items():
                    row = {"rotnet": measure_use([arguments.rotnet, *words, folder, "--json", "--quiet"])}
                    for layout in ([], ["--channels-last"]):
                        out, memory = run([arguments.python, program, work, networks[work], folder, *layout])
                        label = " ".join(["PyTorch", *(word[2:] for word in layout)])
                        row[label] = {"use": rates(out, "")[0], "memory": memory}
                    name = f"{work}, {pixels}"
                    results.setdefault(name, []).append(row)
                    print(f"{name}, round {index + 1}: " + ", ".join(f"{who} {row[who]['use']:.1f}" for who in row),
                          file=sys.stderr, flush=True)
    return results


def export(arguments, folder, source, what):
    """The network of a command in PyTorch's form."""
    run([arguments.rotnet, "export", *source, "--what", what, "--out", folder, "--quiet"])
    return os.path.join(folder, f"{what}.safetensors")


def measure_use(command):
    start = time.perf_counter()
    out, memory = run(command)
    return {"use": len(json.loads(out)["images"]) / (time.perf_counter() - start), "memory": memory}


def use_table(name, rounds):
    print(f"\n{name}\n\n| | images/s | memory, MB |\n|---|---|---|")
    for who in rounds[0]:
        cells = [spread([row[who][kind] for row in rounds], form) for kind, form in (("use", ",.1f"), ("memory", ",.0f"))]
        print(f"| {who} | " + " | ".join(cells) + " |")
    ratios = [fastest(row, "use", "rotnet") / fastest(row, "use", "PyTorch") for row in rounds]
    print(f"| **of the faster PyTorch** | {spread(ratios, '.2f')} | |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rotnet", required=True)
    for name in ("data", "torch", "keras", "photographs", "classifier"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--large", type=int, default=64)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-bf16", dest="bf16", action="store_false")
    parser.add_argument("--keras-images", type=int, default=5000)
    parser.add_argument("--json", help="also write every single figure here")
    arguments = parser.parse_args()
    if arguments.photographs:
        results = use(arguments)
        if arguments.json:
            with open(arguments.json, "w") as file:
                json.dump(results, file, indent=1)
        print(f"{platform.system()}; medians of {arguments.rounds} rounds, lowest and highest in brackets")
        for name, rounds in results.items():
            use_table(name, rounds)
        return
    if not (arguments.data and arguments.torch):
        parser.error("--data and --torch are needed, or --photographs")

    results = {}
    for index in range(arguments.rounds):
        for name in arguments.networks.split(","):
            row = one_round(arguments, name)
            results.setdefault(name, []).append(row)
            print(f"{name}, round {index + 1}: " + ", ".join(f"{who} {row[who]['train']:.0f}" for who in row),
                  file=sys.stderr, flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)

    environment = next(iter(results.values()))[0]["rotnet"]["environment"]
    print(f"{environment['processor']}, {environment['kernels']} kernels, {environment['threads']} threads, "
          f"{platform.system()}; medians of {arguments.rounds} rounds, lowest and highest in brackets")
    for name, rounds in results.items():
        table(name, rounds)


if __name__ == "__main__":
    main()
