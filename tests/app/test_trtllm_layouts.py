"""Rank files of every family, put together again by independent rules, and the way back."""
import itertools
from concurrent.futures import ThreadPoolExecutor

from checkpoints import read_checkpoint_tensors
from halftone_cli import USAGE, file_sums, main, read_json
from models import ARCHS
from trtllm_case import TrtllmTest, rank_files
from trtllm_encoder_decoder import EncoderDecoderGatherer, EncoderDecoderShape
from trtllm_layout import ModelShape, Ranks

DECODERS = ("gemma3-1b", "gemma3-4b", "llama-3.1", "llama-3.2", "mixtral-8x7b", "nemotron-nas",
            "phi3-mini", "phi3.5-moe", "phi4", "phi4-mini", "qwen2-moe", "qwen2.5", "qwen3",
            "qwen3-moe")
EXPERTS = ("mixtral-8x7b", "phi3.5-moe", "qwen2-moe", "qwen3-moe")
WIDTHS_OF_16 = ("llama-3.1", "mixtral-8x7b", "nemotron-nas", "phi3-mini", "phi3.5-moe", "qwen3-moe")
PARALLEL = tuple(itertools.product((1, 2, 4), (1, 2, 4)))


class Layouts(TrtllmTest):
    def formats(self, name):
        """One folder per format that the family's sizes and the layout carry."""
        model = ARCHS / name
        plain = (["fp8"] + ([] if name in EXPERTS else ["int8_sq"])
                 + (["nvfp4"] if name in WIDTHS_OF_16 else []))
        if len(plain) > 1:
            out = self.unified(name, "--format", ",".join(plain), "--calib", self.ids(),
                               model=model)
            folders = {what: out / what for what in plain}
        else:
            folders = {"fp8": self.unified(name, "--format", "fp8", "--calib", self.ids(),
                                           model=model)}
        folders["int4"] = self.unified(f"{name}-int4", "--recipe", self.int4_recipe(), "--calib",
                                       self.ids(), model=model)
        return folders

    def check_family(self, name):
        folders = self.formats(name)
        for what, unified in folders.items():
            config, tensors = read_json(unified / "config.json"), read_checkpoint_tensors(unified)
            reasons = {one: why_not(config, tensors, *one) for one in PARALLEL}
            fitting = [one for one in PARALLEL if not reasons[one]]
            if what == "fp8":
                refused = [one for one in PARALLEL if reasons[one]][-1:]
                for one in refused:
                    self.refuse(USAGE, ["works"], *self.export_line(unified, *one))
            else:  # all of them in one format; the others where there is most to split
                fitting = [max(fitting)]
            for tp, pp in fitting:
                with self.subTest(name=name, what=what, tp=tp, pp=pp):
                    out = self.export(unified, tp, pp, f"{name}-{what}-{tp}-{pp}")
                    self.check_gathers(unified, out, tp, pp)
            if what in ("fp8", "int4"):
                self.assertEqual(file_sums(self.restore(out, f"{name}-{what}-back")),
                                 file_sums(unified))

    def test_every_family(self):
        """Two at a time: most of a run is the program's start."""
        self.ids()
        self.int4_recipe()
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(self.check_family, name) for name in DECODERS]:
                done.result()


def why_not(config, tensors, tp, pp):
    """The rules of divisibility, from shapes alone. Empty: it divides."""
    model = ModelShape(config, tensors)
    if model.layers % pp:
        return "layers"
    for layer in range(model.layers):
        prefix = f"{model.prefix}layers.{layer}."
        if any(f"{prefix}self_attn.{name}.weight" in tensors for name in ("q_proj", "qkv_proj")):
            kv = model.kv_heads[layer]
            if model.heads % tp or (kv % tp and tp % kv):
                return "heads"
    for name, tensor in tensors.items():
        if not name.startswith(model.prefix + "layers.") or not name.endswith(".weight"):
            continue
        module = name.removesuffix(".weight")
        scale = tensors.get(f"{module}.weight_scale")
        int4 = scale is not None and scale.dtype == "F32" and tensor.dtype == "U8"
        if module.endswith((".down_proj", ".o_proj", ".w2")):
            if tensor.shape[1] % tp:
                return f"columns of {name}"
            if scale is not None and len(scale.shape) == 2 and scale.shape[1] % tp:
                return f"blocks of {name}"
        elif module.endswith((".gate_proj", ".up_proj", ".w1", ".w3", ".gate_up_proj",
                              ".linear_attn", ".linear_mlp")):
            rows = tensor.shape[0] * (2 if int4 else 1)
            rows //= 2 if module.endswith(".gate_up_proj") else 1
            if rows % (tp * (2 if int4 else 1)):
                return f"rows of {name}"
    return ""


