"""Reads, makes, changes and damages checkpoints with the standard library alone."""
import array
import json
import random
import shutil
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from halftone_cli import NANO_LLAMA

assert sys.byteorder == "little", "tensor bytes are read in the machine's own order"


@dataclass
class Tensor:
    dtype: str
    shape: list
    data: bytes


def read_header(path):
    """The header's JSON and where the tensors' bytes begin."""
    with open(path, "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        return json.loads(file.read(length)), 8 + length


def read_safetensors(path):
    header, begin = read_header(path)
    header.pop("__metadata__", None)
    content = Path(path).read_bytes()
    return {name: Tensor(entry["dtype"], entry["shape"],
                         content[begin + entry["data_offsets"][0]:begin + entry["data_offsets"][1]])
            for name, entry in header.items()}


def header_of(tensors):
    header = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape,
                        "data_offsets": [offset, offset + len(tensor.data)]}
        offset += len(tensor.data)
    return header


def write_raw_safetensors(path, header_text, data, length=None):
    """A file whose header may lie: any text, any announced length."""
    header = header_text.encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header) if length is None else length))
        file.write(header)
        file.write(data)


def write_safetensors(path, tensors):
    write_raw_safetensors(path, json.dumps(header_of(tensors)),
                          b"".join(tensor.data for tensor in tensors.values()))


def read_checkpoint_tensors(folder):
    """All tensors of a folder, whatever the number of files."""
    tensors = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        tensors.update(read_safetensors(path))
    return tensors


class Checkpoint:
    """A checkpoint in memory: change `config` and `tensors`, then save it elsewhere."""

    def __init__(self, source=NANO_LLAMA):
        self.source = Path(source)
        self.config = json.loads((self.source / "config.json").read_text())
        self.tensors = read_checkpoint_tensors(self.source)

    def save(self, folder, shards=1):
        folder = Path(folder)
        folder.mkdir(parents=True)
        for path in self.source.iterdir():
            if path.suffix != ".safetensors" and path.name != "config.json":
                shutil.copy(path, folder)
        (folder / "config.json").write_text(json.dumps(self.config, indent=2))
        if shards == 1:
            write_safetensors(folder / "model.safetensors", self.tensors)
        else:
            self._save_shards(folder, shards)
        return folder

    def _save_shards(self, folder, shards):
        names = list(self.tensors)
        weight_map = {}
        for shard in range(shards):
            file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
            # Dealt in turn, so that every layer lies in several files.
            part = {name: self.tensors[name] for name in names[shard::shards]}
            write_safetensors(folder / file, part)
            weight_map.update(dict.fromkeys(part, file))
        total = sum(len(tensor.data) for tensor in self.tensors.values())
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))


# Numbers

def floats_of(tensor):
    """The values of a BF16 or F32 tensor."""
    if tensor.dtype == "BF16":
        wide = array.array("I", (half << 16 for half in array.array("H", tensor.data)))
        return array.array("f", wide.tobytes())
    assert tensor.dtype == "F32", tensor.dtype
    return array.array("f", tensor.data)


def as_f32(tensor):
    return Tensor("F32", tensor.shape, floats_of(tensor).tobytes())


def as_f16(tensor):
    values = floats_of(tensor)
    return Tensor("F16", tensor.shape, struct.pack(f"<{len(values)}e", *values))


def bf16_tensor(values, shape):
    """Cuts the mantissa off: which BF16 values they become does not matter here."""
    words = array.array("I", array.array("f", values).tobytes())
    return Tensor("BF16", shape, array.array("H", (word >> 16 for word in words)).tobytes())


def with_values(tensor, changes):
    """A copy of a BF16 tensor with the values at some flat positions replaced."""
    data = bytearray(tensor.data)
    for position, value in changes.items():
        data[2 * position:2 * position + 2] = struct.pack("<f", value)[2:]
    return Tensor(tensor.dtype, tensor.shape, bytes(data))


# Variants of a model whose perplexities reference_perplexity.json holds

LLAMA3_SCALING = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                  "high_freq_factor": 4.0, "original_max_position_embeddings": 64}


def with_attention_bias(checkpoint, seed=1):
    draw = random.Random(seed)
    checkpoint.config["attention_bias"] = True
    for name in [name for name in checkpoint.tensors if ".self_attn." in name]:
        rows = checkpoint.tensors[name].shape[0]
        checkpoint.tensors[name.replace(".weight", ".bias")] = bf16_tensor(
            [draw.uniform(-0.3, 0.3) for _ in range(rows)], [rows])
    return checkpoint


def with_tied_head(checkpoint):
    checkpoint.config["tie_word_embeddings"] = True
    del checkpoint.tensors["lm_head.weight"]
    return checkpoint


def with_llama3_rope(checkpoint, spelling):
    """`spelling`: "rope_parameters" (newer configs) or "rope_scaling" (older ones)."""
    theta = checkpoint.config.pop("rope_parameters")["rope_theta"]
    checkpoint.config[spelling] = dict(LLAMA3_SCALING)
    if spelling == "rope_parameters":
        checkpoint.config[spelling]["rope_theta"] = theta
    else:
        checkpoint.config["rope_theta"] = theta
    return checkpoint


# Norms, and the linears that read what they make.
NORM_READERS = {"input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
                "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj")}


def with_outliers(checkpoint, scales=(32.0, 64.0), stride=37):
    """Activation outliers as large models have them, without changing the function: some channels
    of every norm grow, and the columns that read them shrink by as much. Powers of two are exact."""
    def scale(name, first, factor):
        tensor = checkpoint.tensors[name]
        values, columns = floats_of(tensor), tensor.shape[-1]
        chosen = {c: factor(scales[i % len(scales)])
                  for i, c in enumerate(range(first, columns, stride))}
        checkpoint.tensors[name] = with_values(
            tensor, {row + c: values[row + c] * by
                     for row in range(0, len(values), columns) for c, by in chosen.items()})
    for layer in range(checkpoint.config["num_hidden_layers"]):
        for number, (norm, readers) in enumerate(NORM_READERS.items()):
            first = 3 + 5 * number
            scale(f"model.layers.{layer}.{norm}.weight", first, lambda by: by)
            for reader in readers:
                scale(f"model.layers.{layer}.{reader}.weight", first, lambda by: 1 / by)
    return checkpoint


VARIANTS = {
    "nano-llama": lambda checkpoint: checkpoint,
    "attention_bias": with_attention_bias,
    "tied": with_tied_head,
    "llama3_rope": lambda checkpoint: with_llama3_rope(checkpoint, "rope_parameters"),
}
