"""Compresses the linears of a small checkpoint with the compressed-tensors package.

Runs in the interoperability Python: compress_model.py SOURCE OUT. Makes OUT/CASE as published
checkpoints look, OUT/CASE-plain with the package's own decompressed weights in F32, and
OUT/CASE-rounded with those in BF16.
"""
import json
import sys
from pathlib import Path

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams
from safetensors.torch import load_file, save_file

INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}
FP8 = {"num_bits": 8, "type": "float", "symmetric": True}
CASES = {
    "int4": ("pack-quantized", {**INT4, "symmetric": True}),
    "int4-asymmetric": ("pack-quantized", {**INT4, "symmetric": False}),
    "fp8-tensor": ("float-quantized", {**FP8, "strategy": "tensor"}),
    "fp8-channel": ("float-quantized", {**FP8, "strategy": "channel"}),
    "fp8-block": ("float-quantized", {**FP8, "strategy": "block", "block_structure": [16, 16]}),
    "int8": ("int-quantized", {"num_bits": 8, "type": "int", "strategy": "channel",
                               "symmetric": True}),
}


def extremes(weight, args):
    """The smallest and largest value of every part that has a scale of its own."""
    rows, columns = weight.shape
    if args["strategy"] == "tensor":
        return weight.min().view(1), weight.max().view(1)
    if args["strategy"] == "block":
        high, wide = args["block_structure"]
        parts = weight.view(rows // high, high, columns // wide, wide)
        return parts.amin((1, 3)), parts.amax((1, 3))
    parts = weight.view(rows, -1, args.get("group_size", columns))
    return parts.amin(-1), parts.amax(-1)


def compress(weight, layout, args):
    """The compressed tensors of a linear, and its weight as the package decompresses it."""
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**args))
    scale, zero = calculate_qparams(*extremes(weight, args), scheme.weights)
    compressor = BaseCompressor.get_value_from_registry(layout)
    state = {"weight": weight, "weight_scale": scale, "weight_zero_point": zero}
    compressed = compressor.compress(state, scheme)
    return compressed, compressor.decompress(dict(compressed), scheme)["weight"]


def write(folder, config, tensors):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})


def main():
    source, out = map(Path, sys.argv[1:3])
    config = json.loads((source / "config.json").read_text())
    tensors = load_file(str(source / "model.safetensors"))
    for case, (layout, args) in CASES.items():
        stored, plain = {}, {}
        for name, tensor in tensors.items():
            if not name.endswith("_proj.weight"):
                stored[name] = plain[name] = tensor
                continue
            compressed, wide = compress(tensor.float(), layout, args)
            for part, value in compressed.items():
                stored[name.removesuffix("weight") + part] = value
            plain[name] = wide.float()
        quantization = {"quant_method": "compressed-tensors", "format": layout,
                        "quantization_status": "compressed", "ignore": ["lm_head"],
                        "config_groups": {"group_0": {"targets": ["Linear"], "weights": args}}}
        write(out / case, {**config, "quantization_config": quantization}, stored)
        write(out / f"{case}-plain", config, plain)
        rounded = {name: tensor.bfloat16() for name, tensor in plain.items()}
        write(out / f"{case}-rounded", config, rounded)


if __name__ == "__main__":
    main()
