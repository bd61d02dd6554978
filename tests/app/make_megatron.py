"""Writes a Llama checkpoint as Megatron-core and NeMo lay it out, with PyTorch's own distributed
writer in several processes.

    make_megatron.py HF_DIR OUT_DIR

OUT_DIR/megatron: all layers of a weight in one tensor with the layer in front, 2 x 2 tensor- and
pipeline-parallel ranks, gate and up of a rank as two chunks, the run's arguments in common.pt;
optimizer states and Transformer Engine's extra states beside the weights.
OUT_DIR/nemo: one tensor for each layer, 4 ranks by DTensor, which do not divide the vocabulary;
context/ with model.yaml and tokenizer.
"""
import argparse
import enum
import json
import os
import shutil
import socket
import sys
import types
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing
from safetensors.torch import load_file
from torch.distributed._shard.metadata import ShardMetadata
from torch.distributed._shard.sharded_tensor import (Shard, ShardedTensor, ShardedTensorMetadata,
                                                     TensorProperties)

# What tensor parallelism splits: the dimension of one layer's weight.
SPLIT = {"linear_qkv.weight": 0, "linear_fc1.weight": 0, "linear_proj.weight": 1,
         "linear_fc2.weight": 1, "word_embeddings.weight": 0, "output_layer.weight": 0}
PADDED_ROWS = 130


def split_of(name):
    return next((dim for end, dim in SPLIT.items() if name.endswith(end)), None)


