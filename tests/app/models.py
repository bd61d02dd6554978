"""The small models of every family, their golden files, and the logits that the program computes."""
import array
import random
import shutil
from pathlib import Path

from checkpoints import Checkpoint, floats_of, read_safetensors
from halftone_cli import DATA, CliTest

ARCHS = DATA / "archs"
FAMILIES = sorted(path.name for path in ARCHS.iterdir() if path.is_dir())
ENCODER_DECODERS = {"t5-v1.0", "t5-v1.1", "whisper"}
# Small enough that every layer of these models comes in parts.
TINY_STAGES = ("--max-stage-bytes", 20000)


def largest(values):
    return max(map(abs, values))


def relative_error(found, expected):
    """The largest difference, as a share of the largest value."""
    a, b = floats_of(found), floats_of(expected)
    assert len(a) == len(b) and found.shape == expected.shape, (found.shape, expected.shape)
    return max(abs(x - y) for x, y in zip(a, b)) / largest(b)


def rms_error(found, expected):
    """The norm of the difference, as a share of the norm."""
    a, b = floats_of(found), floats_of(expected)
    assert len(a) == len(b) and found.shape == expected.shape, (found.shape, expected.shape)
    return (sum((x - y) ** 2 for x, y in zip(a, b)) / sum(y * y for y in b)) ** 0.5


def integers_of(tensor):
    return array.array({"I32": "i", "I64": "q"}[tensor.dtype], tensor.data)


def golden_input(name):
    return ARCHS / name / "golden.safetensors"


def copied_model(source, folder):
    """Links to the files of a model, so that single ones can be replaced."""
    folder.mkdir(parents=True)
    for path in Path(source).iterdir():
        (folder / path.name).symlink_to(path.resolve())
    return folder


def model_of(name):
    """To be changed; without the tensors of the golden files beside it."""
    checkpoint = Checkpoint(ARCHS / name)
    checkpoint.tensors = read_safetensors(ARCHS / name / "model.safetensors")
    return checkpoint


def replace(folder, name, source):
    """A file of its own instead of a link."""
    (folder / name).unlink()
    shutil.copyfile(source, folder / name)


def id_lines(vocabulary, seed, lines=6, length=24):
    """JSONL with random token ids."""
    draw = random.Random(seed)
    return "".join(f"[{', '.join(str(draw.randrange(vocabulary)) for _ in range(length))}]\n"
                   for _ in range(lines))


class ModelTest(CliTest):
    def logits(self, model, source, *options, ranks=None, output="logits.safetensors"):
        """All tensors that `evaluate --tasks logits` writes."""
        path = self.folder / output
        self.succeed("evaluate", "--model", model, "--tasks", "logits", "--input", source,
                     "--output", path, *options, ranks=ranks)
        return read_safetensors(path)

    def ids(self, vocabulary=256, seed=1):
        """Calibration lines that every text model here can read."""
        return self.write("ids.jsonl", id_lines(vocabulary, seed))

    def int4_recipe(self, block=8):
        """AWQ in blocks that divide the sizes of small models."""
        return self.write("int4.yaml", INT4_RECIPE.format(block=block))


INT4_RECIPE = """\
imports:
  all_off: units/all_off
  default_disabled: units/default_disabled
metadata:
  recipe_type: ptq
  description: INT4 weights in small blocks, smoothed by AWQ
quantize:
  algorithm: {{method: awq_lite, alpha_step: 0.1}}
  quant_cfg:
    - $import: all_off
    - quantizer_name: '*weight_quantizer'
      cfg: {{num_bits: 4, block_sizes: {{-1: {block}}}}}
    - $import: default_disabled
"""
