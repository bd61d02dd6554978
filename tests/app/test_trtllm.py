"""TensorRT-LLM checkpoints: the reference's listings, config.json, ranks of a run, bad input."""
import resource
import shutil
import signal
import struct
import subprocess

from checkpoints import Checkpoint, read_safetensors, write_safetensors
from halftone_cli import (DATA, INPUT, NANO_LLAMA, USAGE, command_line, file_sums, main, read_json,
                          summary_of)
from models import ARCHS
from trtllm_case import TrtllmTest, rank_files

WITHOUT_PATH = ("deepseek-v3", "glm4-moe", "gpt-oss", "llama4-scout")
GOLDENS = DATA / "goldens" / "nano-llama"


def listing(tensors):
    return {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}


LAYER_FP8 = {
    "attention.dense.activation_scaling_factor": ("F32", [1]),
    "attention.dense.weight": ("F8_E4M3", [128, 64]),
    "attention.dense.weights_scaling_factor": ("F32", [1]),
    "attention.qkv.activation_scaling_factor": ("F32", [1]),
    "attention.qkv.weight": ("F8_E4M3", [128, 128]),
    "attention.qkv.weights_scaling_factor": ("F32", [1]),
    "input_layernorm.weight": ("BF16", [128]),
    "mlp.fc.activation_scaling_factor": ("F32", [1]),
    "mlp.fc.weight": ("F8_E4M3", [192, 128]),
    "mlp.fc.weights_scaling_factor": ("F32", [1]),
    "mlp.gate.activation_scaling_factor": ("F32", [1]),
    "mlp.gate.weight": ("F8_E4M3", [192, 128]),
    "mlp.gate.weights_scaling_factor": ("F32", [1]),
    "mlp.proj.activation_scaling_factor": ("F32", [1]),
    "mlp.proj.weight": ("F8_E4M3", [128, 192]),
    "mlp.proj.weights_scaling_factor": ("F32", [1]),
    "post_layernorm.weight": ("BF16", [128]),
}
LAYER_INT4 = {
    "attention.dense.prequant_scaling_factor": ("BF16", [64]),
    "attention.dense.weight": ("I8", [64, 64]),
    "attention.dense.weights_scaling_factor": ("F32", [128, 1]),
    "attention.qkv.prequant_scaling_factor": ("BF16", [128]),
    "attention.qkv.weight": ("I8", [64, 128]),
    "attention.qkv.weights_scaling_factor": ("F32", [128, 2]),
    "input_layernorm.weight": ("BF16", [128]),
    "mlp.fc.prequant_scaling_factor": ("BF16", [128]),
    "mlp.fc.weight": ("I8", [96, 128]),
    "mlp.fc.weights_scaling_factor": ("F32", [192, 2]),
    "mlp.gate.prequant_scaling_factor": ("BF16", [128]),
    "mlp.gate.weight": ("I8", [96, 128]),
    "mlp.gate.weights_scaling_factor": ("F32", [192, 2]),
    "mlp.proj.prequant_scaling_factor": ("BF16", [192]),
    "mlp.proj.weight": ("I8", [64, 192]),
    "mlp.proj.weights_scaling_factor": ("F32", [128, 3]),
    "post_layernorm.weight": ("BF16", [128]),
}
EMBEDDING = {"transformer.vocab_embedding.weight": ("BF16", [1024, 128])}
HEAD = {"transformer.ln_f.weight": ("BF16", [128]), "lm_head.weight": ("BF16", [1024, 128])}


def of_layers(layer, count):
    return {f"transformer.layers.{i}.{name}": value
            for i in range(count) for name, value in layer.items()}


