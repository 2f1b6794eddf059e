# SPDX-License-Identifier: MIT
"""The command-line program from outside: what a newcomer does, what goes wrong, what a kill leaves.   cli.py PATH_TO_RSSEG

Pictures are made by the program's own library sample or as plain PNG bytes here, so that no Python package is needed."""
import json, os, pathlib, resource, signal, struct, subprocess, sys, tempfile, time, unittest, zlib

RSSEG = str(pathlib.Path(sys.argv.pop(1)).resolve())


def png(width, height, channels, pixel, header_size=None):
    """pixel(x, y) -> bytes. header_size lies about the extent."""
    rows = b"".join(b"\0" + b"".join(pixel(x, y) for x in range(width)) for y in range(height))
    w, h = header_size or (width, height)
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, {1: 0, 3: 2}[channels], 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def square(x, y, i):
    return 12 + i <= x < 30 + i and 10 <= y < 34


def image(i, size=48):
    return png(size, size, 3, lambda x, y: bytes(((190 if square(x, y, i) else 60) + (x * 7 + y * 13 + c * 5) % 40) for c in range(3)))


def mask(i, size=48, ids=(0, 1)):
    return png(size, size, 1, lambda x, y: bytes([ids[square(x, y, i)]]))


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory()
        cls.dir = pathlib.Path(cls.holder.name)
        for part in ("images", "masks"):
            (cls.dir / "set" / part).mkdir(parents=True)
        for i in range(4):
            (cls.dir / "set" / "images" / f"{i}.png").write_bytes(image(i))
            (cls.dir / "set" / "masks" / f"{i}.png").write_bytes(mask(i))
        (cls.dir / "scene.png").write_bytes(png(131, 97, 3, lambda x, y: bytes((x % 256, y % 256, (x + y) % 256))))
        cls.weights = cls.dir / "run" / "weights.safetensors"
        cls.train("run", "--steps", "12")

    @classmethod
    def tearDownClass(cls):
        cls.holder.cleanup()

    @classmethod
    def command(cls, *args):
        return [RSSEG, *map(str, args)]

    @classmethod
    def train_command(cls, out, *more):
        return cls.command("train", "--net", "unet-16", "--data", cls.dir / "set", "--val", cls.dir / "set", "--crop", 32, "--batch", 2, "--seed", 3, "--evaluate-every", 0, "--threads", 1,
                           "--out", cls.dir / out, *more)

    @classmethod
    def train(cls, out, *more):
        subprocess.run(cls.train_command(out, *more), check=True, capture_output=True)

    def run_ok(self, *args):
        r = subprocess.run(self.command(*args), capture_output=True, text=True)
        self.assertEqual(r.returncode, 0, r.stderr)
        return r.stdout

    def refused(self, code, words, *args, **options):
        """One line that holds the words, the exit code, and no new file at `-o`."""
        r = subprocess.run(self.command(*args), capture_output=True, text=True, errors="replace", **options)
        self.assertEqual(r.returncode, code, r.stderr)
        errors = [l for l in r.stderr.splitlines() if l.startswith("rsseg: error: ")]
        self.assertEqual(len(errors), 1, r.stderr)
        for w in [words] if isinstance(words, str) else words:
            self.assertIn(w, errors[0])
        self.assertNotIn("terminate", r.stderr)
        return errors[0]


