"""Faults planted into exported checkpoints, each with the rule that must find it."""
import json
import math
import shutil
import struct
from pathlib import Path

from checkpoints import Checkpoint, Tensor, read_safetensors, write_safetensors

LAYER = "model.layers.1."
Q, K = LAYER + "self_attn.q_proj", LAYER + "self_attn.k_proj"
GATE, UP, DOWN = (LAYER + f"mlp.{name}_proj" for name in ("gate", "up", "down"))
NORM = LAYER + "input_layernorm.weight"
INDEX = "model.safetensors.index.json"


def f32(value, shape=()):
    return Tensor("F32", list(shape), struct.pack("<f", value))


def edit_json(path, change):
    content = json.loads(Path(path).read_text())
    change(content)
    Path(path).write_text(json.dumps(content))


def edit_configs(folder, change):
    """`change` gets the object of config.json and the one of hf_quant_config.json."""
    edit_json(folder / "config.json", lambda config: change(config["quantization_config"], "ignore"))
    edit_json(folder / "hf_quant_config.json",
              lambda config: change(config["quantization"], "exclude_modules"))


class Fault:
    """`rule`: what verify must call it. `base`: the export it is planted in. `against`: whether it
    shows beside the source only."""

    def __init__(self, rule, plant, base="llama", against=False, warning=False):
        self.rule, self.plant, self.base = rule, plant, base
        self.against, self.warning = against, warning


FAULTS = {}


def fault(rule, **options):
    def add(function):
        FAULTS[function.__name__] = Fault(rule, function, **options)
        return function
    return add


def in_tensors(rule, **options):
    """For faults that change the tensors of the checkpoint alone."""
    def add(function):
        def plant(source, folder):
            checkpoint = Checkpoint(source)
            function(checkpoint.tensors)
            checkpoint.save(folder, shards=2)
        FAULTS[function.__name__] = Fault(rule, plant, **options)
        return function
    return add


def in_files(rule, **options):
    """For faults in the files of a copy with several of them."""
    def add(function):
        def plant(source, folder):
            Checkpoint(source).save(folder, shards=3)
            function(folder)
        FAULTS[function.__name__] = Fault(rule, plant, **options)
        return function
    return add


def in_configs(rule, **options):
    def add(function):
        def plant(source, folder):
            shutil.copytree(source, folder)
            function(folder)
        FAULTS[function.__name__] = Fault(rule, plant, **options)
        return function
    return add


def shard(folder, number):
    return folder / f"model-{number:05d}-of-00003.safetensors"


# Scales

@in_tensors("zero-scale")
def zero_scale(tensors):
    tensors[DOWN + ".weight_scale_2"] = f32(0.0)


@in_tensors("zero-scale")
def zero_block_scale(tensors):
    set_byte(tensors, DOWN + ".weight_scale", 5, 0)


@in_tensors("nan-scale")
def nan_scale(tensors):
    tensors[DOWN + ".input_scale"] = f32(math.nan)


@in_tensors("nan-scale")
def nan_block_scale(tensors):
    set_byte(tensors, DOWN + ".weight_scale", 7, 0x7F)


@in_tensors("infinite-scale")
def infinite_scale(tensors):
    tensors[DOWN + ".weight_scale_2"] = f32(math.inf)


@in_tensors("negative-scale")
def negative_scale(tensors):
    tensors[DOWN + ".weight_scale_2"] = f32(-0.001)


@in_tensors("negative-scale")
def negative_cache_scale(tensors):
    tensors[LAYER + "self_attn.k_proj.k_scale"] = f32(-0.01)


@in_tensors("unequal-input-scale")
def unequal_gate_up_input_scale(tensors):
    tensors[UP + ".input_scale"] = f32(0.5)


@in_tensors("unequal-second-scale")
def unequal_qkv_second_scale(tensors):
    tensors[K + ".weight_scale_2"] = f32(0.5)


@in_tensors("unequal-weight-scale", base="experts-fp8")
def unequal_scale_of_an_experts_pair(tensors):
    tensors[LAYER + "mlp.experts.3.up_proj.weight_scale"] = f32(0.5)


@in_tensors("unequal-pre-quant-scale", base="int8_sq")
def unequal_smoothing(tensors):
    set_byte(tensors, K + ".pre_quant_scale", 0, 0x12)


@in_tensors("unequal-expert-input-scales", base="experts", warning=True)
def unequal_inputs_of_experts(tensors):
    for name in ("gate", "up"):
        tensors[LAYER + f"mlp.experts.3.{name}_proj.input_scale"] = f32(0.5)