class NanoLlama(TrtllmTest):
    """The listings of the reference's files (four layers, hidden 128, 4 heads, 2 for keys)."""

    def test_fp8_of_four_ranks(self):
        out = self.quantize("trt", "--format", "fp8", "--target", "trtllm", "--tp", 2, "--pp", 2)
        ranks = rank_files(out, 2, 2)
        for rank in (0, 1):
            self.assertEqual(listing(ranks[rank]), of_layers(LAYER_FP8, 2) | EMBEDDING)
            self.assertEqual((out / f"rank{rank}.safetensors").stat().st_size, 463656)
        for rank in (2, 3):
            self.assertEqual(listing(ranks[rank]), of_layers(LAYER_FP8, 2) | HEAD)
            self.assertEqual((out / f"rank{rank}.safetensors").stat().st_size, 464008)
        config = read_json(out / "config.json")
        self.assertEqual(config["quantization"], {
            "quant_algo": "FP8", "kv_cache_quant_algo": None, "exclude_modules": ["lm_head"]})
        self.assertEqual(config["mapping"], {"world_size": 4, "tp_size": 2, "pp_size": 2})
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()),
                         ["trt", "trt.workspace"])
        self.assertEqual(summary_of(out)["layout"]["tp"], 2)
        # The scale that all share is the largest of those that the reference has for each.
        golden = read_json(GOLDENS / "fp8.json")["tensors"]
        for there, parts in (("attention.qkv", ("self_attn.q_proj", "self_attn.k_proj",
                                                "self_attn.v_proj")),
                             ("mlp.fc", ("mlp.gate_proj", "mlp.up_proj")),
                             ("mlp.gate", ("mlp.gate_proj", "mlp.up_proj"))):
            expected = max(golden[f"model.layers.3.{part}.weight_scale"]["values"]
                           for part in parts)
            found = ranks[3][f"transformer.layers.1.{there}.weights_scaling_factor"]
            self.assertEqual(found.data, struct.pack("<f", expected), there)

    def test_config(self):
        unified = self.unified("unified", "--format", "fp8")
        config = read_json(self.export(unified, 2) / "config.json")
        source = read_json(NANO_LLAMA / "config.json")
        del config["quantization"], config["producer"]
        self.assertEqual(config, {
            "architecture": "LlamaForCausalLM", "dtype": "bfloat16", "logits_dtype": "float16",
            "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2,
            "hidden_size": 128, "norm_epsilon": source["rms_norm_eps"], "vocab_size": 2048,
            "max_position_embeddings": source["max_position_embeddings"], "hidden_act": "silu",
            "use_parallel_embedding": True, "embedding_sharding_dim": 0, "head_size": 32,
            "intermediate_size": 384, "position_embedding_type": "rope_gpt_neox",
            "share_embedding_table": False, "residual_mlp": False, "bias": False, "rotary_pct": 1.0,
            "decoder": "llama", "rmsnorm": True, "lm_head_bias": False,
            # Not lost where newer releases keep it.
            "rotary_base": source["rope_parameters"]["rope_theta"],
            "attn_bias": False, "mlp_bias": False,
            "mapping": {"world_size": 2, "tp_size": 2, "pp_size": 1}})

    def test_int4_awq(self):
        unified = self.unified("unified", "--recipe", self.int4_recipe(64))
        out = self.export(unified, 2)
        for rank, tensors in enumerate(rank_files(out, 2, 1)):
            self.assertEqual(listing(tensors), of_layers(LAYER_INT4, 4) | EMBEDDING | HEAD)
            self.assertEqual((out / f"rank{rank}.safetensors").stat().st_size, 760856)
        self.assertEqual(read_json(out / "config.json")["quantization"], {
            "quant_algo": "W4A16_AWQ", "kv_cache_quant_algo": None, "group_size": 64,
            "has_zero_point": False, "pre_quant_scale": True, "exclude_modules": ["lm_head"]})

    def test_other_formats(self):
        out = self.quantize("trt", "--format", "int8_sq,nvfp4,fp8_pc_pt,fp8", "--target", "trtllm",
                            "--tp", 2, "--kv-cache", "fp8")
        prefix = "transformer.layers.0."

        def shapes(what, suffix):
            found = listing(read_safetensors(out / what / "rank0.safetensors"))
            return [found[f"{prefix}{module}.{suffix}"]
                    for module in ("attention.qkv", "attention.dense", "mlp.fc", "mlp.proj")]
        rows, columns = (128, 128, 192, 128), (128, 64, 128, 192)
        self.assertEqual(shapes("int8_sq", "weight"),
                         [("I8", [n, k]) for n, k in zip(rows, columns)])
        self.assertEqual(shapes("int8_sq", "weights_scaling_factor"), [("F32", [n]) for n in rows])
        self.assertEqual(shapes("int8_sq", "prequant_scaling_factor"),
                         [("BF16", [k]) for k in columns])
        self.assertEqual(shapes("int8_sq", "activation_scaling_factor"), [("F32", [1])] * 4)
        self.assertEqual(shapes("nvfp4", "weight"),
                         [("U8", [n, k // 2]) for n, k in zip(rows, columns)])
        self.assertEqual(shapes("nvfp4", "weights_scaling_factor"),
                         [("F8_E4M3", [n, k // 16]) for n, k in zip(rows, columns)])
        self.assertEqual(shapes("nvfp4", "weights_scaling_factor_2"), [("F32", [1])] * 4)
        self.assertEqual(shapes("fp8_pc_pt", "per_channel_scale"), [("F32", [n]) for n in rows])
        fp8 = listing(read_safetensors(out / "fp8" / "rank1.safetensors"))
        for cache in ("k", "v", "kv"):
            self.assertEqual(fp8[f"{prefix}attention.{cache}_cache_scaling_factor"], ("F32", [1]))
        quantization = {what: read_json(out / what / "config.json")["quantization"]
                        for what in ("int8_sq", "nvfp4", "fp8_pc_pt", "fp8")}
        self.assertEqual([one["quant_algo"] for one in quantization.values()],
                         ["W8A8_SQ_PER_CHANNEL", "NVFP4", "FP8_PER_CHANNEL_PER_TOKEN", "FP8"])
        self.assertEqual({one["kv_cache_quant_algo"] for one in quantization.values()}, {"FP8"})
        self.assertEqual(quantization["nvfp4"]["group_size"], 16)
        self.assertEqual(quantization["int8_sq"].keys(),
                         {"quant_algo", "kv_cache_quant_algo", "exclude_modules"})

    def test_repeated_heads_and_padded_vocabulary(self):
        model = Checkpoint(NANO_LLAMA)
        model.config["vocab_size"] = 2042
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            tensor = model.tensors[name]
            tensor.shape[0], tensor.data = 2042, tensor.data[:2042 * 256]
        source = model.save(self.folder / "model")
        calibration = self.ids(vocabulary=2000)
        unified = self.unified("fp8", "--format", "fp8", "--calib", calibration, model=source)
        out = self.export(unified, 4, 4)
        ranks = rank_files(out, 4, 4)
        self.assertEqual(ranks[0]["transformer.vocab_embedding.weight"].shape, [511, 128])
        self.assertEqual(ranks[15]["lm_head.weight"].shape, [511, 128])
        self.assertEqual(ranks[0]["transformer.layers.0.attention.qkv.weight"].shape, [96, 128])
        self.check_gathers(unified, out, 4, 4)
        self.assertEqual(file_sums(self.restore(out)), file_sums(unified))
        # AWQ's kernels want multiples of 64.
        unified = self.unified("int4", "--recipe", self.int4_recipe(32), "--calib", calibration,
                               model=source)
        out = self.export(unified, 4)
        self.assertEqual(read_json(out / "config.json")["vocab_size"], 2048)
        self.check_gathers(unified, out, 4, 1)
        self.assertEqual(file_sums(self.restore(out, "back")), file_sums(unified))

    def test_any_number_of_ranks(self):
        unified = self.unified("unified", "--format", "fp8", "--max-shard-size", 300000)
        self.assertGreater(len(list(unified.glob("*.safetensors"))), 2)
        alone = self.export(unified, 2, 2, "alone")
        together = self.export(unified, 2, 2, "together", ranks=3)
        self.assert_same_checkpoint(together, alone)
        self.succeed("export", "--model", together, "--out", self.folder / "back", "--device", "cpu",
                     ranks=2)
        self.assert_same_checkpoint(self.folder / "back", unified)
        direct = self.quantize("direct", "--format", "fp8", "--target", "trtllm", "--tp", 2, "--pp",
                               2, ranks=2)
        self.assertEqual({name: value for name, value in file_sums(direct).items()
                          if name.startswith("rank") or name == "config.json"},
                         {name: value for name, value in file_sums(alone).items()
                          if name.startswith("rank") or name == "config.json"})

    def kill_between_files(self, unified, sizes):
        """By a limit that the files of the last pipeline stage do not keep to; at most four threads
        are at work then. Names and inodes of what is recorded as complete."""
        limit = (sizes[0] + sizes[-1]) // 2
        self.assertLess(limit, sizes[-1])
        result = subprocess.run(
            command_line(*self.export_line(unified, 2, 4, self.folder / "out")),
            capture_output=True, check=False, timeout=60,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        self.assertEqual(result.returncode, -signal.SIGXFSZ, result.stderr)
        names = [read_json(path)["name"]
                 for path in (self.folder / ".out.manifest").glob("*.complete")]
        self.assertIn(len(names), range(3, 7))
        return {name: (self.folder / ".out.partial" / name).stat().st_ino
                for name in sorted(names)}

    def test_a_killed_export_goes_on(self):
        unified = self.unified("unified", "--format", "fp8")
        good = self.export(unified, 2, 4, "good")
        sizes = [(good / f"rank{rank}.safetensors").stat().st_size for rank in range(8)]
        kept = self.kill_between_files(unified, sizes)
        # A complete file that was damaged since then is no longer complete.
        damaged = self.folder / ".out.partial" / kept.popitem()[0]
        damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x55")
        result = self.succeed(*self.export_line(unified, 2, 4, self.folder / "out"), ranks=2)
        self.assertEqual(result.stderr.count("is complete already"), len(kept))
        for name, inode in kept.items():
            self.assertEqual((self.folder / "out" / name).stat().st_ino, inode)
        self.assert_same_checkpoint(self.folder / "out", good)
        shutil.rmtree(self.folder / "out")
        # What is left of another layout is of no use.
        self.kill_between_files(unified, sizes)
        result = self.succeed(*self.export_line(unified, 4, 1, self.folder / "out"))
        self.assertNotIn("is complete already", result.stderr)
        self.assert_same_checkpoint(self.folder / "out", self.export(unified, 4, 1, "good4"))
        self.assertEqual([path.name for path in self.folder.iterdir() if path.name[0] == "."], [])

    def test_caches(self):
        for cache in ("fp8", "nvfp4"):
            unified = self.unified(cache, "--format", "fp8", "--kv-cache", cache)
            out = self.export(unified, 4, 2)
            self.check_gathers(unified, out, 4, 2)
            self.assertEqual(file_sums(self.restore(out, f"{cache}-back")), file_sums(unified))
        out = self.quantize("cast", "--format", "fp8", "--kv-cache", "nvfp4_cast", "--target",
                            "trtllm")
        scale = read_safetensors(out / "rank0.safetensors")[
            "transformer.layers.2.attention.kv_cache_scaling_factor"]
        self.assertEqual(scale.data, struct.pack("<f", 1 / 6))

    def test_from_a_store(self):
        self.quantize("first", "--format", "fp8")
        out = self.folder / "trt"
        self.succeed("export", "--store", self.folder / "first.workspace" / "calibration.h5",
                     "--model", NANO_LLAMA, "--format", "fp8,nvfp4", "--target", "trtllm", "--tp", 4,
                     "--out", out, "--device", "cpu")
        self.assertEqual(sorted(path.name for path in out.iterdir()), ["fp8", "nvfp4"])
        self.assertEqual(len(list((out / "nvfp4").glob("rank*.safetensors"))), 4)

    def test_w4a8(self):
        unified = self.unified("unified", "--format", "w4a8_awq")
        out = self.export(unified, 1, 2)
        self.check_gathers(unified, out, 1, 2)
        self.assertEqual(read_json(out / "config.json")["quantization"]["quant_algo"], "W4A8_AWQ")
        self.assertEqual(file_sums(self.restore(out)), file_sums(unified))

    def test_a_bounded_memory(self):
        """The peak does not grow by as much as one of the largest tensors, of 64 MB here."""
        model = Checkpoint(NANO_LLAMA)
        rows = 1 << 18
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            tensor = model.tensors[name]
            tensor.data *= rows // tensor.shape[0]
            tensor.shape[0] = rows
        model.config["vocab_size"] = rows
        unified = self.unified("small", "--format", "fp8")
        large = Checkpoint(unified)
        large.config["vocab_size"] = rows
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            large.tensors[name] = model.tensors[name]
        large = large.save(self.folder / "large")
        # The peaks of all children so far: the larger export comes second.
        self.export(unified, 2, 2, "a", options=("--threads", 2))
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        self.export(large, 2, 2, "b", options=("--threads", 2))
        after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        self.assertLess(after - before, 64 * 1024)


class Configs(TrtllmTest):
    def config(self, name, what="fp8", tp=1):
        out = self.quantize(f"{name}-{what}-{tp}", "--format", what, "--target", "trtllm", "--tp",
                            tp, "--calib", self.ids(), model=ARCHS / name)
        return read_json(out / "config.json")

    def check(self, config, **expected):
        self.assertEqual({key: config.get(key, "missing") for key in expected}, expected)

    def test_families(self):
        moe = self.config("mixtral-8x7b", tp=2)
        self.check(moe, decoder="llama", hidden_act="swiglu", rotary_base=1e6, norm_epsilon=1e-5,
                   intermediate_size=16,
                   moe={"num_experts": 8, "top_k": 2, "normalization_mode": 1},
                   mapping={"world_size": 2, "tp_size": 2, "pp_size": 1, "moe_tp_size": 2,
                            "moe_ep_size": 1})
        self.assertEqual(moe["quantization"]["exclude_modules"],
                         ["*router", "*shared_expert_gate", "lm_head"])
        self.check(self.config("llama-3.1"), rotary_base=500000.0, rotary_scaling={
            "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64, "rope_type": "llama3"})
        self.check(self.config("qwen3"), decoder="qwen", qwen_type="qwen3", attn_bias=False,
                   head_size=24, rotary_scaling=None, tie_word_embeddings=True,
                   moe={"num_experts": 0, "top_k": 0, "normalization_mode": 0})
        self.check(self.config("qwen2-moe"), qwen_type="qwen2_moe", attn_bias=True,
                   intermediate_size=64, moe_intermediate_size=16,
                   moe_shared_expert_intermediate_size=40,
                   moe={"num_experts": 5, "top_k": 2, "normalization_mode": 0})
        self.check(self.config("phi3.5-moe"), architecture="PhiMoEForCausalLM", decoder="phi3",
                   rmsnorm=False, bias=True, lm_head_bias=True, attention_bias=True,
                   position_embedding_type="long_rope", original_max_position_embeddings=32,
                   longrope_short_mscale=1.12, longrope_long_mscale=1.243163121016122,
                   rotary_scaling=None,
                   moe={"num_experts": 8, "top_k": 2, "normalization_mode": 2,
                        "sparse_mixer_epsilon": 0.1})
        self.check(self.config("phi4-mini"), hidden_act="swiglu", rotary_pct=0.75,
                   intermediate_size=56, share_embedding_table=False, tie_word_embeddings=True)
        gemma = self.config("gemma3-1b")
        self.check(gemma, architecture="Gemma3ForCausalLM", use_parallel_embedding=False,
                   share_embedding_table=True, query_pre_attn_scalar=20, sliding_window=12,
                   sliding_window_pattern=3, _sliding_window_pattern=3, inter_layernorms=True,
                   rope_local_base_freq=10000.0, hidden_act="gelu_pytorch_tanh")
        self.check(self.config("nemotron-nas"), decoder="deci", layer_configs=[
            {"attention": {"impl": "attention", "num_key_value_heads": 2},
             "ffn": {"impl": "mlp", "intermediate_size": 256}},
            {"attention": {"impl": "no_op", "num_key_value_heads": None},
             "ffn": {"impl": "mlp", "intermediate_size": 512}},
            {"attention": {"impl": "linear", "num_key_value_heads": None},
             "ffn": {"impl": "linear", "intermediate_size": None}},
            {"attention": {"impl": "attention", "num_key_value_heads": 1},
             "ffn": {"impl": "no_op", "intermediate_size": None}}])

    def test_encoders_and_decoders(self):
        def parts(name, tp, pp):
            out = self.quantize(name, "--format", "fp8", "--target", "trtllm", "--tp", tp, "--pp", pp,
                                "--calib", ARCHS / name / "golden.safetensors", model=ARCHS / name)
            return [read_json(out / part / "config.json") for part in ("encoder", "decoder")]
        _, decoder = parts("t5-v1.0", 2, 2)
        self.check(decoder, architecture="DecoderModel", dtype="bfloat16", head_size=12,
                   position_embedding_type="relative", layernorm_type=1, mlp_type=0,
                   hidden_act="relu", relative_attention=True, num_buckets=16,
                   q_scaling=1 / 12 ** 0.5, rescale_before_lm_head=True, model_type="t5",
                   encoder_num_heads=4, decoder_start_token_id=0,
                   mapping={"world_size": 4, "tp_size": 2, "pp_size": 2})
        encoder, decoder = parts("whisper", 2, 1)
        self.check(encoder, architecture="WhisperEncoder", n_mels=20, max_position_embeddings=32,
                   position_embedding_type="learned_absolute", intermediate_size=64,
                   has_attention_qkvo_bias=True, layernorm_type=0, q_scaling=1.0)
        self.assertNotIn("rescale_before_lm_head", encoder)
        self.check(decoder, architecture="DecoderModel", intermediate_size=72,
                   max_position_embeddings=40)
        self.assertEqual(decoder["quantization"]["exclude_modules"], ["lm_head"])
        self.refuse(USAGE, ["3 layers of the encoder", "--pp 1 works"], "quantize", "--model",
                    ARCHS / "t5-v1.1", "--format", "fp8", "--out", self.folder / "no", "--target",
                    "trtllm", "--pp", 2)

    def test_a_tied_head_is_written_for_several_stages(self):
        out = self.quantize("gemma", "--format", "fp8", "--target", "trtllm", "--pp", 3, "--calib",
                            self.ids(), model=ARCHS / "gemma3-1b")
        self.assertFalse(read_json(out / "config.json")["share_embedding_table"])
        last = read_safetensors(out / "rank2.safetensors")
        first = read_safetensors(out / "rank0.safetensors")
        self.assertEqual(last["lm_head.weight"], first["transformer.vocab_embedding.weight"])

    def test_mixed_formats(self):
        recipe = self.write("mixed.yaml", MIXED)
        out = self.quantize("mixed", "--recipe", recipe, "--target", "trtllm", "--tp", 2)
        self.assertEqual(read_json(out / "config.json")["quantization"],
                         {"quant_algo": "MIXED_PRECISION", "kv_cache_quant_algo": None})
        layers = read_json(out / "quant_cfg.json")["quantized_layers"]
        self.assertEqual(layers["transformer.layers.0.attention.qkv"], {"quant_algo": "FP8"})
        self.assertEqual(layers["transformer.layers.3.mlp.fc"],
                         {"quant_algo": "NVFP4", "group_size": 16})


MIXED = """\
imports:
  all_off: units/all_off
  default_disabled: units/default_disabled
metadata:
  recipe_type: ptq
  description: FP8 attention beside NVFP4
quantize:
  algorithm: max
  quant_cfg:
    - $import: all_off
    - quantizer_name: '*self_attn*weight_quantizer'
      cfg: {num_bits: e4m3}
    - quantizer_name: '*self_attn*input_quantizer'
      cfg: {num_bits: e4m3}
    - quantizer_name: '*mlp*weight_quantizer'
      cfg: {num_bits: e2m1, block_sizes: {-1: 16, type: dynamic, scale_bits: e4m3}}
    - quantizer_name: '*mlp*input_quantizer'
      cfg: {num_bits: e2m1, block_sizes: {-1: 16, type: dynamic, scale_bits: e4m3}}
    - $import: default_disabled
"""


class Refusals(TrtllmTest):
    def refuse_export(self, fragments, unified, *options, code=USAGE):
        self.refuse(code, fragments, "export", "--model", unified, "--out", self.folder / "no",
                    "--device", "cpu", *options)
        self.assertEqual([path.name for path in self.folder.iterdir() if "no" == path.name.strip(".")
                          or "partial" in path.name], [])

    def test_before_anything_is_read(self):
        """A calibration file that is missing would be the next error."""
        def refuse(fragments, *options, model=NANO_LLAMA):
            self.refuse(USAGE, fragments, "quantize", "--model", model, "--out",
                        self.folder / "no", "--calib", "missing.jsonl", "--target", "trtllm",
                        *options)
            self.assertEqual(list(self.folder.iterdir()), [])
        refuse(["--tp 3", "heads", "--tp 2 works"], "--format", "fp8", "--tp", 3)
        refuse(["--tp 8", "4 heads", "--tp 4 works"], "--format", "fp8", "--tp", 8)
        refuse(["--pp 3", "4 layers", "--pp 2 works"], "--format", "fp8", "--pp", 3)
        refuse(["--pp 8", "more than the 4 layers", "--pp 4 works"], "--format", "fp8", "--pp", 8)
        refuse(["block of 128", "o_proj", "--tp 1 works"], "--format", "int4_awq", "--tp", 2)
        for what in ("mxfp8", "fp8_pb_wo", "int8_wo", "nvfp4_awq", "nvfp4_svdquant", "mxfp4",
                     "w4a16_nvfp4"):
            refuse([what, "--target hf"], "--format", what)
        refuse(["expert", "int8_sq"], "--format", "int8_sq", model=ARCHS / "mixtral-8x7b")
        for name in WITHOUT_PATH:
            refuse(["family", "--target hf"], "--format", "fp8", model=ARCHS / name)
        refuse(["KV cache", "--kv-cache fp8"], "--format", "fp8", "--kv-cache", "nvfp4_affine")

    def test_options(self):
        self.refuse(USAGE, ["--tp needs --target trtllm"], "quantize", "--model", NANO_LLAMA,
                    "--format", "fp8", "--out", self.folder / "no", "--tp", 2)
        self.refuse_export(["not quantized"], NANO_LLAMA, "--target", "trtllm")
        plain = self.quantize("plain", "--format", "fp8")
        self.refuse_export(["weight_scale", "differ", "--fused-scales"], plain, "--target",
                           "trtllm", code=INPUT)
        self.refuse_export(["unified checkpoint already", "--target trtllm"], plain)
        self.refuse_export(["--tp 3", "--tp 2 works"], plain, "--target", "trtllm", "--tp", 3)

    def test_damaged_rank_files(self):
        unified = self.unified("unified", "--format", "fp8")
        good = self.export(unified, 2, name="good")
        self.refuse_export(["layout already", "--target hf"], good, "--target", "trtllm")

        def damaged(name):
            folder = self.folder / name
            shutil.copytree(good, folder)
            return folder
        missing = damaged("missing")
        (missing / "rank1.safetensors").unlink()
        self.refuse_export(["rank1.safetensors"], missing, code=INPUT)
        wrong = damaged("wrong")
        tensors = read_safetensors(wrong / "rank1.safetensors")
        tensors.pop("transformer.ln_f.weight")
        write_safetensors(wrong / "rank1.safetensors", tensors)
        self.refuse_export(["rank1.safetensors", "transformer.ln_f.weight"], wrong, code=INPUT)
        foreign = damaged("foreign")
        shutil.rmtree(foreign / "unified")
        self.refuse_export(["unified", "original checkpoint"], foreign, code=INPUT)
        sizes = damaged("sizes")
        (sizes / "unified" / "weight_files.json").write_text('{"../model.safetensors": 5}')
        self.refuse_export(["model.safetensors"], sizes, code=INPUT)
        mapping = damaged("mapping")
        config = (mapping / "config.json").read_text().replace('"tp_size": 2', '"tp_size": -2')
        (mapping / "config.json").write_text(config)
        self.refuse_export(["tp_size -2"], mapping, code=INPUT)


if __name__ == "__main__":
    main()