class EncoderDecoders(TrtllmTest):
    def check_family(self, name, formats, parallel):
        calibration = ARCHS / name / "golden.safetensors"
        for what in formats:
            format_of = (("--recipe", self.int4_recipe(2)) if what == "int4" else
                         ("--format", what))
            unified = self.unified(f"{name}-{what}", *format_of, "--calib", calibration,
                                   model=ARCHS / name)
            config, tensors = read_json(unified / "config.json"), read_checkpoint_tensors(unified)
            for tp, pp in parallel:
                with self.subTest(name=name, what=what, tp=tp, pp=pp):
                    out = self.export(unified, tp, pp)
                    parts = {part: Ranks(rank_files(out / part, tp, pp), tp, pp)
                             for part in ("encoder", "decoder")}
                    found = EncoderDecoderGatherer(parts, EncoderDecoderShape(
                        config, tensors)).gather()
                    self.check_found(found, tensors)
                    self.assertEqual(set(tensors) - set(found), set())
            self.assertEqual(file_sums(self.restore(out, f"{unified.name}-back")),
                             file_sums(unified))
        return out

    def test_t5(self):
        out = self.check_family("t5-v1.0", ("fp8", "int8_sq", "int4"),
                                ((4, 1), (1, 2), (2, 2)))
        config = read_json(out / "decoder" / "config.json")
        expected = {"architecture": "DecoderModel", "dtype": "bfloat16", "head_size": 12,
                    "position_embedding_type": "relative", "layernorm_type": 1, "mlp_type": 0,
                    "hidden_act": "relu", "relative_attention": True, "num_buckets": 16,
                    "q_scaling": 1 / 12 ** 0.5, "rescale_before_lm_head": True, "model_type": "t5",
                    "encoder_num_heads": 4, "decoder_start_token_id": 0,
                    "mapping": {"world_size": 4, "tp_size": 2, "pp_size": 2}}
        self.assertEqual({key: config.get(key) for key in expected}, expected)
        self.check_family("t5-v1.1", ("fp8",), ((1, 1), (5, 1)))
        self.refuse(USAGE, ["3 layers of the encoder", "--pp 1 works"],
                    *self.export_line(self.folder / "t5-v1.1-fp8", 1, 2))

    def test_whisper(self):
        out = self.check_family("whisper", ("fp8", "int8_sq", "int4"), ((1, 1), (4, 2), (2, 1)))
        encoder = read_json(out / "encoder" / "config.json")
        expected = {"architecture": "WhisperEncoder", "n_mels": 20, "max_position_embeddings": 32,
                    "position_embedding_type": "learned_absolute", "intermediate_size": 64,
                    "has_attention_qkvo_bias": True, "layernorm_type": 0, "q_scaling": 1.0}
        self.assertEqual({key: encoder.get(key) for key in expected}, expected)
        self.assertNotIn("rescale_before_lm_head", encoder)
        decoder = read_json(out / "decoder" / "config.json")
        self.assertEqual((decoder["architecture"], decoder["intermediate_size"],
                          decoder["max_position_embeddings"]), ("DecoderModel", 72, 40))
        self.assertEqual(decoder["quantization"]["exclude_modules"], ["lm_head"])


if __name__ == "__main__":
    main()
