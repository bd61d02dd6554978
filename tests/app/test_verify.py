"""verify finds every fault that is planted, under its own name, and passes what is exported."""
import json
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from checkpoints import Tensor, read_safetensors, write_safetensors
from faults import DOWN, FAULTS, edit_configs
from halftone_cli import (DATA, DONE, FAILED, INPUT, NANO_LLAMA, SMALL_CALIBRATION, USAGE, CliTest, main,
                          run)
from models import ARCHS, id_lines

NANO_DEEPSEEK = DATA / "models" / "nano-deepseek-v3"
MIXED = """\
imports: {all_off: units/all_off, default_disabled: units/default_disabled,
          fp8: units/fp8, nvfp4: units/nvfp4}
quantize:
  algorithm: max
  quant_cfg:
    - $import: all_off
    - {quantizer_name: '*self_attn*weight_quantizer', cfg: {$import: fp8}}
    - {quantizer_name: '*self_attn*input_quantizer', cfg: {$import: fp8}}
    - {quantizer_name: '*mlp*weight_quantizer', cfg: {$import: nvfp4}}
    - {quantizer_name: '*mlp*input_quantizer', cfg: {$import: nvfp4}}
    - $import: default_disabled
"""
# Those that smooth or search move scales to where verify must look for them.
FORMATS = ("fp8_pb_wo,fp8_pc_pt,int4_awq,int4_wo,int8,int8_wo,mxfp4,mxfp8,nf4,nvfp4_awq,"
           "nvfp4_awq_full,nvfp4_four_over_six,nvfp4_mlp_weight_only,nvfp4_svdquant,w4a16_nvfp4,"
           "w4a8_awq,w4a8_mxfp4_fp8,w4a8_nvfp4_fp8")
# Stacked experts, (1 + w) norms, latent attention, merged projections, an encoder, towers.
FAMILIES = {"gpt-oss": "fp8,nvfp4_experts_only,int8_wo", "llama4-scout": "nvfp4_experts_only,int8_wo",
            "gemma3-4b": "fp8,int8_sq", "deepseek-v3-fp8": "fp8", "phi3-mini": "fp8,int8",
            "t5-v1.1": "fp8,int8_sq", "qwen2-moe": "fp8,fp8_pc_pt"}


def kinds(report, of="problems"):
    return {entry["kind"] for entry in report[of]}


class VerifyTest(CliTest):
    """Exports are made once for all tests."""

    @classmethod
    def setUpClass(cls):
        cls.shared = Path(tempfile.mkdtemp(prefix="halftone-verify-"))
        cls.addClassCleanup(shutil.rmtree, cls.shared, ignore_errors=True)
        (cls.shared / "ids.jsonl").write_text(id_lines(256, 1))
        (cls.shared / "mixed.yaml").write_text(MIXED)
        cls.exports, cls.sources = {}, {}

    @classmethod
    def export(cls, name, model, *options, calibration=SMALL_CALIBRATION):
        if name not in cls.exports:
            out = cls.shared / name
            result = run("quantize", "--model", model, "--out", out, *options, *calibration)
            assert result.returncode == DONE, f"{name}: {result.stderr}"
            cls.exports[name], cls.sources[name] = out, model
        return cls.exports[name]

    @classmethod
    def base(cls, name):
        ids = ("--calib", cls.shared / "ids.jsonl")
        make = {
            "llama": (NANO_LLAMA, "--format", "nvfp4", "--kv-cache", "fp8"),
            "fp8": (NANO_LLAMA, "--format", "fp8"),
            "int8_sq": (NANO_LLAMA, "--format", "int8_sq"),
            "mixed": (NANO_LLAMA, "--recipe", cls.shared / "mixed.yaml"),
            "experts": (NANO_DEEPSEEK, "--format", "nvfp4"),
            "experts-fp8": (NANO_DEEPSEEK, "--format", "fp8"),
            "mtp": (ARCHS / "deepseek-v3", "--format", "fp8"),
            "tied": (ARCHS / "llama-3.2", "--format", "fp8"),
        }[name]
        return cls.export(name, *make, calibration=ids if name in ("tied", "mtp") else SMALL_CALIBRATION)

    def verify(self, folder, *options, ranks=None):
        """The exit code and the JSON object."""
        result = run("verify", folder, *options, "--json", ranks=ranks)
        self.assertIn(result.returncode, (DONE, FAILED), f"{folder}\n{result.stderr}")
        report = json.loads(result.stdout)
        self.assertEqual(report["ok"], result.returncode == DONE)
        self.assertEqual(report["ok"], not report["problems"])
        return report