class Works(Case):
    def test_list_and_describe(self):
        names = {n["name"] for n in json.loads(self.run_ok("list", "--json"))}
        self.assertTrue({"unet", "segnet", "pspnet-resnet50", "deeplabv3plus-resnet101", "hrnetv2-w18", "icnet", "sga-net"} <= names)
        facts = json.loads(self.run_ok("describe", "unet", "--classes", 6, "--json", "--input", "1,3,64,64"))
        self.assertEqual(facts["parameters"], 31037958)
        self.assertEqual(facts["output"], [1, 6, 64, 64])
        self.assertIn("digraph", self.run_ok("describe", "unet-16", "--dot"))
        self.assertIn("flowchart", self.run_ok("describe", "unet-16", "--mermaid"))
        huge = json.loads(self.run_ok("describe", "unet-16", "--json", "--input", "1,3,100000,100000"))  # says what it would take, takes nothing
        self.assertGreater(huge["inference_bytes"], 1 << 40)
        parts = json.loads(self.run_ok("describe", "unet-16", "--json", "--layers", "--memory", "--input", "1,3,64,64"))
        self.assertEqual(sum(l["macs"] for l in parts["layers"]), parts["macs"])
        self.assertLessEqual(parts["memory"]["inference"]["arena_bytes"], parts["inference_bytes"])
        self.assertTrue(any(v["backward"] for v in parts["memory"]["training"]["values"]))
        self.assertIn("potsdam", [s["name"] for s in json.loads(self.run_ok("dataset", "list", "--json"))])
        text = self.run_ok("describe", "unet-16", "--memory", "--input", "1,3,64,64")
        self.assertIn("arena of inference", text)
        self.assertIn("arena of a training step", text)
        self.assertIn("in place", text)

    def test_train_leaves_what_it_promises(self):
        for name in ("weights.safetensors", "checkpoint.safetensors", "log.jsonl", "report.html"):
            self.assertGreater((self.dir / "run" / name).stat().st_size, 100, name)
        self.assertIn("<svg", (self.dir / "run" / "report.html").read_text())

    def test_normalization_follows_the_samples(self):
        """ImageNet's numbers are for 8 bits: three bands of 16 are measured, whatever part of their range they use."""
        def chunk(kind, data):
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        rows = b"".join(b"\0" + b"".join(struct.pack(">3H", 400 + 9 * x, 900 + y, 50) for x in range(48)) for y in range(48))
        wide = self.dir / "wide"
        for part in ("images", "masks"):
            (wide / part).mkdir(parents=True)
        (wide / "images" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 48, 48, 16, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
        (wide / "masks" / "0.png").write_bytes(mask(0))
        def normalization(weights):
            data = weights.read_bytes()
            return json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])["__metadata__"]["rsseg.normalize"]
        self.assertEqual(normalization(self.weights), "imagenet")
        self.run_ok("-q", "train", "--net", "unet-16", "--data", wide, "--crop", 32, "--batch", 1, "--steps", 1, "--workers", 0, "--threads", 1, "--out", self.dir / "wide-run")
        means, deviations = normalization(self.dir / "wide-run" / "weights.safetensors").split("/")
        self.assertTrue(all(float(m) < 0.02 for m in means.split(",")), means)
        self.assertTrue(float(deviations.split(",")[0]) < 0.01, deviations)

    def test_eval_needs_no_repetition(self):
        scores = json.loads(self.run_ok("eval", "--weights", self.weights, "--data", self.dir / "set", "--json", "--quiet"))
        self.assertEqual(len(scores["classes"]), 2)
        self.assertTrue(0 <= scores["pixel_accuracy"] <= 1)

    def test_losses_weights_and_samplers(self):
        weights = self.dir / "class_weights.json"
        weights.write_text("[0.5, 2]")
        for number, options in enumerate((["--loss", "focal:gamma=3", "--class-weights", "median-frequency"],
                                          ["--loss", "ce:smoothing=0.1+0.5*dice:smooth=0,present", "--class-weights", weights],
                                          ["--loss", "ohem:threshold=0.9,kept=0.1+tversky:alpha=0.5,beta=0.5", "--sampler", "balanced"],
                                          ["--loss", "lovasz:per-image+jaccard", "--sampler", "images", "--class-weights", "effective:0.99"])):
            out = self.dir / f"loss{number}"
            self.train(out, "--steps", "2", *map(str, options))
            lines = [json.loads(l) for l in (out / "log.jsonl").read_text().splitlines()]
            self.assertTrue(0 < lines[0]["loss"] < 20, options)
        # What a checkpoint was made with is not changed under way.
        r = subprocess.run(self.train_command("loss0", "--steps", "2", "--loss", "focal:gamma=1", "--class-weights", "median-frequency", "--resume"), capture_output=True, text=True)
        self.assertEqual(r.returncode, 3)
        self.assertIn("loss", r.stderr)
        r = subprocess.run(self.command("train", "--net", "enet", "--data", self.dir / "set", "--steps", 2, "--out", self.dir / "loss0", "--resume"), capture_output=True, text=True)
        self.assertIn("network = \"unet-16\", now it is \"enet\"", r.stderr)

    def test_networks_with_stages(self):
        train = ["train", "--data", self.dir / "set", "--classes", 2, "--seed", 3, "--threads", 1, "--batch", 1, "--steps", 4, "--quiet"]
        self.run_ok(*train, "--net", "smaf-net", "--crop", 32, "--out", self.dir / "smaf")
        first = [json.loads(l) for l in (self.dir / "smaf" / "pretraining" / "log.jsonl").read_text().splitlines()]
        self.assertEqual(len(first), 2)
        self.assertTrue({"loss", "adversarial", "discriminator"} <= set(first[0]))
        self.run_ok(*train, "--net", "mcnn", "--crop", 96, "--lr", 0.01, "--out", self.dir / "mcnn")
        out = self.dir / "mcnn.png"
        self.run_ok("segment", self.dir / "scene.png", "-o", out, "--weights", self.dir / "mcnn" / "weights.safetensors", "--vote", 3, "--quiet")
        self.assertEqual(struct.unpack(">II", out.read_bytes()[16:24]), (131, 97))
        self.run_ok("eval", "--weights", self.dir / "mcnn" / "weights.safetensors", "--data", self.dir / "set", "--quiet")

    def test_segment_png(self):
        out = self.dir / "map.png"
        self.run_ok("segment", self.dir / "scene.png", "-o", out, "--weights", self.weights, "--tile", 64, "--overlay", self.dir / "over.png", "--quiet")
        w, h = struct.unpack(">II", out.read_bytes()[16:24])
        self.assertEqual((w, h), (131, 97))
        half = self.dir / "half.png"
        self.run_ok("segment", self.dir / "scene.png", "-o", half, "--weights", self.weights, "--tile", 64, "--precision", "bf16", "--quiet")
        self.assertEqual(struct.unpack(">II", half.read_bytes()[16:24]), (131, 97))

    def test_bench(self):
        r = json.loads(self.run_ok("bench", "unet-16", "--input", "1,3,64,64", "--runs", 2, "--json"))
        for key in ("median_s", "min_s", "max_s", "peak_bytes", "flops"):
            self.assertGreater(r[key], 0, key)

    def test_recomputation_is_the_default(self):
        step = ["bench", "unet-16", "--train", "--input", "2,3,64,64", "--runs", 1, "--json"]
        arena = [json.loads(self.run_ok(*step, *more))["arena_bytes"] for more in ([], ["--recompute"], ["--no-recompute"])]
        self.assertEqual(arena[0], arena[1])
        self.assertLess(arena[0], 0.9 * arena[2])
        self.refused(2, "--train", "bench", "unet-16", "--no-recompute")

    def test_interruption_of_what_cannot_go_on(self):
        p = subprocess.Popen(self.command("bench", "unet-16", "--input", "1,3,256,256", "--runs", 10000, "--json"), stdout=subprocess.PIPE)
        time.sleep(1)
        p.send_signal(signal.SIGINT)
        self.assertEqual((p.communicate(timeout=60)[0], p.returncode), (b"", 130))

    def test_stop_and_resume_give_the_same_bits(self):
        reference = self.weights.read_bytes()
        # interrupted by Ctrl-C
        p = subprocess.Popen(self.train_command("stopped", "--steps", "12"), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        log = self.dir / "stopped" / "log.jsonl"
        for _ in range(2000):
            if log.exists() and len(log.read_text().splitlines()) >= 3:
                break
            time.sleep(0.01)
        p.send_signal(signal.SIGINT)
        p.communicate()
        self.assertIn(p.returncode, (0, 130))
        if p.returncode == 130:
            self.train("stopped", "--steps", "12", "--resume")
        self.assertEqual((self.dir / "stopped" / "weights.safetensors").read_bytes(), reference)
        # killed without warning, several times
        for delay in range(3):
            p = subprocess.Popen(self.train_command("killed", "--steps", "12", "--checkpoint-steps", "1", "--resume"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            log = self.dir / "killed" / "log.jsonl"
            for _ in range(2000):
                if p.poll() is not None or (log.exists() and len(log.read_text().splitlines()) >= 3 * (delay + 1)):
                    break
                time.sleep(0.003)
            p.kill()
            p.wait()
        self.train("killed", "--steps", "12", "--resume")
        self.assertEqual((self.dir / "killed" / "weights.safetensors").read_bytes(), reference)


class Refuses(Case):
    def test_wrong_words(self):
        self.refused(2, ["unknown command", "frobnicate"], "frobnicate")
        self.refused(2, "--frob", "list", "--frob")
        self.refused(2, ["unknown network 'nope'", "rsseg list"], "describe", "nope")
        self.refused(2, "--input", "describe", "unet", "--input", "1,3,512")
        self.refused(2, ["fpn-resnet18, input 33x33", "multiples of 32"], "describe", "fpn-resnet18", "--input", "1,3,33,33")
        self.refused(5, ["MiB", "layer"], "bench", "unet-16", "--train", "--input", "1,3,30000,30000")
        self.refused(3, "expected a .json file", "parity", "/")
        self.refused(2, "loss \"magic\"", "train", "--net", "unet-16", "--data", self.dir / "set", "--steps", 1, "--loss", "magic", "--out", self.dir / "x")
        self.refused(2, "--epochs", "train", "--net", "unet-16", "--data", self.dir / "set", "--out", self.dir / "x")
        for words, option in (("gamma=-1", ["--loss", "focal:gamma=-1"]), ("class weights", ["--class-weights", "nowhere.txt"]), ("sampler", ["--sampler", "magic"]),
                              ("edge loss", ["--edge-loss", "magic"])):
            self.refused(2, words, "train", "--net", "unet-16", "--data", self.dir / "set", "--steps", 1, "--out", self.dir / "x", *option)
        train = ["train", "--net", "unet-16", "--data", self.dir / "set", "--out", self.dir / "x"]
        self.refused(2, "optimizer", *train, "--steps", 1, "--optimizer", "magic")
        # Numbers that are none, or that an unsigned type would turn into others; and messages that fit a line.
        for option, value, words in (("--lr", "nan", "above 0"), ("--lr", "0", "above 0"), ("--minutes", "inf", "above 0"), ("--clip", "-1", "0 or more"), ("--ema", "nan", "0 to 0.99999"),
                                     ("--steps", "-3", "whole number of 1"), ("--epoch-draws", "-1", "whole number"), ("--seed", "x", "whole number"), ("--tile", "-5", "16")):
            self.assertLess(len(self.refused(2, [option, words], *train, *(["--steps", 1] if option != "--steps" else []), option, value)), 160)
        self.refused(2, ["--coarse", "refiners"], *train, "--steps", 1, "--coarse", "x.safetensors")
        self.refused(5, ["batch of 4000", "--crop"], *train, "--steps", 1, "--crop", 2048, "--batch", 4000)
        self.refused(2, "rsseg classical map --help", "classical", "map", "a.png")
        with open("/dev/full", "w") as full:
            r = subprocess.run(self.command("list"), stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual((r.returncode, r.stderr.count("\n")), (4, 1))

    def test_devices(self):
        out = self.dir / "device.png"
        scene = ["segment", self.dir / "scene.png", "-o", out, "--weights", self.weights, "--tile", 64]
        self.refused(2, ["--device \"gpu\"", "cuda:N"], *scene, "--device", "gpu")
        self.refused(2, "precision \"fp8\"", *scene, "--device", "cuda", "--precision", "fp8")
        self.refused(2, ["tf32", "the CPU has fp32 and bf16"], *scene, "--precision", "tf32")
        self.refused(2, "here the CPU computes in fp32", "bench", "unet-16", "--input", "1,3,64,64", "--train", "--precision", "bf16")
        self.refused(2, "--engine is for --device cuda", *scene, "--engine", "cudnn")
        # without CUDA in the build, or without a driver: one line that says what to do, and nothing written
        for words in (scene, ["eval", "--weights", self.weights, "--data", self.dir / "set"], ["bench", "unet-16", "--input", "1,3,64,64", "--runs", 1],
                      ["train", "--net", "unet-16", "--data", self.dir / "set", "--steps", 1, "--crop", 64, "--batch", 1, "--out", self.dir / "device"],
                      ["train", "--net", "takahama", "--data", self.dir / "set", "--steps", 1, "--patch", 8, "--crop", 64, "--batch", 1, "--out", self.dir / "device-system"]):
            r = subprocess.run(self.command(*words, "--device", "cuda", "--quiet"), capture_output=True, text=True)
            if r.returncode == 0:
                continue  # there is a device
            self.assertIn(r.returncode, (1, 2), r.stderr)
            self.assertIn("rsseg: error: cuda: ", r.stderr)
            self.assertIn("on the CPU", r.stderr)
            self.assertFalse(out.exists())
            self.assertFalse((self.dir / "device-system").exists())

    def test_networks_and_data_that_do_not_fit(self):
        def train(words, *args, code=2):
            self.refused(code, words, "train", "--steps", 1, "--out", self.dir / "x", "--crop", 32, "--batch", 1, *args)
        other = {"more": (image(0), mask(0, ids=(0, 2))), "gray": (png(48, 48, 1, lambda x, y: b"\5"), mask(0))}
        for name, (picture, labels) in other.items():
            for part, data in (("images", picture), ("masks", labels)):
                (self.dir / name / part).mkdir(parents=True, exist_ok=True)
                (self.dir / name / part / "0.png").write_bytes(data)
        set_, more, gray = (self.dir / n for n in ("set", "more", "gray"))
        train(["unknown network 'unet-61'", "near: ", "unet-16"], "--net", "unet-61", "--data", set_)
        train(["'fusenet'", "its inputs are rgb, depth"], "--net", "fusenet", "--data", set_)
        train(["class id 2, but there are 2 classes", "--classes"], "--net", "unet-16", "--data", set_, "--val", more, code=3)
        train("images of 1 bands", "--net", "unet-16", "--data", set_, "--val", gray)
        self.refused(3, "class id 2, but there are 2 classes", "eval", "--weights", self.weights, "--data", more)
        self.refused(2, "the weights were trained on 3", "eval", "--weights", self.weights, "--data", gray)
        self.refused(2, ["has 2 classes", "--classes says 4"], "eval", "--weights", self.weights, "--data", set_, "--classes", 4)

    def test_images(self):
        out = self.dir / "never.png"
        def segment(code, words, data, name="bad.png"):
            path = self.dir / name
            if data is not None:
                path.write_bytes(data)
            self.refused(code, [name, *words], "segment", path, "-o", out, "--weights", self.weights)
            self.assertFalse(out.exists())
        segment(3, [], None, "missing.png")
        segment(3, [], b"")
        segment(3, [], b"this is a text, not a picture\n" * 20)
        segment(3, [], image(0)[: len(image(0)) // 2])
        segment(3, [], png(4, 4, 3, lambda x, y: b"\1\2\3", (100000, 100000)))
        segment(2, ["bands"], png(20, 20, 1, lambda x, y: b"\5"), "gray.png")
        # What can be seen before the work is said before the work; an error leaves nothing to go on from.
        for more in (["--overlay", self.dir / "o.xyz"], ["--overlay", self.dir / "nowhere" / "o.png"], ["--normalize", "0,0/1,1"], ["--refine", "magic"]):
            self.refused(4 if "nowhere" in str(more) else 2, "", "segment", self.dir / "scene.png", "-o", out, "--weights", self.weights, *more)
            self.assertEqual([p.name for p in self.dir.glob("never.png*")], [], more)
        self.refused(2, ["JPEG", "class ids"], "segment", self.dir / "scene.png", "-o", self.dir / "never.jpg", "--weights", self.weights)

    def test_weights(self):
        out = self.dir / "never.png"
        good = self.weights.read_bytes()
        def bad(data, name="w.safetensors", code=3):
            (self.dir / name).write_bytes(data)
            self.refused(code, name, "segment", self.dir / "scene.png", "-o", out, "--weights", self.dir / name)
        bad(b"")
        bad(good[:100])
        bad(good[: len(good) // 2])
        bad(b"\xff" * 200)
        bad(struct.pack("<Q", 1 << 60) + b"{}")
        self.refused(2, ["unet-16", "segnet"], "segment", self.dir / "scene.png", "-o", out, "--weights", self.weights, "--net", "segnet")
        self.refused(2, "classes", "segment", self.dir / "scene.png", "-o", out, "--weights", self.weights, "--classes", 9)
        self.assertFalse(out.exists())

    def test_data(self):
        def bad(words, change, code=3):
            with tempfile.TemporaryDirectory() as d:
                d = pathlib.Path(d)
                for part in ("images", "masks"):
                    (d / part).mkdir()
                (d / "images" / "a.png").write_bytes(image(0))
                (d / "masks" / "a.png").write_bytes(mask(0))
                change(d)
                self.refused(code, words, "train", "--net", "unet-16", "--data", d, "--classes", 2, "--crop", 32, "--batch", 1, "--steps", 2, "--out", d / "out")
        bad("a.png", lambda d: (d / "masks" / "a.png").write_bytes(mask(0, 40)))
        bad(["a.png", "7"], lambda d: (d / "masks" / "a.png").write_bytes(mask(0, ids=(0, 7))))
        bad("a.png", lambda d: (d / "images" / "a.png").write_bytes(image(0)[:200]))
        bad(["classes.json", "magic"], lambda d: (d / "classes.json").write_text('{"names": ["a", "b"], "mask": "magic"}'))
        bad("", lambda d: ((d / "masks" / "a.png").unlink(), (d / "images" / "a.png").unlink()))
        self.refused(3, "nowhere", "train", "--net", "unet-16", "--data", self.dir / "nowhere", "--steps", 1, "--out", self.dir / "x")

    def test_loss_that_is_no_number(self):
        self.refused(6, ["step", "--lr"], "train", "--net", "unet-16", "--data", self.dir / "set", "--crop", 32, "--batch", 2, "--optimizer", "sgd", "--lr", "1e30", "--steps", 30, "--out", self.dir / "nan")

    def test_outputs(self):
        self.refused(4, "nowhere", "segment", self.dir / "scene.png", "-o", self.dir / "nowhere" / "map.png", "--weights", self.weights)
        self.refused(2, "input", "segment", self.dir / "scene.png", "-o", self.dir / "scene.png", "--weights", self.weights)
        (self.dir / "file").write_text("x")
        self.refused(4, "file", "train", "--net", "unet-16", "--data", self.dir / "set", "--steps", 1, "--out", self.dir / "file" / "run")
        # A full disk, as a limit on file sizes: nothing half-written stays.
        def small_files():
            resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
        out = self.dir / "full"
        self.refused(4, "", "train", "--net", "unet-16", "--data", self.dir / "set", "--crop", 32, "--batch", 1, "--steps", 1, "--out", out, preexec_fn=small_files)
        self.assertFalse((out / "weights.safetensors").exists())
        self.assertFalse((out / "checkpoint.safetensors").exists())

    def test_memory(self):
        self.refused(5, ["MiB", "smaller"], "segment", self.dir / "scene.png", "-o", self.dir / "m.png", "--weights", self.weights, "--max-memory", 1)

    def test_systems(self):
        """All stages, each resumable; modes; odd scenes; what is missing."""
        self.assertIn("glnet-compact", [s["name"] for s in json.loads(self.run_ok("--json", "list", "--systems"))])
        run = self.dir / "system"
        train = ["train", "--net", "takahama", "--data", self.dir / "set", "--patch", 8, "--crop", 64, "--batch", 1, "--workers", 0, "--threads", 1, "--out", run]
        self.refused(3, ["patches", "--stage patches"], *train, "--steps", 1, "--stage", "grid")
        self.refused(2, ["first", "end-to-end"], *train, "--steps", 1, "--stage", "first")
        r = json.loads(self.run_ok("--json", *train, "--val", self.dir / "set", "--steps", 3))
        self.assertEqual([s["steps"] for s in r["stages"].values()], [3, 3, 3])
        bits = (run / "end-to-end" / "weights.safetensors").read_bytes()
        self.run_ok("-q", *train, "--val", self.dir / "set", "--steps", 3, "--resume")  # nothing is left to do
        self.assertEqual(bits, (run / "end-to-end" / "weights.safetensors").read_bytes())
        (self.dir / "dot.png").write_bytes(png(1, 1, 3, lambda x, y: b"abc"))
        for scene in ("scene.png", "dot.png"):
            for mode in ("fusion", "patches"):
                self.run_ok("-q", "segment", self.dir / scene, "-o", self.dir / "system.png", "--weights", run, "--mode", mode)
        self.refused(2, ["best", "fusion"], "segment", self.dir / "scene.png", "-o", self.dir / "m.png", "--weights", run, "--mode", "best")
        self.refused(2, "--view", "segment", self.dir / "scene.png", "-o", self.dir / "m.png", "--weights", run, "--view", 50)
        self.refused(2, "glnet", "segment", self.dir / "scene.png", "-o", self.dir / "m.png", "--weights", run, "--net", "glnet")
        self.refused(2, "--mode", "segment", self.dir / "scene.png", "-o", self.dir / "m.png", "--weights", self.weights, "--mode", "both")
        (run / "end-to-end" / "weights.safetensors").unlink()
        self.refused(3, ["end-to-end", "missing"], "segment", self.dir / "scene.png", "-o", self.dir / "m.png", "--weights", run)
        # Masks that say nothing: no pixel is learnt from, nothing becomes a number that is none.
        blank = self.dir / "blank"
        for part in ("images", "masks"):
            (blank / part).mkdir(parents=True)
        (blank / "images" / "0.png").write_bytes(image(0))
        (blank / "masks" / "0.png").write_bytes(mask(0, ids=(255, 255)))
        out = json.loads(self.run_ok("--json", "train", "--net", "takahama", "--data", blank, "--classes", 2, "--patch", 8, "--crop", 32, "--batch", 1, "--workers", 0,
                                     "--steps", 1, "--threads", 1, "--out", self.dir / "blank-run"))
        self.assertEqual([s["loss"] for s in out["stages"].values()], [0, 0, 0])

    def test_sets_of_almost_nothing(self):
        """One pixel, masks that say nothing, scenes smaller than a tile: through train, eval, segment, its stages, and classical."""
        dot, blank, odd = (self.dir / name for name in ("dot-set", "blank-set", "odd"))
        for folder, picture, label in ((dot, png(1, 1, 3, lambda x, y: b"abc"), png(1, 1, 1, lambda x, y: b"\1")), (blank, image(0), mask(0, ids=(255, 255)))):
            for part in ("images", "masks"):
                (folder / part).mkdir(parents=True)
            (folder / "images" / "0.png").write_bytes(picture)
            (folder / "masks" / "0.png").write_bytes(label)
        (self.dir / "strip.png").write_bytes(png(40, 13, 3, lambda x, y: bytes((x * 6, y * 9, 77))))
        forest = self.command("classical", "train", "--data", self.dir / "set", "--samples", 40, "--trees", 3, "--out", self.dir / "c.yml")
        r = subprocess.run(forest, capture_output=True, text=True)
        learners = "OpenCV" not in r.stderr  # a build may lack them
        self.assertEqual(r.returncode == 0, learners, r.stderr)
        few = ["--classes", 2, "--crop", 32, "--batch", 1, "--steps", 1, "--workers", 0, "--threads", 1]
        for folder in (dot, blank):  # validation without a labelled pixel leaves the last weights
            out = self.dir / (folder.name + "-run")
            r = subprocess.run(self.command("train", "--net", "unet-16", "--data", folder, "--val", blank, "--out", out, *few), capture_output=True, text=True)
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertEqual("so that nothing is learnt" in r.stderr, folder is blank, r.stderr)
            self.assertIn("which says nothing", r.stderr)
            self.assertNotIn("nan", r.stdout + r.stderr)
            self.assertTrue((out / "weights.safetensors").exists())
            self.run_ok("-q", "train", "--net", "iss-refiner", "--coarse", self.weights, "--data", folder, "--out", self.dir / (folder.name + "-iss"), *few)
            r = json.loads(self.run_ok("--json", "eval", "--weights", self.weights, "--data", folder, "--boundary", 3))
            self.assertEqual(r["pixels"], 1 if folder is dot else 0)
            self.assertIsNone(r["boundary_f1"])
            told = self.run_ok("eval", "--weights", self.weights, "--data", folder)
            self.assertNotIn("nan", told)
            self.assertEqual("no pixel has a label" in told, folder is blank)
            if learners:
                self.refused(2, "two classes", "classical", "train", "--data", folder, "--classes", 2, "--out", self.dir / "c2.yml")
        stages = ["densecrf", "guided", "regions", f"iss:weights={self.dir / 'blank-set-iss' / 'weights.safetensors'}"]
        for scene in ("strip.png", dot / "images" / "0.png"):
            for stage in stages:
                self.run_ok("-q", "segment", self.dir / scene, "-o", self.dir / "m.png", "--weights", self.weights, "--refine", stage)
            for more in ([], ["--over", "graph"], ["--over", "slic", "--unit", "region"], ["--crf", "grid"]) if learners else ():
                self.run_ok("-q", "classical", "map", self.dir / scene, "-o", self.dir / "m.png", "--model", self.dir / "c.yml", *more)
        self.refused(2, "needs weights", "segment", self.dir / "scene.png", "-o", self.dir / "m.tif", "--weights", self.weights, "--refine", "iss")
        self.refused(2, "unet-16", "segment", self.dir / "scene.png", "-o", self.dir / "m.tif", "--weights", self.weights, "--refine", f"iss:weights={self.weights}")
        if learners:
            self.refused(2, ["1 bands", "3"], "classical", "map", self.dir / "set" / "masks" / "0.png", "-o", self.dir / "m.tif", "--model", self.dir / "c.yml")
        # Inputs that do not go with their images.
        for part in ("images", "masks", "nir"):
            (odd / part).mkdir(parents=True)
        for i in range(2):
            (odd / "images" / f"{i}.png").write_bytes(image(i))
            (odd / "masks" / f"{i}.png").write_bytes(mask(i))
        several = ["train", "--net", "unet-16", "--data", odd, "--input", "rgb=images", "--input", "nir=nir", "--out", self.dir / "odd-run", "--crop", 32, "--batch", 4, "--steps", 2, "--workers", 0, "--threads", 1]
        nir = lambda w, h, c=1: png(w, h, c, lambda x, y: bytes([x * y % 256] * c))
        (odd / "nir" / "0.png").write_bytes(nir(24, 24))
        self.refused(3, ["nir", "no file called 1"], *several)
        (odd / "nir" / "1.png").write_bytes(nir(48, 7))
        self.refused(3, ["1.png", "48 x 7", "same extent"], *several)
        (odd / "nir" / "1.png").write_bytes(nir(24, 24, 3))
        self.refused(3, ["1.png", "3 bands"], *several)
        (odd / "nir" / "1.png").write_bytes(nir(24, 24))
        self.run_ok("-q", *several)
        weights = self.dir / "odd-run" / "weights.safetensors"
        self.refused(2, "nir", "segment", "--input", f"rgb={odd / 'images' / '0.png'}", "-o", self.dir / "m.tif", "--weights", weights)
        self.refused(2, "bands", "segment", odd / "images" / "0.png", "-o", self.dir / "m.tif", "--weights", weights)
        (self.dir / "nir.png").write_bytes(nir(40, 13))
        self.refused(2, "cannot cover", "segment", "--input", f"rgb={odd / 'images' / '0.png'}", "--input", f"nir={self.dir / 'nir.png'}", "-o", self.dir / "m.tif",
                     "--weights", weights)

    def test_manifests(self):
        for text in ("", "{", "[1, 2]", '{"format": 1}', '{"format": 1, "system": "nope", "variant": "x", "fill_prefix": ""}', '{"format": "magic 1"}'):
            path = self.dir / "m.json"
            path.write_text(text)
            self.refused(3, "m.json", "parity", path)
        self.refused(3, "none.json", "parity", self.dir / "none.json")


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=1).result
    bad = len(result.failures) + len(result.errors)
    # In the form of the other test programs, so that the cases are counted.
    print(f"[doctest] test cases: {result.testsRun} | {result.testsRun - bad} passed | {bad} failed | {len(result.skipped)} skipped")
    sys.exit(1 if bad else 0)
