#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The rival of bench/networks.cpp: PyTorch on a CUDA device, eager and compiled, channels_last, autocast bf16, on the same sizes.

  networks_torch.py [--rounds 20] [--json FILE]

U-Net is written out here; DeepLab v3+ and PSPNet come from segmentation_models_pytorch, HRNet's backbone from timm, each only where it is installed.
SGA-Net has no counterpart. Without torch or a device it says so and returns 77."""
import argparse
import json
import sys
import time

CLASSES = 6
SIZES = [(8, 512), (2, 1024)]


def unet(nn, torch):
    def block(i, o):
        return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(True),
                             nn.Conv2d(o, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(True))

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            w = [64, 128, 256, 512, 1024]
            self.down = nn.ModuleList(block(i, o) for i, o in zip([3] + w[:-1], w))
            self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, 2) for i, o in zip(w[:0:-1], w[-2::-1]))
            self.join = nn.ModuleList(block(2 * o, o) for o in w[-2::-1])
            self.head = nn.Conv2d(64, CLASSES, 1)

        def forward(self, x):
            kept = []
            for k, b in enumerate(self.down):
                x = b(x if k == 0 else nn.functional.max_pool2d(x, 2))
                kept.append(x)
            for up, join, skip in zip(self.up, self.join, kept[-2::-1]):
                x = join(torch.cat([skip, up(x)], 1))
            return self.head(x)

    return UNet()


def networks(nn, torch):
    found = {"unet": lambda: unet(nn, torch)}
    try:
        import segmentation_models_pytorch as smp
        found["deeplabv3plus-resnet101"] = lambda: smp.DeepLabV3Plus("resnet101", encoder_weights=None, classes=CLASSES)
        found["pspnet-resnet50"] = lambda: smp.PSPNet("resnet50", encoder_weights=None, classes=CLASSES)
    except ImportError:
        print("segmentation_models_pytorch is not installed: no DeepLab v3+, no PSPNet", file=sys.stderr)
    try:
        import timm

        class HRNet(nn.Module):
            def __init__(self):
                super().__init__()
                self.body = timm.create_model("hrnet_w18", features_only=True, out_indices=(1, 2, 3, 4), feature_location="", pretrained=False)
                width = sum(self.body.feature_info.channels())
                self.head = nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU(True), nn.Conv2d(width, CLASSES, 1))

            def forward(self, x):
                maps = self.body(x)
                maps = [nn.functional.interpolate(m, maps[0].shape[2:], mode="bilinear") for m in maps]
                return nn.functional.interpolate(self.head(torch.cat(maps, 1)), x.shape[2:], mode="bilinear")

        found["hrnetv2-w18"] = HRNet
    except ImportError:
        print("timm is not installed: no HRNet", file=sys.stderr)
    return found


def measure(torch, make, batch, side, rounds, compiled, training):
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    model = make().cuda().to(memory_format=torch.channels_last).train(training)
    run = torch.compile(model) if compiled else model
    x = torch.randn(batch, 3, side, side, device="cuda").to(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (batch, side, side), device="cuda")
    update = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def once():
        with torch.autocast("cuda", torch.bfloat16):
            y = run(x)
            if not training:
                return
            loss = torch.nn.functional.cross_entropy(y.float(), labels)
        update.zero_grad(set_to_none=True)
        loss.backward()
        update.step()

    times = []
    with torch.set_grad_enabled(training):
        for k in range(-3, rounds):
            torch.cuda.synchronize()
            start = time.perf_counter()
            once()
            torch.cuda.synchronize()
            if k >= 0:
                times.append((time.perf_counter() - start) * 1000)
    return sorted(times)[len(times) // 2], torch.cuda.max_memory_allocated() / 2**20


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--json")
    options = options.parse_args()
    try:
        import torch
        from torch import nn
    except ImportError:
        print("PyTorch is not installed: not measured")
        return 77
    if not torch.cuda.is_available():
        print("PyTorch sees no CUDA device: not measured")
        return 77
    print(torch.cuda.get_device_name(), "PyTorch", torch.__version__)
    rows = []
    for name, make in networks(nn, torch).items():
        for batch, side in SIZES:
            for compiled in (False, True):
                row = {"network": name, "batch": batch, "side": side, "mode": "compiled" if compiled else "eager"}
                for training in (False, True):
                    what = "step" if training else "inference"
                    try:
                        row[what + "_ms"], row[what + "_mib"] = measure(torch, make, batch, side, options.rounds, compiled, training)
                    except torch.cuda.OutOfMemoryError:
                        row[what + "_ms"] = row[what + "_mib"] = None
                print(row, flush=True)
                rows.append(row)
    if options.json:
        with open(options.json, "w") as out:
            json.dump({"device": torch.cuda.get_device_name(), "torch": torch.__version__, "rows": rows}, out, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
