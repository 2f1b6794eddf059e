# SPDX-License-Identifier: MIT
# samples/compare_networks with a budget of two steps: all its files, a second run that trains nothing anew, and readable refusals.
# compare_networks.py PROGRAM
import json
import os
import struct
import subprocess
import sys
import tempfile
import zlib


def png(path, width, height, channels, value):
    """value(x, y, c) -> 0..255"""
    rows = b"".join(b"\0" + bytes(value(x, y, c) for x in range(width) for c in range(channels)) for y in range(height))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def data_set(folder, images, classes, channels=3):
    os.makedirs(folder + "/images")
    os.makedirs(folder + "/masks")
    for i in range(images):
        label = lambda x, y: (x // 16 + i) % classes
        png(f"{folder}/images/{i}.png", 64, 64, channels, lambda x, y, c: 60 * label(x, y) + (x * 7 + y * 13 + c * 5) % 40)
        png(f"{folder}/masks/{i}.png", 64, 64, 1, lambda x, y, c: label(x, y))
    return folder


def main():
    program = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as work:
        train, val = data_set(work + "/train", 3, 3), data_set(work + "/val", 2, 3)
        more, grey = data_set(work + "/more", 1, 4), data_set(work + "/grey", 1, 3, 1)

        def run(*arguments, code=0):
            r = subprocess.run([program, *arguments], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
            assert r.returncode == code, (arguments, r.returncode, r.stderr)
            return r.stdout if code == 0 else r.stderr

        out = work + "/out"
        same = ["--data", train, "--val", val, "--steps", "2", "--crop", "32", "--batch", "2", "--validations", "1", "--tile", "64"]
        table = run(*same, "--out", out, "--rate-of", "enet=2e-3", "unet-16", "enet")
        assert "| unet-16 |" in table and "| enet |" in table, table
        for name in ["compared.md", "compared.csv", "compared.json", "accuracy.svg", "loss.svg", "validation.svg", "predictions.png"]:
            assert os.path.getsize(f"{out}/{name}") > 50, name
        nets = json.load(open(out + "/compared.json"))["networks"]
        assert [n["network"] for n in nets] == ["unet-16", "enet"]
        assert all(n["steps"] == 2 and 0 <= n["miou"] <= 1 and len(n["iou"]) == 3 and n["training_mib"] > n["inference_mib_512"] * 0 for n in nets)
        assert nets[1]["settings"]["rate"] == 2e-3 and nets[0]["settings"]["rate"] == 1e-3
        with open(out + "/predictions.png", "rb") as f:
            assert struct.unpack(">II", f.read(24)[16:]) == (4 * 260 - 4, 2 * 260 - 4)  # image, labels, two maps; two pictures

        weights = out + "/unet-16/weights.safetensors"
        before = os.stat(weights).st_mtime_ns
        again = run(*same, "--out", out, "--rate-of", "enet=2e-3", "unet-16", "enet")
        assert os.stat(weights).st_mtime_ns == before and again.split("\n")[4] == table.split("\n")[4]  # nothing trained anew
        run(*same, "--out", out, "--seed", "2", "unet-16")
        assert os.stat(weights).st_mtime_ns != before  # other options: anew

        def refused(*arguments, says):
            text = run(*arguments, code=2)
            assert says in text and text.count("\n") == 1, text

        refused(*same, "--out", out, "unet-61", says="unknown network 'unet-61'; near: ")
        refused(*same, "--out", out, "fusenet", says="network 'fusenet' ")
        refused(*same, "--out", out, says="no network given")
        refused(*same, "--out", out, "--preset", "towers", says='--preset "towers": unknown; use pyramids')
        refused(*same, "--out", out, "--rate-of", "enet", "enet", says="expected NAME=VALUE")
        refused(*same, "--out", out, "--lr", "nan", "enet", says="--lr: expected a number above 0")
        refused("--data", train, "--val", val, "--out", out, "enet", says="say how long each network is trained")
        refused("--data", train, "--val", grey, "--steps", "2", "--out", out, "enet", says="images of 1 bands")
        text = run("--data", train, "--val", more, "--steps", "2", "--out", out, "enet", code=3)
        assert "3 classes" in text or "class id 3" in text or "value 3" in text, text
        print("compare_networks: table, files, resumption, refusals")


main()