@in_tensors("kv-scales-all-one", warning=True)
def uncalibrated_cache(tensors):
    for name in tensors:
        if name.endswith(("k_scale", "v_scale")):
            tensors[name] = f32(1.0)


# Tensors that are missing, that should not be there, or of another kind

@in_tensors("missing-expert", base="experts")
def missing_expert(tensors):
    for name in [name for name in tensors if name.startswith(LAYER + "mlp.experts.5.")]:
        del tensors[name]


@in_tensors("dropped-tensor", base="mtp", against=True)
def dropped_next_token_tensor(tensors):
    del tensors["model.layers.2.eh_proj.weight"]


@in_tensors("missing-tensor")
def missing_norm(tensors):
    del tensors[NORM]


@in_tensors("missing-tensor")
def missing_weight(tensors):
    del tensors[DOWN + ".weight"]


@in_tensors("missing-scale")
def missing_second_scale(tensors):
    del tensors[DOWN + ".weight_scale_2"]


@in_tensors("missing-input-scale", base="fp8")
def missing_input_scale(tensors):
    del tensors[DOWN + ".input_scale"]


@in_tensors("missing-kv-scale")
def missing_cache_scale(tensors):
    del tensors[LAYER + "self_attn.v_proj.v_scale"]


@in_tensors("unexpected-tensor", base="fp8")
def scale_that_the_format_has_not(tensors):
    tensors[DOWN + ".weight_scale_2"] = f32(0.5)


@in_tensors("unexpected-tensor", against=True)
def tensor_that_the_source_has_not(tensors):
    tensors["model.extra.weight"] = tensors[NORM]


@in_tensors("unknown-tensor", warning=True)
def tensor_that_the_model_has_not(tensors):
    tensors["model.extra.weight"] = tensors[NORM]


@in_tensors("tied-duplicate", base="tied")
def tied_weight_duplicated(tensors):
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]


@in_tensors("wrong-dtype")
def wrong_dtype(tensors):
    scale = tensors[DOWN + ".weight_scale"]
    tensors[DOWN + ".weight_scale"] = Tensor("U8", scale.shape, scale.data)


@in_tensors("wrong-dtype", against=True)
def norm_of_another_dtype(tensors):
    tensors[NORM] = Tensor("F16", tensors[NORM].shape, tensors[NORM].data)


@in_tensors("wrong-shape")
def wrong_shape(tensors):
    weight = tensors[DOWN + ".weight"]
    tensors[DOWN + ".weight"] = Tensor(weight.dtype, weight.shape[::-1], weight.data)


@in_tensors("wrong-scale-shape")
def wrong_scale_shape(tensors):
    scale = tensors[DOWN + ".weight_scale"]
    tensors[DOWN + ".weight_scale"] = Tensor(scale.dtype, scale.shape[::-1], scale.data)


# What the tensors hold

def set_byte(tensors, name, position, value):
    data = bytearray(tensors[name].data)
    data[position] = value
    tensors[name] = Tensor(tensors[name].dtype, tensors[name].shape, bytes(data))


@in_tensors("nibble-order", against=True)
def wrong_nibble_order(tensors):
    weight = tensors[DOWN + ".weight"]
    swapped = bytes((byte << 4 | byte >> 4) & 0xFF for byte in weight.data)
    tensors[DOWN + ".weight"] = Tensor(weight.dtype, weight.shape, swapped)


@in_tensors("swapped-tensors", against=True)
def swapped_layers(tensors):
    for suffix in (".weight", ".weight_scale", ".weight_scale_2"):
        a, b = DOWN + suffix, DOWN.replace(".1.", ".2.") + suffix
        tensors[a], tensors[b] = tensors[b], tensors[a]


@in_tensors("low-sqnr", against=True)
def rows_in_another_order(tensors):
    weight = tensors[DOWN + ".weight"]
    row = weight.shape[1]
    rows = [weight.data[begin:begin + row] for begin in range(0, len(weight.data), row)]
    tensors[DOWN + ".weight"] = Tensor(weight.dtype, weight.shape, b"".join(reversed(rows)))


@in_tensors("changed-tensor", against=True)
def norm_changed(tensors):
    set_byte(tensors, NORM, 0, tensors[NORM].data[0] ^ 1)


@in_tensors("not-finite")
def embedding_with_nan(tensors):
    set_byte(tensors, "model.embed_tokens.weight", 1, 0x7F)
    set_byte(tensors, "model.embed_tokens.weight", 0, 0xC0)


