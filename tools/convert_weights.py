#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Converts a PyTorch checkpoint (.pth, .pt) into safetensors, which rsseg reads. Needs nothing but Python 3.8: no torch, no numpy.

usage: convert_weights.py IN.pth OUT.safetensors [--key state_dict] [--strip-prefix module.] [--drop REGEX] [--metadata k=v] [--list]

A .pth is a pickle, and unpickling can run code. This script does not: it knows the few names a state dict is made of and refuses all
others. Names and values are kept as they are (fp16 and bf16 included); num_batches_tracked counters, which no inference reads, are
left out. Understands the zip format of PyTorch >= 1.6 and the older one of many published weights.
"""
import argparse
import collections
import io
import json
import os
import pickle
import re
import struct
import sys
import zipfile

# storage class -> (safetensors dtype, bytes)
TYPES = {"DoubleStorage": ("F64", 8), "FloatStorage": ("F32", 4), "HalfStorage": ("F16", 2), "BFloat16Storage": ("BF16", 2),
         "LongStorage": ("I64", 8), "IntStorage": ("I32", 4), "ShortStorage": ("I16", 2), "CharStorage": ("I8", 1),
         "ByteStorage": ("U8", 1), "BoolStorage": ("BOOL", 1)}
DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32", "int16": "I16",
          "int8": "I8", "uint8": "U8", "bool": "BOOL"}


class Failure(Exception):
    pass


class Storage:
    """A block of values; `read` gives its bytes once they are known."""

    def __init__(self, kind, read=None):
        self.dtype, self.size = TYPES[kind]
        self.read = read


class Tensor:
    def __init__(self, storage, offset, shape, stride):
        self.storage, self.offset, self.shape, self.stride = storage, offset, tuple(shape), tuple(stride)

    def count(self):
        n = 1
        for d in self.shape:
            n *= d
        return n

    def data(self):
        """The values in row-major order, as bytes."""
        size, count = self.storage.size, self.count()
        if count == 0:
            return b""
        raw = memoryview(self.storage.read())
        last = self.offset + sum((d - 1) * s for d, s in zip(self.shape, self.stride))
        if self.offset < 0 or min(self.stride, default=0) < 0 or (last + 1) * size > len(raw):
            raise Failure("a tensor reaches beyond its storage: the file is damaged")
        expected, dense = 1, True
        for d, s in zip(reversed(self.shape), reversed(self.stride)):
            dense &= d == 1 or s == expected
            expected *= d
        if dense:
            return raw[self.offset * size:(self.offset + count) * size]
        # transposed or channels-last: gather value by value
        places = [self.offset]
        for d, s in zip(self.shape, self.stride):
            places = [p + i * s for p in places for i in range(d)]
        return b"".join(raw[p * size:(p + 1) * size] for p in places)


class Ignored:
    """Stands for objects of a checkpoint that are no tensors (arguments, dtypes, devices)."""

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass


class Namespace(Ignored):
    def __setstate__(self, state):
        self.__dict__.update(state if isinstance(state, dict) else {})


class StorageType:
    def __init__(self, kind):
        self.kind = kind


def rebuild_tensor(storage, offset, shape, stride, *_):
    return Tensor(storage, offset, shape, stride)


def rebuild_parameter(data, *_):
    return data


class Reader(pickle.Unpickler):
    def __init__(self, stream, load):
        super().__init__(stream, encoding="utf-8")
        self.load_storage = load

    def find_class(self, module, name):
        if module == "collections" and name in ("OrderedDict", "defaultdict"):
            return collections.OrderedDict if name == "OrderedDict" else dict
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_tensor"):
            return rebuild_tensor
        if module == "torch._utils" and name in ("_rebuild_parameter", "_rebuild_parameter_with_state"):
            return rebuild_parameter
        if module == "torch._tensor" and name == "_rebuild_from_type_v2":
            return lambda function, kind, args, state: function(*args)
        if module in ("torch", "torch.storage", "torch.cuda") and name in TYPES:
            return StorageType(name)
        if module == "torch" and (name in DTYPES or name in ("Size", "device")):
            return tuple if name == "Size" else Ignored
        if module == "argparse" and name == "Namespace":
            return Namespace
        if module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.dtypes", "_codecs", "pathlib"):
            return Ignored  # scalars beside the weights: best scores, paths
        if (module, name) in (("torch.nn.parameter", "Parameter"), ("torch", "Tensor")):
            return Ignored
        raise Failure(f"the checkpoint holds a {module}.{name}, more than a state dict: save model.state_dict() and convert that")

    def persistent_load(self, pid):
        if not isinstance(pid, tuple) or not pid or pid[0] not in ("storage", b"storage") or not isinstance(pid[1], StorageType):
            raise Failure("unknown kind of storage")
        return self.load_storage(pid[1].kind, str(pid[2]))


def read_zip(path):
    archive = zipfile.ZipFile(path)
    names = {n.split("/", 1)[1]: n for n in archive.namelist() if "/" in n}
    if "data.pkl" not in names:
        raise Failure("a zip file without data.pkl: not a PyTorch checkpoint")
    if "byteorder" in names and archive.read(names["byteorder"]) not in (b"little", b""):
        raise Failure("written on a big-endian machine: load and save it again on a little-endian one")
    if "constants.pkl" in names:
        raise Failure("a TorchScript archive: save its state_dict() with torch.save and convert that")
    blocks = {}

    def load(kind, key):
        if key not in blocks:
            blocks[key] = Storage(kind, lambda: archive.read(names["data/" + key]))
        return blocks[key]

    return Reader(io.BytesIO(archive.read(names["data.pkl"])), load).load()


def read_legacy(path):
    """Pickles in a row (magic, protocol, machine, object, storage keys), then each storage: a count of values and the values."""
    stream = open(path, "rb")
    blocks = {}

    def load(kind, key):
        return blocks.setdefault(key, Storage(kind))

    if Reader(stream, load).load() != 0x1950A86A20F9469CFC6C:
        raise Failure("not a PyTorch checkpoint")
    Reader(stream, load).load()
    machine = Reader(stream, load).load()
    if not machine.get("little_endian", True):
        raise Failure("written on a big-endian machine")
    content = Reader(stream, load).load()
    for key in Reader(stream, load).load():
        count = struct.unpack("<q", stream.read(8))[0]
        block = blocks[str(key)]
        data = stream.read(count * block.size)
        if count < 0 or len(data) != count * block.size:
            raise Failure("truncated: copy it again")
        block.read = lambda data=data: data
    return content


def state_of(content, key):
    """The dictionary of tensors, which training scripts like to wrap."""
    if key:
        for part in key.split("."):
            if not isinstance(content, dict) or part not in content:
                raise Failure(f"no '{part}' in it; there are: {', '.join(map(str, content)) if isinstance(content, dict) else 'no keys'}")
            content = content[part]
    else:
        for name in ("state_dict", "model", "model_state", "model_state_dict", "net", "weights"):
            if isinstance(content, dict) and isinstance(content.get(name), dict):
                content = content[name]
                break
    if not isinstance(content, dict):
        raise Failure("not a dictionary of tensors: save model.state_dict() and convert that")
    return content


def convert(options):
    with open(options.input, "rb") as file:
        zipped = file.read(2) == b"PK"
    if zipped and not zipfile.is_zipfile(options.input):
        raise Failure("truncated: copy it again")
    read = read_zip if zipped else read_legacy
    state = state_of(read(options.input), options.key)
    tensors, left_out = collections.OrderedDict(), []
    for name, value in state.items():
        name = str(name)
        for prefix in options.strip_prefix:
            if name.startswith(prefix):
                name = name[len(prefix):]
        if not isinstance(value, Tensor) or name.endswith("num_batches_tracked") or any(re.search(d, name) for d in options.drop):
            left_out.append(name)
        elif name in tensors:
            raise Failure(f"two tensors are called '{name}' once the prefix is gone")
        else:
            tensors[name] = value
    if not tensors:
        keys = ", ".join(map(str, list(state)[:8]))
        raise Failure(f"holds no tensors under this key; there are: {keys}: choose one with --key")
    if options.list:
        for name, t in tensors.items():
            print(f"{name}\t{t.storage.dtype}\t{list(t.shape)}")
        return
    if not options.output:
        raise Failure("no name for the output given (or use --list)")
    header, at = collections.OrderedDict(), 0
    if options.metadata:
        header["__metadata__"] = dict(m.split("=", 1) for m in options.metadata)
    for name, t in tensors.items():
        size = t.count() * t.storage.size
        header[name] = {"dtype": t.storage.dtype, "shape": list(t.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    temporary = options.output + ".tmp"
    try:
        with open(temporary, "wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            for t in tensors.values():
                out.write(t.data())
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, options.output)
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
    values = sum(t.count() for t in tensors.values())
    print(f"{options.output}: {len(tensors)} tensors, {values} values, {at} bytes; left out: {len(left_out)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog="see the top of this file for more")
    parser.add_argument("input", help="checkpoint of torch.save (.pth, .pt)")
    parser.add_argument("output", nargs="?", help=".safetensors to write")
    parser.add_argument("--key", default="", help="where the state dict is inside the checkpoint, with dots (default: found by its usual names)")
    parser.add_argument("--strip-prefix", action="append", default=[], metavar="TEXT", help="removed from the start of names, e.g. module. (repeatable)")
    parser.add_argument("--drop", action="append", default=[], metavar="REGEX", help="leave out tensors whose name matches (repeatable)")
    parser.add_argument("--metadata", action="append", default=[], metavar="KEY=VALUE", help="text stored in the file (repeatable), e.g. net=UNet")
    parser.add_argument("--list", action="store_true", help="only print names, types and shapes")
    options = parser.parse_args()
    if any("=" not in m for m in options.metadata):
        parser.error("--metadata expects KEY=VALUE")
    try:
        convert(options)
    except Failure as problem:
        sys.exit(f"convert_weights: {options.input}: {problem}")
    except (OSError, re.error) as problem:
        sys.exit(f"convert_weights: {problem}")
    except (pickle.UnpicklingError, zipfile.BadZipFile, struct.error, EOFError, KeyError, ValueError, IndexError, TypeError, AttributeError) as problem:
        sys.exit(f"convert_weights: {options.input}: not a PyTorch checkpoint, or damaged ({type(problem).__name__}: {problem})")


if __name__ == "__main__":
    main()
