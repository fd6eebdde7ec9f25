"""Make a small detection data set of coloured shapes, in COCO's format.

    python examples/shapes.py data/shapes --train 240 --val 40 --size 128

writes ``train/*.png``, ``val/*.png``, ``train.json`` and ``val.json`` into the folder.
Every image shows one to four rectangles, ellipses and triangles, which do not touch
each other, on a textured background. The class is the outline; colours say nothing.

The same arguments give the same bytes on every machine and with every library version:
all drawing is integer arithmetic, the random stream is numpy's frozen legacy one, and
the PNG files are written here, uncompressed, instead of by an encoder that may change.
"""

import argparse
import json
import os
import shutil
import struct
import tempfile
import zlib

import numpy as np

CLASSES = ("rectangle", "ellipse", "triangle")

MAX_SHAPES = 4  # in one image
ATTEMPTS = 12  # to place them
MARGIN = 3  # pixels kept free round every shape


def generate(root, train=240, val=40, size=128, seed=0):
    """Write the data set into the folder ``root``, which must not exist yet.

    Args:
        root: The folder to make.
        train: Number of training images.
        val: Number of validation images.
        size: Width and height of every image, in pixels, at least 32.
        seed: Image ``i`` of a split depends on ``seed``, ``size`` and ``i`` only, so a
            larger data set begins with the images of a smaller one.

    The folder appears complete or not at all: it is filled under another name and then
    renamed. Of several processes that make it at the same time, the first one wins.
    """
    if size < 32:
        raise ValueError(f"size: must be at least 32 pixels, got {size}")
    root = os.path.abspath(root)
    parent = os.path.dirname(root)
    os.makedirs(parent, exist_ok=True)
    scratch = tempfile.mkdtemp(prefix=os.path.basename(root) + ".", dir=parent)
    try:
        os.chmod(scratch, 0o755)  # mkdtemp made it private
        for split, (name, count) in enumerate((("train", train), ("val", val))):
            _write_split(scratch, name, count, size, seed, split)
        try:
            os.rename(scratch, root)
        except OSError:
            if not os.path.isfile(os.path.join(root, "val.json")):
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write_split(root, name, count, size, seed, split):
    """Write ``count`` images into ``root/name`` and their annotations into a JSON file."""
    os.mkdir(os.path.join(root, name))
    images, annotations = [], []
    for index in range(count):
        random = np.random.RandomState([seed, split, index])
        pixels, shapes = draw(random, size)
        file_name = f"{index:06d}.png"
        with open(os.path.join(root, name, file_name), "wb") as file:
            file.write(encode_png(pixels))
        images.append({"id": index + 1, "file_name": file_name, "width": size, "height": size})
        for category, box, area in shapes:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": category + 1,
                    "bbox": box,
                    "area": area,
                    "iscrowd": 0,
                }
            )
    coco = {
        "info": {"description": "coloured shapes", "version": "1.0"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
    }
    with open(os.path.join(root, name + ".json"), "w", encoding="utf-8", newline="\n") as file:
        json.dump(coco, file, indent=1)
        file.write("\n")


def draw(random, size):
    """Draw one image.

    Returns the pixels, ``uint8`` of shape (size, size, 3) in RGB order, and a list of
    ``(class index, [x, y, width, height], area in pixels)``, one for each shape.
    """
    background = random.randint(60, 196, size=3, dtype=np.int64)
    pixels = np.clip(background + _texture(random, size, strength=24), 0, 255)
    free = np.ones((size, size), dtype=bool)
    shapes = []
    wanted = random.randint(1, MAX_SHAPES + 1, dtype=np.int64)
    for _ in range(ATTEMPTS):
        if len(shapes) == wanted:
            break
        category = int(random.randint(0, len(CLASSES), dtype=np.int64))
        height, width = random.randint(size // 6, size // 2, size=2, dtype=np.int64).tolist()
        y = int(random.randint(0, size - height + 1, dtype=np.int64))
        x = int(random.randint(0, size - width + 1, dtype=np.int64))
        around = (
            slice(max(y - MARGIN, 0), y + height + MARGIN),
            slice(max(x - MARGIN, 0), x + width + MARGIN),
        )
        if not free[around].all():
            continue
        free[around] = False
        # Lighter than a dark ground and darker than a light one, in every channel: any
        # colour, and always something to see.
        contrast = random.randint(60, 120, size=3, dtype=np.int64)
        colour = background + np.where(background < 128, contrast, -contrast)
        fill = np.clip(colour + _texture(random, size, strength=8), 0, 255)
        mask = outline(category, height, width)
        inside = (slice(y, y + height), slice(x, x + width))
        pixels[inside][mask] = fill[inside][mask]
        # A narrow tip may not fill its box, so measure what was drawn.
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = [
            x + int(columns[0]),
            y + int(rows[0]),
            int(columns[-1] - columns[0]) + 1,
            int(rows[-1] - rows[0]) + 1,
        ]
        shapes.append((category, box, int(mask.sum())))
    return pixels.astype(np.uint8), shapes


def outline(category, height, width):
    """The boolean mask, (height, width), of one shape that fills its box."""
    # Twice the distance of a pixel's middle from the middle of the box: an integer.
    y = 2 * np.arange(height, dtype=np.int64)[:, None] + 1 - height
    x = 2 * np.arange(width, dtype=np.int64)[None, :] + 1 - width
    name = CLASSES[category]
    if name == "rectangle":
        return np.ones((height, width), dtype=bool)
    if name == "ellipse":
        return (x * height) ** 2 + (y * width) ** 2 <= (height * width) ** 2
    # A triangle with its base at the bottom.
    return 2 * height * abs(x) <= width * (y + height + 1)


def _texture(random, size, strength):
    """Blotches of 8 pixels and grain of one pixel, within ±strength, (size, size, 1)."""
    cells = -(-size // 8)
    blotches = random.randint(-strength // 2, strength // 2 + 1, (cells, cells), dtype=np.int64)
    grain = random.randint(-strength // 2, strength // 2 + 1, (size, size), dtype=np.int64)
    coarse = blotches.repeat(8, axis=0).repeat(8, axis=1)[:size, :size]
    return (coarse + grain)[:, :, None]


def encode_png(pixels):
    """The bytes of an uncompressed PNG file of an RGB image, ``uint8`` (height, width, 3)."""
    height, width, _ = pixels.shape
    # Every row is preceded by its filter type, 0: none.
    raw = b"".join(b"\0" + row.tobytes() for row in pixels)
    blocks = [raw[i : i + 0xFFFF] for i in range(0, len(raw), 0xFFFF)]
    stream = b"\x78\x01"  # the header of a zlib stream
    for i, block in enumerate(blocks):
        last = i == len(blocks) - 1
        stream += struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF) + block
    stream += struct.pack(">I", zlib.adler32(raw))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits a channel, RGB
    chunks = ((b"IHDR", header), (b"IDAT", stream), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description="Make a small data set of coloured shapes")
    parser.add_argument("root", help="the folder to make")
    parser.add_argument("--train", type=int, default=240, help="number of training images")
    parser.add_argument("--val", type=int, default=40, help="number of validation images")
    parser.add_argument("--size", type=int, default=128, help="width and height in pixels")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if os.path.exists(args.root):
        parser.error(f"{args.root} exists already")
    generate(args.root, args.train, args.val, args.size, args.seed)
    print(f"{args.root}: {args.train} training and {args.val} validation images")


if __name__ == "__main__":
    main()