def megatron_weights(model, config):
    """Name -> tensor, one for each layer."""
    groups, heads = config["num_key_value_heads"], config["num_attention_heads"]
    size, hidden = config["head_dim"], config["hidden_size"]

    def padded(tensor):
        return torch.cat([tensor, torch.full((PADDED_ROWS, hidden), 7.0, dtype=tensor.dtype)])

    weights = {"embedding.word_embeddings.weight": padded(model["model.embed_tokens.weight"]),
               "decoder.final_layernorm.weight": model["model.norm.weight"],
               "output_layer.weight": padded(model["lm_head.weight"])}
    for layer in range(config["num_hidden_layers"]):
        hf = f"model.layers.{layer}."
        q, k, v = (model[f"{hf}self_attn.{name}_proj.weight"] for name in "qkv")
        per_group = torch.cat([q.view(groups, heads // groups * size, hidden),
                               k.view(groups, size, hidden), v.view(groups, size, hidden)], dim=1)
        for name, tensor in {
                "self_attention.linear_qkv.layer_norm_weight": model[hf + "input_layernorm.weight"],
                "self_attention.linear_qkv.weight": per_group.reshape(-1, hidden),
                "self_attention.linear_proj.weight": model[hf + "self_attn.o_proj.weight"],
                "mlp.linear_fc1.layer_norm_weight": model[hf + "post_attention_layernorm.weight"],
                "mlp.linear_fc1.weight": torch.cat([model[hf + "mlp.gate_proj.weight"],
                                                    model[hf + "mlp.up_proj.weight"]]),
                "mlp.linear_fc2.weight": model[hf + "mlp.down_proj.weight"]}.items():
            weights[f"decoder.layers.{layer}.{name}"] = tensor.contiguous()
    return weights


def sharded_tensor(parts, shape, rank):
    """`parts`: the owner, offsets and tensor of every chunk."""
    places = [ShardMetadata(offsets, list(tensor.shape), f"rank:{owner}/cpu")
              for owner, offsets, tensor in parts]
    properties = TensorProperties(dtype=parts[0][2].dtype)
    local = [Shard.from_tensor_and_offsets(tensor.contiguous(), offsets, rank)
             for owner, offsets, tensor in parts if owner == rank]
    return ShardedTensor._init_from_local_shards_and_global_metadata(
        local, ShardedTensorMetadata(places, torch.Size(shape), properties))


def chunks(name, tensor, ranks):
    """(rank, offsets, part) of one layer's weight under tensor parallelism."""
    dim = split_of(name)
    if dim is None:
        return [(0, [0] * tensor.dim(), tensor)]
    pieces = 2 * ranks if name.endswith("linear_fc1.weight") else ranks
    size = tensor.shape[dim] // pieces
    found = []
    for piece in range(pieces):
        offsets = [0] * tensor.dim()
        offsets[dim] = piece * size
        found.append((piece % ranks, offsets, tensor.narrow(dim, piece * size, size)))
    return found


def stacked_state(weights, layers, rank):
    """2 x 2: two stages of the pipeline, each split over two."""
    state = {}
    for name, tensor in weights.items():
        if not name.startswith("decoder.layers."):
            state[name] = sharded_tensor(chunks(name, tensor, 2), tensor.shape, rank)
    for name in [name for name in weights if name.startswith("decoder.layers.0.")]:
        rest = name.removeprefix("decoder.layers.0.")
        parts = []
        for layer in range(layers):
            stage = layer // (layers // 2)
            tensor = weights[f"decoder.layers.{layer}.{rest}"]
            parts += [(2 * stage + owner, [layer, *offsets], part.unsqueeze(0))
                      for owner, offsets, part in chunks(rest, tensor, 2)]
        shape = [layers, *weights[name].shape]
        state[f"decoder.layers.{rest}"] = sharded_tensor(parts, shape, rank)
        state[f"optimizer.state.exp_avg.decoder.layers.{rest}"] = sharded_tensor(
            [(owner, offsets, part.float()) for owner, offsets, part in parts], shape, rank)
    state["decoder.layers.self_attention.core_attention._extra_state/shard_0_4"] = {"amax": 1.0}
    state["rng_state/shard_0_1"] = [b"seed" * 8]
    return state


def layered_state(weights):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard as Split, distribute_tensor
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    return {f"module.{name}": distribute_tensor(
        tensor, mesh, [Replicate() if split_of(name) is None else Split(split_of(name))])
        for name, tensor in weights.items()}


def write_common(path, config):
    """The arguments as Megatron-LM saves them: a namespace with enumerations of its own in it."""
    for name in ("megatron", "megatron.core", "megatron.core.transformer",
                 "megatron.core.transformer.enums"):
        sys.modules[name] = types.ModuleType(name)

    class AttnBackend(enum.Enum):
        auto = 5

    AttnBackend.__module__ = "megatron.core.transformer.enums"
    AttnBackend.__qualname__ = "AttnBackend"
    sys.modules["megatron.core.transformer.enums"].AttnBackend = AttnBackend
    arguments = argparse.Namespace(
        num_layers=config["num_hidden_layers"], hidden_size=config["hidden_size"],
        ffn_hidden_size=config["intermediate_size"], group_query_attention=True,
        num_attention_heads=config["num_attention_heads"],
        num_query_groups=config["num_key_value_heads"], kv_channels=config["head_dim"],
        max_position_embeddings=config["max_position_embeddings"], seq_length=512,
        norm_epsilon=config["rms_norm_eps"], normalization="RMSNorm", swiglu=True,
        rotary_base=int(config["rope_parameters"]["rope_theta"]), rotary_percent=1.0,
        position_embedding_type="rope", untie_embeddings_and_output_weights=True,
        add_bias_linear=False, add_qkv_bias=False, qk_layernorm=False, num_experts=None,
        vocab_size=config["vocab_size"], padded_vocab_size=config["vocab_size"] + PADDED_ROWS,
        params_dtype=torch.bfloat16, attention_backend=AttnBackend.auto,
        tokenizer_model="/data/tokenizer", apply_layernorm_1p=False, rotary_interleaved=False,
        multi_latent_attention=False, use_rope_scaling=False, rope_scaling_factor=8.0)
    torch.save({"args": arguments, "checkpoint_version": 3.0, "iteration": 100,
                "optimizer": {"param_state_sharding_type": "fully_sharded_model_space"}}, path)


MODEL_YAML = """\
_target_: nemo.collections.llm.gpt.model.llama.LlamaModel
config:
  _target_: nemo.collections.llm.gpt.model.llama.Llama31Config8B
  activation_func:
    _call_: false
    _target_: torch.nn.functional.silu
  add_bias_linear: false
  add_qkv_bias: false
  apply_rope_fusion: true
  ffn_hidden_size: {intermediate_size}
  gated_linear_unit: true
  hidden_size: {hidden_size}
  kv_channels: null
  layernorm_epsilon: {rms_norm_eps}
  layernorm_zero_centered_gamma: false
  make_vocab_size_divisible_by: 128
  normalization: RMSNorm
  num_attention_heads: {num_attention_heads}
  num_layers: {num_hidden_layers}
  num_moe_experts: null
  num_query_groups: {num_key_value_heads}
  params_dtype:
    _call_: false
    _target_: torch.bfloat16
  position_embedding_type: rope
  qk_layernorm: false
  rotary_base: {theta}
  rotary_percent: 1.0
  seq_length: {max_position_embeddings}
  share_embeddings_and_output_weights: false
  softmax_scale: null
  window_size: null
tokenizer:
  _target_: nemo.collections.common.tokenizers.huggingface.auto_tokenizer.AutoTokenizer
"""


def write_context(source, folder, config):
    (folder / "nemo_tokenizer").mkdir(parents=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, folder / "nemo_tokenizer" / name)
    (folder / "model.yaml").write_text(
        MODEL_YAML.format(theta=int(config["rope_parameters"]["rope_theta"]), **config))
    (folder / "io.json").write_text("{}")


def save(state, folder):
    folder.mkdir(parents=True, exist_ok=True)
    dcp.save(state, storage_writer=dcp.FileSystemWriter(folder, sync_files=False))


def work(rank, size, port, source, out):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=size)
    config = json.loads((source / "config.json").read_text())
    weights = megatron_weights(load_file(source / "model.safetensors"), config)
    iteration = out / "megatron" / "iter_0000100"
    save(stacked_state(weights, config["num_hidden_layers"], rank), iteration)
    save(layered_state(weights), out / "nemo" / "weights")
    if rank == 0:
        write_common(iteration / "common.pt", config)
        (iteration / "metadata.json").write_text('{"sharded_backend": "torch_dist"}')
        (out / "megatron" / "latest_checkpointed_iteration.txt").write_text("100")
        write_context(source, out / "nemo" / "context", config)
    dist.destroy_process_group()


def main():
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(work, (4, port, source, out), nprocs=4)


if __name__ == "__main__":
    main()
