"""Logits, hidden states and routing in FP32 against golden files, for every family."""
import array

from checkpoints import Checkpoint, Tensor, read_safetensors, write_safetensors
from halftone_cli import INPUT, USAGE, main, sha256_of
from models import (ARCHS, FAMILIES, TINY_STAGES, ModelTest, copied_model, golden_input,
                    integers_of, relative_error, replace)

FP32 = ("--dtype", "float32")
TOLERANCE = 2e-5
WEIGHT_TOLERANCE = 1e-4
# No input tensors, although golden files hold them.
INPUTS = {"input_ids", "attention_mask", "position_ids", "decoder_input_ids", "input_features"}


class AgainstGolden(ModelTest):
    def check(self, model, golden, *options):
        """The worst error, as a share of what is allowed."""
        expected = {name: tensor for name, tensor in read_safetensors(golden).items()
                    if name not in INPUTS}
        found = self.logits(model, golden, "--hidden", *FP32, *options)
        self.assertLessEqual({"logits", *expected}, set(found))
        worst = 0.0
        for name, tensor in expected.items():
            if name.endswith(".expert_ids"):
                self.assertEqual(integers_of(found[name]), integers_of(tensor), name)
                continue
            allowed = WEIGHT_TOLERANCE if name.endswith(".expert_weights") else TOLERANCE
            error = relative_error(found[name], tensor)
            self.assertLessEqual(error, allowed, name)
            worst = max(worst, error / allowed)
        return worst

    def test_every_family(self):
        self.assertGreaterEqual(len(FAMILIES), 24)
        for name in FAMILIES:
            with self.subTest(name):
                worst = self.check(ARCHS / name, golden_input(name))
                print(f"{name}: {worst:.3f} of the tolerance")

    def test_newer_spelling_of_the_configuration(self):
        names = [name for name in FAMILIES if (ARCHS / name / "config.v5.json").exists()]
        self.assertGreaterEqual(len(names), 23)
        for name in names:
            with self.subTest(name):
                model = copied_model(ARCHS / name, self.folder / name)
                replace(model, "config.json", ARCHS / name / "config.v5.json")
                self.check(model, golden_input(name))

    def test_short_contexts(self):
        """Longrope takes another list of factors below the original length."""
        names = [name for name in FAMILIES if (ARCHS / name / "golden_short.safetensors").exists()]
        self.assertGreaterEqual(len(names), 3)
        for name in names:
            with self.subTest(name):
                self.check(ARCHS / name, ARCHS / name / "golden_short.safetensors")

    def test_the_check_can_fail(self):
        """Another epsilon is a mistake small enough to be overlooked."""
        checkpoint = Checkpoint(ARCHS / "llama-3.1")
        checkpoint.config["rms_norm_eps"] = 2e-4
        model = checkpoint.save(self.folder / "model")
        with self.assertRaises(AssertionError):
            self.check(model, golden_input("llama-3.1"))

    def test_ranks_and_parts_give_the_same_bytes(self):
        for name in FAMILIES:
            with self.subTest(name):
                sums = set()
                for ranks, options in ((None, ()), (2, TINY_STAGES)):
                    self.logits(ARCHS / name, golden_input(name), "--hidden", *FP32, *options,
                                ranks=ranks)
                    sums.add(sha256_of(self.folder / "logits.safetensors"))
                self.assertEqual(len(sums), 1)