class PlantedFaults(VerifyTest):
    def plant(self, name):
        fault = FAULTS[name]
        folder = self.folder / name
        fault.plant(self.base(fault.base), folder)
        against = ("--against", self.sources[fault.base]) if fault.against else ()
        return self.verify(folder, *against)

    def test_each_is_found_under_its_own_name(self):
        self.assertGreaterEqual(len(FAULTS), 25)
        for name in sorted({fault.base for fault in FAULTS.values()}):
            self.base(name)
        with ThreadPoolExecutor(2) as pool:
            running = {name: pool.submit(self.plant, name) for name in FAULTS}
        for name, fault in FAULTS.items():
            with self.subTest(name):
                report = running[name].result()
                found = kinds(report, "warnings" if fault.warning else "problems")
                self.assertEqual(found, {fault.rule})
                for entry in report["problems"]:
                    self.assertTrue(entry["expected"] and entry["found"], entry)
                    self.assertTrue(entry["tensor"] or entry["file"] or
                                    fault.rule.startswith("config"), entry)
                    self.assertIn(entry["kind"], entry["text"])

    def test_findings_name_the_place(self):
        FAULTS["zero_scale"].plant(self.base("llama"), self.folder / "bad")
        for ranks in (None, 2):
            report = self.verify(self.folder / "bad", ranks=ranks)
            self.assertEqual([entry["tensor"] for entry in report["problems"]],
                             [DOWN + ".weight_scale_2"])
            self.assertRegex(report["problems"][0]["file"], r"^model-0000[12]-of-00002")
        self.refuse(FAILED, ["1 problem", "zero-scale", DOWN], "verify", self.folder / "bad")

    def test_what_the_source_tells(self):
        """A tensor that nobody misses without it."""
        FAULTS["dropped_next_token_tensor"].plant(self.base("mtp"), self.folder / "bad")
        self.assertEqual(kinds(self.verify(self.folder / "bad")), set())


class SoundExports(VerifyTest):
    def check(self, out, source, *options):
        report = self.verify(out, "--against", source, *options)
        self.assertEqual((report["problems"], report["warnings"]), ([], []), out)
        return report

    def check_all(self, parts):
        with ThreadPoolExecutor(2) as pool:
            return list(pool.map(lambda part: self.check(*part), parts))

    def test_every_kind_of_format(self):
        out = self.export("all", NANO_LLAMA, "--format", FORMATS)
        names = FORMATS.split(",")
        reports = self.check_all([(out / name, NANO_LLAMA) for name in names])
        for name, report in zip(names, reports):
            with self.subTest(name):
                least = 30.0 if "8" in name and "4" not in name else 15.0
                self.assertGreater(report["sqnr"]["worst"][0]["db"], least)

    def test_caches_mixtures_and_smoothing(self):
        names = ("llama", "int8_sq", "mixed", "experts", "experts-fp8", "mtp", "tied")
        parts = [(self.base(name), self.sources[name]) for name in names]
        for cache in ("fp8_affine", "nvfp4_cast"):
            parts.append((self.export(cache, NANO_LLAMA, "--format", "fp8", "--kv-cache", cache),
                          NANO_LLAMA))
        self.check_all(parts)

    def test_families(self):
        parts = []
        for name, formats in FAMILIES.items():
            out = self.export(f"of-{name}", ARCHS / name, "--format", formats,
                              calibration=("--calib", self.shared / "ids.jsonl"))
            several = "," in formats
            parts += [(out / one if several else out, ARCHS / name) for one in formats.split(",")]
        self.check_all(parts)

    def test_ranks_agree(self):
        out = self.base("experts")
        source = self.sources["experts"]
        alone = self.check(out, source)
        again = self.verify(out, "--against", source, ranks=3)
        self.assertEqual(again, alone)

    def test_sqnr_is_what_packing_recorded(self):
        out = self.base("llama")
        linears = json.loads((out / "summary.json").read_text())["linears"]
        report = self.check(out, NANO_LLAMA)
        self.assertEqual(len(report["sqnr"]["worst"]), 10)
        for name, db in report["sqnr"]["linears"].items():
            self.assertAlmostEqual(db, linears[name]["sqnr_db"], delta=0.002)

    def test_perplexity_is_evaluates(self):
        text = DATA / "text" / "eval_selfwritten.jsonl"
        out = self.base("llama")
        report = self.check(out, NANO_LLAMA, "--calib", text, "--calib-samples", 8,
                            "--calib-length", 64)
        for model, value in ((out, report["perplexity"]["value"]),
                             (NANO_LLAMA, report["perplexity"]["source"]["value"])):
            self.assertEqual(value, self.perplexity(model, "--data", text, "--data-samples", 8,
                                                    "--data-length", 64))


