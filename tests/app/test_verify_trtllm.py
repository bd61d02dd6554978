"""verify finds every fault that is planted in rank files, and passes what is exported."""
import json
import shutil
import struct

from checkpoints import Tensor, read_safetensors, write_safetensors
from halftone_cli import DONE, FAILED, INPUT, NANO_LLAMA, SMALL_CALIBRATION, main, read_json, run
from models import ARCHS
from trtllm_case import TrtllmTest

LAYER = "transformer.layers.0."
SCALE = LAYER + "mlp.fc.weights_scaling_factor"


def edit(folder, file, change):
    path = folder / file
    tensors = read_safetensors(path)
    change(tensors)
    write_safetensors(path, tensors)


def edit_config(folder, change, file="config.json"):
    config = read_json(folder / file)
    change(config)
    (folder / file).write_text(json.dumps(config))


def set_scale(value):
    return lambda tensors: tensors.update({SCALE: Tensor("F32", [1], struct.pack("<f", value))})


def reshape(tensors):
    weight = tensors[LAYER + "mlp.proj.weight"]
    tensors[LAYER + "mlp.proj.weight"] = Tensor(weight.dtype, weight.shape[::-1], weight.data)


def swap(first, second):
    def change(folder):
        names = [folder / f"rank{rank}.safetensors" for rank in (first, second)]
        contents = [path.read_bytes() for path in names]
        for path, content in zip(names, reversed(contents)):
            path.write_bytes(content)
    return change


def in_rank(rank, change):
    return lambda folder: edit(folder, f"rank{rank}.safetensors", change)


def truncate(folder):
    path = folder / "rank1.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def spoil_norm(tensors):
    norm = tensors[LAYER + "input_layernorm.weight"]
    tensors[LAYER + "input_layernorm.weight"] = Tensor(norm.dtype, norm.shape, norm.data[::-1])


def nan_weight(tensors):
    weight = tensors[LAYER + "attention.qkv.weight"]
    tensors[LAYER + "attention.qkv.weight"] = Tensor(weight.dtype, weight.shape,
                                                     b"\x7f" + weight.data[1:])


FAULTS = {
    "shards of one stage swapped": (swap(0, 1), "changed-file"),
    "stages swapped": (swap(0, 2), "missing-tensor"),
    "a missing rank": (lambda folder: (folder / "rank3.safetensors").unlink(), "missing-file"),
    "one rank too many": (lambda folder: shutil.copy(folder / "rank3.safetensors",
                                                     folder / "rank4.safetensors"),
                          "unexpected-file"),
    "a truncated file": (truncate, "truncated-file"),
    "a missing tensor": (in_rank(1, lambda tensors: tensors.pop(SCALE)), "missing-tensor"),
    "a foreign tensor": (in_rank(1, lambda tensors: tensors.update(
        {"transformer.extra.weight": Tensor("F32", [1], bytes(4))})), "unexpected-tensor"),
    "a wrong shape": (in_rank(2, reshape), "wrong-shape"),
    "a wrong dtype": (in_rank(2, lambda tensors: tensors.update(
        {SCALE: Tensor("BF16", [1], b"\x80\x3f")})), "wrong-dtype"),
    "a scale of zero": (in_rank(0, set_scale(0.0)), "zero-scale"),
    "a scale that is no number": (in_rank(0, set_scale(float("nan"))), "nan-scale"),
    "an infinite scale": (in_rank(3, set_scale(float("inf"))), "infinite-scale"),
    "a scale that the ranks do not share": (in_rank(1, set_scale(2.5)), "ranks-differ"),
    "a norm that the ranks do not share": (in_rank(3, spoil_norm), "ranks-differ"),
    "a weight that is no number": (in_rank(3, nan_weight), "not-finite"),
    "another mapping": (lambda folder: edit_config(folder, lambda config: config["mapping"].update(
        {"tp_size": 1, "world_size": 2})), "wrong-shape"),
    "a mapping that does not divide": (lambda folder: edit_config(
        folder, lambda config: config["mapping"].update({"tp_size": 3})), "config-disagrees"),
    "another format": (lambda folder: edit_config(folder, lambda config: config["quantization"]
                                                  .update({"quant_algo": "NVFP4"})),
                       "config-disagrees"),
    "another base of rotation": (lambda folder: edit_config(
        folder, lambda config: config.update({"rotary_base": 10000.0})), "config-disagrees"),
}


class VerifyRankFiles(TrtllmTest):
    def verify(self, folder, *options, ranks=None):
        result = run("verify", folder, *options, "--json", ranks=ranks)
        self.assertIn(result.returncode, (DONE, FAILED), f"{folder}\n{result.stderr}")
        report = json.loads(result.stdout)
        self.assertEqual(report["ok"], result.returncode == DONE)
        return {entry["kind"] for entry in report["problems"]}, report

    def exported(self, *options, tp=2, pp=2, model=NANO_LLAMA):
        unified = self.unified("unified", *options, *SMALL_CALIBRATION, model=model)
        return unified, self.export(unified, tp, pp, "good")

    def test_planted_faults(self):
        _, good = self.exported("--format", "fp8", "--kv-cache", "fp8")
        self.assertEqual(self.verify(good)[0], set())
        for what, (plant, kind) in FAULTS.items():
            with self.subTest(what=what):
                bad = self.folder / "bad"
                shutil.copytree(good, bad)
                plant(bad)
                self.assertIn(kind, self.verify(bad)[0])
                shutil.rmtree(bad)

    def test_against_what_it_was_made_from(self):
        unified, good = self.exported("--format", "nvfp4")
        self.assertEqual(self.verify(good, "--against", unified, ranks=2)[0], set())
        found, report = self.verify(good, "--against", NANO_LLAMA)
        self.assertEqual(found, set())
        self.assertGreater(report["sqnr"]["median_db"], 15)
        # Without checksums the bytes themselves tell.
        (good / "unified" / "rank_files.json").unlink()
        swap(0, 1)(good)
        self.assertIn("differs-from-unified", self.verify(good, "--against", unified)[0])
        self.assertNotEqual(self.verify(good, "--against", NANO_LLAMA)[0], set())

    def test_engines(self):
        _, good = self.exported("--format", "fp8")
        self.assertEqual(self.verify(good, "--engine", "trtllm")[0], set())
        self.assertEqual(self.verify(good, "--engine", "vllm")[0], {"engine-format"})
        unified = self.unified("nvfp4", "--format", "nvfp4", *SMALL_CALIBRATION)
        # 384 channels of fc on four ranks are no multiple of 128.
        out = self.export(unified, 4, 1, "nvfp4-4")
        self.assertEqual(self.verify(out, "--engine", "trtllm")[0], {"engine-tp-divides"})

    def test_two_parts_and_mixtures(self):
        for name, tp, pp in (("whisper", 2, 2), ("mixtral-8x7b", 2, 1)):
            calibration = ((ARCHS / name / "golden.safetensors") if name == "whisper"
                           else self.ids())
            unified = self.unified(name, "--format", "fp8", "--calib", calibration,
                                   model=ARCHS / name)
            out = self.export(unified, tp, pp)
            self.assertEqual(self.verify(out, "--against", unified)[0], set())

    def test_a_folder_that_nobody_knows(self):
        _, good = self.exported("--format", "fp8")
        shutil.rmtree(good / "unified")
        self.refuse(INPUT, ["unified", "which tensors"], "verify", good)


if __name__ == "__main__":
    main()