class BadInputs(ModelTest):
    def refuse_input(self, name, fragments, change):
        tensors = {key: tensor for key, tensor in read_safetensors(golden_input(name)).items()
                   if key in INPUTS}
        change(tensors)
        source = self.folder / "input.safetensors"
        write_safetensors(source, tensors)
        output = self.folder / "logits.safetensors"
        self.refuse(INPUT, fragments, "evaluate", "--model", ARCHS / name, "--tasks",
                    "logits", "--input", source, "--output", output)
        self.assertFalse(output.exists())

    @staticmethod
    def with_integers(tensors, name, changes):
        values = integers_of(tensors[name])
        for position, value in changes.items():
            values[position] = value
        tensors[name] = Tensor(tensors[name].dtype, tensors[name].shape, values.tobytes())

    def test_missing_tensors(self):
        for name, tensor in (("llama-3.1", "input_ids"), ("t5-v1.1", "input_ids"),
                             ("t5-v1.1", "decoder_input_ids"), ("whisper", "decoder_input_ids")):
            with self.subTest(name=name, tensor=tensor):
                self.refuse_input(name, ["input.safetensors", f"no tensor '{tensor}'"],
                                  lambda tensors, key=tensor: tensors.pop(key))

    def test_ids_outside_the_vocabulary(self):
        for name, tensor in (("llama-3.1", "input_ids"), ("t5-v1.1", "input_ids"),
                             ("t5-v1.1", "decoder_input_ids"), ("whisper", "decoder_input_ids")):
            for value in (-1, 256, 2 ** 40):
                with self.subTest(name=name, tensor=tensor, value=value):
                    self.refuse_input(name, [tensor, str(value)],
                                      lambda tensors, key=tensor, bad=value:
                                      self.with_integers(tensors, key, {7: bad}))

    def test_masks(self):
        self.refuse_input("llama-3.1", ["attention_mask", "row 0"],
                          lambda tensors: self.with_integers(tensors, "attention_mask", {5: 0}))
        self.refuse_input("llama-3.1", ["attention_mask", "row 1"], lambda tensors:
                          self.with_integers(tensors, "attention_mask",
                                             {48 + t: 0 for t in range(48)}))

        def shorten(tensors):
            mask = tensors["attention_mask"]
            tensors["attention_mask"] = Tensor("I64", [1, 48], mask.data[:len(mask.data) // 2])
        self.refuse_input("llama-3.1", ["attention_mask", "[1, 48]", "[2, 48]"], shorten)

    def test_dtypes(self):
        def as_floats(name):
            def change(tensors):
                values = array.array("f", map(float, integers_of(tensors[name])))
                tensors[name] = Tensor("F32", tensors[name].shape, values.tobytes())
            return change
        for name in ("input_ids", "attention_mask"):
            self.refuse_input("llama-3.1", [name, "F32", "I64"], as_floats(name))

        def as_integers(tensors):
            features = tensors["input_features"]
            tensors["input_features"] = Tensor("I32", features.shape, features.data)
        self.refuse_input("whisper", ["input_features", "I32", "F32"], as_integers)

    def test_shapes(self):
        def flat(tensors):
            tensors["input_ids"].shape = [96]
        self.refuse_input("llama-3.1", ["input_ids", "[96]"], flat)

        def rows(tensors):
            ids = tensors["decoder_input_ids"]
            tensors["decoder_input_ids"] = Tensor("I64", [1, 20], ids.data[:160])
        self.refuse_input("whisper", ["decoder_input_ids", "1 rows", "2"], rows)

    def test_other_numbers_of_frames_or_channels(self):
        for shape, bad in (([2, 20, 62], "62"), ([2, 18, 64], "18")):
            def cut(tensors, shape=shape):
                features = tensors["input_features"]
                count = shape[0] * shape[1] * shape[2]
                tensors["input_features"] = Tensor("F32", shape, features.data[:4 * count])
            with self.subTest(shape=shape):
                self.refuse_input("whisper", ["[batch, 20, 64] features", bad], cut)

    def test_options(self):
        model = ARCHS / "llama-3.1"
        for given in ((), ("--input", golden_input("llama-3.1")),
                      ("--output", self.folder / "out.safetensors")):
            with self.subTest(given=given):
                self.refuse(USAGE, ["--input" if "--input" not in given else "--output"], "evaluate",
                            "--model", model, "--tasks", "logits", *given)


if __name__ == "__main__":
    main()
