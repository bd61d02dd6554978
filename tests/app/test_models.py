"""halftone models: families, the README's support matrix and example, what a checkpoint holds."""
from checkpoints import Checkpoint, read_checkpoint_tensors
from halftone_cli import DATA, NANO_LLAMA, CliTest, main

ROOT = DATA.parent.parent
ARCHS = DATA / "archs"


def between(text, begin, end):
    return text.split(begin, 1)[1].split(end, 1)[0]


class Readme(CliTest):
    def setUp(self):
        super().setUp()
        self.readme = (ROOT / "README.md").read_text(encoding="utf-8")

    def test_support_matrix(self):
        """After a change: paste the output of `halftone models --markdown` between the comments."""
        table = between(self.readme, "<!-- halftone models --markdown -->\n", "<!-- end -->")
        self.assertEqual(table, self.succeed("models", "--markdown").stdout)

    def test_example_of_a_family(self):
        section = between(self.readme, "## Adding a model\n", "\n## ")
        example = between(section, "```cpp\n", "```")
        path = ROOT / "src" / "model" / "families" / "mistral.cpp"
        self.assertEqual(example, path.read_text(encoding="utf-8"))
        self.assertIn("\nFamily mistral_family();\n",
                      (path.parent / "families.h").read_text(encoding="utf-8"))
        self.assertIn("mistral_family(),",
                      (path.parent.parent / "family.cpp").read_text(encoding="utf-8"))


class Families(CliTest):
    def test_list(self):
        families = {family["name"]: family for family in self.succeed_json("models")["families"]}
        plain = self.succeed("models").stdout
        for name, family in families.items():
            for key in ("architectures", "description", "published", "kinds", "low_bit_sources"):
                self.assertTrue(family[key], (name, key))
            for text in (name, family["description"], *family["published"]):
                self.assertIn(text, plain)
        self.assertEqual(families["llama"]["kinds"], ["dense"])
        self.assertEqual(families["mixtral"]["kinds"], ["experts"])
        self.assertEqual(families["gpt-oss"]["kinds"], ["stacked experts"])
        self.assertEqual(families["whisper"]["kinds"], ["encoder-decoder"])
        self.assertIn("mxfp4", families["gpt-oss"]["low_bit_sources"])
        self.assertEqual(families["qwen3"]["trtllm_decoder"], "qwen")
        self.assertIsNone(families["deepseek-v3"]["trtllm_decoder"])

    def test_wrong_usage(self):
        self.refuse(2, ["--family needs --model"], "models", "--family", "llama")
        self.refuse(2, ["--markdown"], "models", "--markdown", "--json")
        self.refuse(2, ["nollama"], "models", "--model", NANO_LLAMA, "--family", "nollama")
        self.refuse(3, ["config.json"], "models", "--model", self.folder)


class OfCheckpoint(CliTest):
    def list(self, folder, *options):
        listing = self.succeed_json("models", "--model", folder, *options)
        return listing, {linear["module"]: linear for linear in listing["linears"]}

    def test_every_architecture(self):
        """Every matrix of a checkpoint that is not extra is a linear or never quantized."""
        for folder in sorted(ARCHS.iterdir()):
            with self.subTest(folder.name):
                listing, linears = self.list(folder)
                extra = {entry["tensor"] for entry in listing["extra"]}
                self.assertNotIn("unknown", {entry["why"] for entry in listing["extra"]})
                plain = {entry["module"] for entry in listing["never_quantized"]}
                for name, tensor in read_checkpoint_tensors(folder).items():
                    module = name.removesuffix(".weight")
                    if module == name or len(tensor.shape) != 2 or name in extra:
                        continue
                    self.assertIn(module, {*linears, *plain}, name)
                    if module in linears:
                        self.assertEqual(linears[module]["shape"], tensor.shape, name)
                plain_text = self.succeed("models", "--model", folder).stdout
                self.assertIn(f"linears: {len(linears)}", plain_text)

    def test_llama(self):
        listing, linears = self.list(NANO_LLAMA)
        self.assertEqual((listing["family"], listing["kind"]), ("llama", "dense"))
        layer = "model.layers.0."
        fused = [linears[layer + f"self_attn.{name}_proj"]["fused_group"] for name in "qkv"]
        self.assertEqual(len(set(fused)), 1)
        self.assertIsNotNone(fused[0])
        down = linears[layer + "mlp.down_proj"]
        self.assertEqual((down["stage"], down["shard"], down["fused_group"], down["trtllm"]),
                         ("layer 0", "input", None, "mlp.proj"))
        self.assertEqual(linears["lm_head"]["stage"], "head")
        self.assertEqual({linear["stored"] for linear in linears.values()}, {"BF16"})
        self.assertEqual(listing["attentions"][0]["module"], layer + "self_attn")
        self.assertIn("model.embed_tokens",
                      {entry["module"] for entry in listing["never_quantized"]})
        self.assertEqual((listing["tied"], listing["extra"]), ([], []))

    def test_sources(self):
        _, linears = self.list(ARCHS / "deepseek-v3-fp8")
        self.assertEqual(linears["model.layers.0.self_attn.o_proj"]["stored"], "fp8 128x128")
        self.assertEqual(linears["lm_head"]["stored"], "BF16")
        _, linears = self.list(ARCHS / "gpt-oss")
        expert = linears["model.layers.0.mlp.experts.3.down_proj"]
        self.assertEqual((expert["stored"], expert["expert"], expert["stacked"]),
                         ("mxfp4", 3, "model.layers.0.mlp.experts.down_proj"))

    def test_tied_carried_and_next_token(self):
        listing, _ = self.list(ARCHS / "qwen3")
        self.assertEqual(listing["tied"], [{"tensor": "lm_head.weight", "stored": True,
                                            "to": "model.embed_tokens.weight"}])
        self.assertEqual([entry["why"] for entry in listing["extra"]], ["tied"])
        for name, why in (("gemma3-4b", "carried"), ("deepseek-v3", "next token")):
            listing, _ = self.list(ARCHS / name)
            self.assertEqual({entry["why"] for entry in listing["extra"]}, {why}, name)

    def test_family_of_another_name(self):
        checkpoint = Checkpoint()
        checkpoint.config["architectures"] = ["NovelForCausalLM"]
        folder = checkpoint.save(self.folder / "novel")
        self.refuse(3, ["NovelForCausalLM", "--family"], "models", "--model", folder)
        self.assertEqual(self.list(folder, "--family", "llama")[0], self.list(NANO_LLAMA)[0])


if __name__ == "__main__":
    main()
