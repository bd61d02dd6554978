"""Wrong commands, options and values: exit code 2, and the message says what would be right."""
from halftone_cli import INPUT, NANO_LLAMA, USAGE, CliTest, main, run

MODEL = ("--model", NANO_LLAMA)


class BadUsage(CliTest):
    def refuse_usage(self, fragments, *arguments, ranks=None):
        self.refuse(USAGE, fragments, *arguments, ranks=ranks)

    def refuse_quantize(self, fragments, *options, ranks=None):
        out = self.folder / "out"
        given = () if "--out" in options else ("--out", out)
        self.refuse_usage(fragments, "quantize", *MODEL, *given, *options, ranks=ranks)
        self.assertFalse(out.exists())

    def test_no_command(self):
        result = run()
        self.assertEqual(result.returncode, USAGE)
        self.assertIn("Usage", result.stderr)
        self.assertEqual(result.stdout, "")

    def test_unknown_command(self):
        self.refuse_usage(["'quantise'", "did you mean 'quantize'?"], "quantise")
        self.refuse_usage(["'xyz'", "quantize, autoquantize, plan, export"], "xyz")

    def test_unknown_option(self):
        self.refuse_quantize(["--calib-sample'", "did you mean 'calib-samples'?"],
                             "--format", "fp8", "--calib-sample", 3)
        self.refuse_usage(["--plian", "plain"], "tokenize", "--plian")
        # Abbreviations are not guessed.
        self.refuse_quantize(["--over"], "--format", "fp8", "--over")

    def test_unknown_names(self):
        self.refuse_quantize(["'nvfp5'", "did you mean 'nvfp4'?", "supported: "], "--format", "nvfp5")
        self.refuse_quantize(["'fp9'"], "--format", "fp8,fp9")
        self.refuse_quantize(["'fp7'", "KV cache", "did you mean 'fp8'?"],
                             "--format", "fp8", "--kv-cache", "fp7")
        self.refuse_usage(["'humaneval'", "perplexity"], "evaluate", *MODEL, "--tasks", "humaneval")
        self.refuse_quantize(["'nvfp5'"], "--format", "nvfp5", ranks=2)

    def test_values_out_of_range(self):
        for option, values in (("--calib-samples", (0, -1, "many", "1.5", "", 2 ** 63)),
                               ("--calib-length", (0, "x")),
                               ("--batch-size", (0, -4, 65537)),
                               ("--threads", (0, 1025)),
                               ("--max-shard-size", (0, "1GB")),
                               ("--seed", (-1,)),
                               ("--max-stage-bytes", (0, "1GB")),
                               ("--watchdog-seconds", (-1, 86401, "1m")),
                               ("--moe-calib-experts-ratio", (-0.1, 1.5, "nan", "half", "0.5x")),
                               ("--expert-min-tokens", (-1, "1.5")),
                               ("--dtype", ("float64", "bf16")),
                               ("--device", ("tpu",)),
                               ("--numerics", ("gpu",)),
                               ("--target", ("onnx",)),
                               ("--residency", ("memory",))):
            for value in values:
                with self.subTest(option=option, value=value):
                    # The value as one word: "-1" alone would be read as an option.
                    self.refuse_quantize([option, "expected"], "--format", "fp8",
                                         f"{option}={value}" if value != "" else f"{option}=x")

    def test_missing_options(self):
        self.refuse_usage(["--model"], "quantize", "--format", "fp8", "--out", self.folder / "out")
        self.refuse_usage(["--out"], "quantize", *MODEL, "--format", "fp8")
        self.refuse_quantize(["--format"])
        self.refuse_usage(["--model"], "evaluate")
        self.refuse_usage(["--model"], "tokenize")
        self.refuse_usage(["--path"], "inspect")

    def test_option_without_value(self):
        self.refuse_quantize(["--format", "found the option --json"], "--format", "--json")
        # Not a folder called --overwrite.
        self.refuse_quantize(["--out", "found the option --overwrite"], "--format", "fp8",
                             "--out", "--overwrite")
        self.refuse_usage(["--path"], "inspect", "--path")

    def test_given_twice(self):
        self.refuse_quantize(["--format", "twice"], "--format", "fp8", "--format", "nvfp4")
        self.refuse_quantize(["'fp8'", "twice"], "--format", "fp8,fp8")

    def test_stray_word(self):
        for command in ("quantize", "formats"):
            self.refuse_usage(["positional"], command, "stray")

    def test_exclusions(self):
        recipe = self.write("recipe.yaml", "quantize: {}")
        self.refuse_quantize(["--format", "--recipe"], "--format", "fp8", "--recipe", recipe)
        self.refuse_usage(["--kv-cache"], "evaluate", *MODEL, "--kv-cache", "fp8")
        self.refuse_quantize(["--out", "--model"], "--format", "fp8", "--out", NANO_LLAMA,
                             "--overwrite")

    def test_config_file(self):
        config = self.write("run.yaml", f"model: {NANO_LLAMA}\nformat: [fp8, nvfp4]\n"
                                        "calib-samples: 4\ncalib-length: 32\njson: true\n")
        self.succeed("quantize", "--config", config, "--out", self.folder / "out")
        self.assertTrue((self.folder / "out" / "nvfp4" / "config.json").exists())

    def test_command_line_wins_over_the_config_file(self):
        config = self.write("run.yaml", f"model: {NANO_LLAMA}\nformat: nvfp5\ncalib-samples: 4\n")
        self.succeed("quantize", "--config", config, "--out", self.folder / "out",
                     "--format", "fp8")

    def test_bad_config_files(self):
        for text, fragments in ((f"model: {NANO_LLAMA}\nfromat: fp8\n", ["line 2", "fromat", "format"]),
                                ("format: fp8\ncalib-samples: many\n", ["line 2", "calib-samples"]),
                                ("format: [fp8\n", ["line "]),
                                ("- fp8\n", ["mapping"]),
                                ("config: other.yaml\n", ["line 1", "config"])):
            with self.subTest(text):
                self.refuse_quantize(["run.yaml", *fragments],
                                     "--config", self.write("run.yaml", text))
        self.refuse(INPUT, ["nowhere.yaml"], "quantize", "--config", self.folder / "nowhere.yaml")

    def test_existing_output(self):
        out = self.quantize("out", "--format", "fp8")
        for ranks in (None, 2):
            self.refuse_usage([str(out), "exists", "--overwrite"], "quantize", *MODEL,
                              "--format", "nvfp4", "--out", out, ranks=ranks)
        self.quantize("out", "--format", "nvfp4", "--overwrite")
        self.assert_same_checkpoint(out, self.quantize("other", "--format", "nvfp4"))
        self.assertFalse(list(self.folder.glob(".out*")), "nothing of the old output is left")


if __name__ == "__main__":
    main()