class Engines(VerifyTest):
    def check_engine(self, out, engine, tp, expected):
        report = self.verify(out, "--engine", engine, "--tp", tp)
        self.assertEqual(kinds(report), set(expected), report["problems"][:3])
        return report

    def test_formats(self):
        for name, engine, expected in (
                ("llama", "vllm", ()), ("llama", "sglang", ()), ("llama", "trtllm", ()),
                ("fp8", "vllm,sglang,trtllm", ()),
                ("int8_sq", "vllm", ("engine-format",)),
                ("mixed", "vllm", ()), ("mixed", "trtllm", ())):
            with self.subTest(name=name, engine=engine):
                self.check_engine(self.base(name), engine, 1, expected)
        blocks = self.export("blocks", NANO_LLAMA, "--format", "nvfp4_mlp_weight_only")
        self.check_engine(blocks, "vllm", 1, ())

    def test_the_file_of_several_formats(self):
        out = self.folder / "out"
        shutil.copytree(self.base("mixed"), out)
        layers = json.loads((out / "quant_cfg.json").read_text())
        layers["quantized_layers"].popitem()
        (out / "quant_cfg.json").write_text(json.dumps(layers))
        self.check_engine(out, "trtllm", 1, ("config-files-disagree",))
        (out / "quant_cfg.json").unlink()
        self.check_engine(out, "trtllm", 1, ("engine-missing-file",))

    def test_sizes_that_do_not_divide(self):
        out = self.base("llama")  # 4 heads, 2 KV heads, 384 inner channels
        for tp in (2, 4):
            self.check_engine(out, "vllm", tp, ())
        report = self.check_engine(out, "vllm", 3, ("engine-tp-heads", "engine-tp-divides"))
        self.assertIn("KV heads that 3 GPUs", str(report["problems"]))
        # 384 / 16 is no whole number of blocks of 16 times 16 GPUs.
        report = self.check_engine(out, "trtllm", 16, ("engine-tp-heads", "engine-tp-divides"))
        self.assertIn("blocks of 16", str(report["problems"]))

    def test_spelling(self):
        out = self.folder / "out"
        shutil.copytree(self.base("fp8"), out)
        for path in out.glob("*.safetensors"):
            tensors = read_safetensors(path)
            for suffix in (".weight", ".weight_scale", ".input_scale"):
                tensors.pop(DOWN + suffix)
            tensors[DOWN + ".weight"] = Tensor("BF16", [128, 384], bytes(2 * 128 * 384))
            write_safetensors(path, tensors)

        def change(config, key):
            config[key] = sorted([*config[key], "model.layers.1.mlp.down*"])
        edit_configs(out, change)
        self.check_engine(out, "vllm", 1, ())
        # A plain substring there: the star never matches.
        self.check_engine(out, "sglang", 1, ("engine-exclude-spelling",))

    def test_quantize_asks_before_it_reads(self):
        base = ("quantize", "--model", NANO_LLAMA, "--out", self.folder / "out")
        self.refuse(USAGE, ["--engine vllm", "int8_sq", "engine-format"], *base, "--format",
                    "int8_sq", "--engine", "vllm")
        self.refuse(USAGE, ["--engine sglang", "engine-kv-cache", "NVFP4"], *base, "--format",
                    "nvfp4", "--kv-cache", "nvfp4_cast", "--engine", "vllm,sglang")
        self.refuse(USAGE, ["engine-tp-divides", "3 equal shards", "--tp"], *base, "--format", "fp8", "--engine",
                    "vllm", "--tp", 3)
        self.refuse(USAGE, ["--engine", "vlm", "vllm"], *base, "--format", "fp8", "--engine", "vlm")
        self.assertFalse((self.folder / "out").exists())
        self.quantize("fine", "--format", "fp8", "--engine", "vllm,sglang,trtllm", "--tp", 2)


class BadInput(VerifyTest):
    def test_not_an_exported_checkpoint(self):
        self.refuse(INPUT, ["not a folder"], "verify", self.folder / "none")
        self.refuse(INPUT, ["config.json"], "verify", self.folder)
        self.refuse(INPUT, ["not an exported checkpoint"], "verify", NANO_LLAMA)
        self.refuse(USAGE, ["--dir"], "verify")
        self.refuse(USAGE, ["did you mean 'vllm'"], "verify", self.folder, "--engine", "vlm")

    def test_wrong_source(self):
        out = self.base("llama")
        self.refuse(USAGE, ["quantized itself"], "verify", out, "--against", out)
        self.refuse(USAGE, ["DeepseekV3ForCausalLM"], "verify", out, "--against",
                    ARCHS / "deepseek-v3")
        self.refuse(INPUT, ["not a folder"], "verify", out, "--against", self.folder / "none")

    def test_hostile_files(self):
        out = self.folder / "out"
        shutil.copytree(self.base("fp8"), out)
        weights = next(out.glob("*.safetensors"))
        content = weights.read_bytes()
        for data in (b"\xff" * 4096, content[:8] + b"x" * (len(content) - 8),
                     content + b"more", b"PK" + content):
            weights.write_bytes(data)
            self.refuse(INPUT, [weights.name], "verify", out)
        weights.write_bytes(content)
        for name in ("config.json", "hf_quant_config.json"):
            original = (out / name).read_bytes()
            for text in (b"", b"{", b"[" * 100000, b"\xff\xfe"):
                (out / name).write_bytes(text)
                self.refuse(INPUT, [name], "verify", out)
            (out / name).write_bytes(original)
        (out / "rank0.safetensors").write_bytes(content)
        self.refuse(INPUT, ["'unified'", "rank files"], "verify", out)


if __name__ == "__main__":
    main()