@in_tensors("not-finite", base="fp8")
def code_of_nan(tensors):
    set_byte(tensors, DOWN + ".weight", 11, 0xFF)


# Files

@in_files("index-wrong-file")
def swapped_shards(folder):
    one, other = shard(folder, 1), shard(folder, 2)
    one.rename(folder / "aside")
    other.rename(one)
    (folder / "aside").rename(other)


@in_files("truncated-file")
def truncated_file(folder):
    content = shard(folder, 2).read_bytes()
    shard(folder, 2).write_bytes(content[:len(content) // 2])


@in_files("missing-file")
def index_naming_a_missing_file(folder):
    shard(folder, 3).unlink()


@in_files("not-in-index")
def index_missing_a_tensor(folder):
    edit_json(folder / INDEX, lambda index: index["weight_map"].pop(NORM))


@in_files("index-missing-tensor")
def index_naming_a_missing_tensor(folder):
    edit_json(folder / INDEX,
              lambda index: index["weight_map"].update({"ghost.weight": shard(folder, 1).name}))


@in_files("tensor-in-two-files")
def tensor_in_two_files(folder):
    holder = json.loads((folder / INDEX).read_text())["weight_map"][NORM]
    other = next(shard(folder, i) for i in (1, 2, 3) if shard(folder, i).name != holder)
    tensors = read_safetensors(other)
    tensors[NORM] = read_safetensors(folder / holder)[NORM]
    write_safetensors(other, tensors)


# Configurations

def exclude(folder, add=(), remove=()):
    def change(config, key):
        config[key] = sorted(set(config[key]) - set(remove) | set(add))
    edit_configs(folder, change)


@fault("excluded-but-quantized")
def head_excluded_but_quantized(source, folder):
    checkpoint = Checkpoint(source)
    head = checkpoint.tensors["lm_head.weight"]
    rows, columns = head.shape
    checkpoint.tensors.update({
        "lm_head.weight": Tensor("U8", [rows, columns // 2], bytes(rows * columns // 2)),
        "lm_head.weight_scale": Tensor("F8_E4M3", [rows, columns // 16],
                                       b"\x38" * (rows * columns // 16)),
        "lm_head.weight_scale_2": f32(0.001), "lm_head.input_scale": f32(0.001)})
    checkpoint.save(folder)


@in_configs("excluded-but-quantized")
def quantized_linear_in_the_list(folder):
    exclude(folder, add=[DOWN])


@in_configs("not-excluded")
def head_missing_from_the_list(folder):
    exclude(folder, remove=["lm_head"])


@in_configs("not-excluded", base="experts")
def router_missing_from_the_list(folder):
    exclude(folder, remove=[LAYER + "mlp.gate"])


@in_configs("group-size")
def block_size_differs(folder):
    def change(config, _):
        for group in config.get("config_groups", {}).values():
            for entry in ("weights", "input_activations"):
                group[entry]["group_size"] = 32
        if "group_size" in config:
            config["group_size"] = 32
    edit_configs(folder, change)


@in_configs("config-files-disagree")
def configs_disagree(folder):
    edit_json(folder / "hf_quant_config.json",
              lambda config: config["quantization"].update(kv_cache_quant_algo=None))


@in_configs("missing-config-file")
def second_config_missing(folder):
    (folder / "hf_quant_config.json").unlink()


@in_configs("missing-config-file")
def configuration_of_the_model_says_nothing(folder):
    edit_json(folder / "config.json", lambda config: config.pop("quantization_config"))


@in_configs("unknown-format")
def format_that_nobody_knows(folder):
    edit_configs(folder, lambda config, _: config.update(quant_algo="NVFP3"))


@in_configs("config-changed", against=True)
def model_configuration_changed(folder):
    edit_json(folder / "config.json", lambda config: config.update(rms_norm_eps=0.5))


@in_configs("not-listed", base="mixed")
def quantized_linear_that_is_not_listed(folder):
    edit_configs(folder, lambda config, _: config["quantized_layers"].pop(DOWN))
    edit_json(folder / "quant_cfg.json", lambda config: config["quantized_layers"].pop(DOWN))


@fault("listed-but-unquantized", base="mixed")
def listed_linear_that_is_not_quantized(source, folder):
    checkpoint = Checkpoint(source)
    for name in [name for name in checkpoint.tensors if name.startswith(DOWN + ".")]:
        del checkpoint.tensors[name]
    checkpoint.tensors[DOWN + ".weight"] = Tensor("BF16", [128, 384], bytes(2 * 128 * 384))
    checkpoint.save(folder)
