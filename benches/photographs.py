#!/usr/bin/env python3
"""What `rotnet predict` and `rotnet orient` do, with Pillow and PyTorch; and photographs to do it on.

Usage: photographs.py predict|orient NETWORK FOLDER [--channels-last]
       photographs.py enlarge FOLDER TARGET COUNT

NETWORK is what `rotnet export --what classifier` or `--what rotation` wrote. Files are decoded by as many threads as PyTorch
computes with, JPEG at reduced scale (`draft`) where four times the wanted side is left, as rotnet does; 64 at a time go
through the network. Imports and loading are not counted. `enlarge` scales photographs up to 4000 x 3000 pixels.
"""
import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from PIL import Image, ImageFilter, ImageOps

AT_ONCE = 64
LARGE = (4000, 3000)


def files_in(folder):
    found = [os.path.join(above, name) for above, _, names in os.walk(folder) for name in names]
    return sorted(path for path in found if path.lower().endswith((".jpg", ".jpeg", ".png")))


def enlarge(folder, target, count):
    os.makedirs(target, exist_ok=True)
    for number, path in enumerate(files_in(folder)[:count]):
        image = ImageOps.fit(Image.open(path).convert("RGB"), LARGE, Image.Resampling.BICUBIC)
        # Sharp edges and grain, as files of this size have: scaled up alone they would be small and quick to decode.
        image = image.filter(ImageFilter.UnsharpMask(3, 150))
        grain = Image.merge("RGB", [Image.effect_noise(LARGE, 24)] * 3)
        Image.blend(image, grain, 0.1).save(os.path.join(target, f"{number:04}.jpg"), quality=92)


def squares(path, side, along):
    """The middle square, or three along the longer side of a long photograph, as bytes."""
    image = Image.open(path)
    image.draft("RGB", (4 * side, 4 * side))
    image = ImageOps.exif_transpose(image).convert("RGB")
    (width, height), cut = image.size, min(image.size)
    longer = max(width, height)
    if not along or longer < 1.2 * cut:
        left, top = (width - cut) // 2, (height - cut) // 2
        return [image.resize((side, side), Image.Resampling.BILINEAR, (left, top, left + cut, top + cut)).tobytes()]
    shown = min(longer, 2 * cut)
    long, start = side * shown // cut, (longer - shown) // 2
    if width > height:
        strip = image.resize((long, side), Image.Resampling.BILINEAR, (start, 0, start + shown, cut))
    else:
        strip = image.resize((side, long), Image.Resampling.BILINEAR, (0, start, cut, start + shown))
    places = (0, (long - side) // 2, long - side)
    boxes = [(at, 0, at + side, side) if width > height else (0, at, side, at + side) for at in places]
    return [strip.crop(box).tobytes() for box in boxes]


def measure(arguments):
    import torch

    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "python", "rotnet"))
    import network

    net = network.load(arguments.network)
    if arguments.channels_last:
        net = net.to(memory_format=torch.channels_last)
    side = net.encoder.description["image"][0]
    orient = arguments.command == "orient"
    look = net.probabilities if orient else (lambda images: net(images).softmax(1))
    files = files_in(arguments.folder)
    start, answers = time.perf_counter(), []
    with ThreadPoolExecutor(torch.get_num_threads()) as pool, torch.inference_mode():
        for first in range(0, len(files), AT_ONCE):
            cut = list(pool.map(lambda path: squares(path, side, orient), files[first:first + AT_ONCE]))
            flat = bytearray(b"".join(square for of_image in cut for square in of_image))
            images = torch.frombuffer(flat, dtype=torch.uint8).view(-1, side, side, 3)
            found = look(images)
            for of_image in found.log().split([len(of_image) for of_image in cut]):
                answers.append(int(of_image.mean(0).argmax()))
    seconds = time.perf_counter() - start
    print(f"{len(files) / seconds:.2f} images/s, {answers.count(0)} of {len(files)} answered with the first class")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("predict", "orient"):
        command = commands.add_parser(name)
        command.add_argument("network")
        command.add_argument("folder")
        command.add_argument("--channels-last", action="store_true")
    command = commands.add_parser("enlarge")
    command.add_argument("folder")
    command.add_argument("target")
    command.add_argument("count", type=int)
    arguments = parser.parse_args()
    if arguments.command == "enlarge":
        enlarge(arguments.folder, arguments.target, arguments.count)
    else:
        measure(arguments)


if __name__ == "__main__":
    main()
