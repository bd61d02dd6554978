"""Writes TensorRT-LLM checkpoints and compares what they hold with the unified form."""
from checkpoints import read_checkpoint_tensors, read_safetensors
from halftone_cli import NANO_LLAMA, read_json
from models import ModelTest
from trtllm_layout import Gatherer, ModelShape, Ranks


def rank_files(folder, tp, pp):
    return [read_safetensors(folder / f"rank{rank}.safetensors") for rank in range(tp * pp)]


class TrtllmTest(ModelTest):
    def export(self, unified, tp=1, pp=1, name=None, ranks=None, options=()):
        out = self.folder / (name or f"{unified.name}-tp{tp}-pp{pp}")
        self.succeed(*self.export_line(unified, tp, pp, out), *options, ranks=ranks)
        return out

    def export_line(self, unified, tp, pp, out=None):
        return ("export", "--model", unified, "--target", "trtllm", "--tp", tp, "--pp", pp, "--out",
                out or self.folder / "refused", "--device", "cpu")

    def unified(self, out, *options, model=NANO_LLAMA):
        return self.quantize(out, "--fused-scales", *options, model=model)

    def check_gathers(self, unified, trtllm, tp, pp):
        """Every tensor that the model computes with comes back, bit for bit."""
        tensors = read_checkpoint_tensors(unified)
        model = ModelShape(read_json(unified / "config.json"), tensors)
        found = Gatherer(Ranks(rank_files(trtllm, tp, pp), tp, pp), model).gather()
        self.assertEqual({name for name in tensors if name not in found and name.startswith(
            (model.prefix, "lm_head"))}, set())
        self.check_found(found, tensors)

    def check_found(self, found, tensors):
        """Without a listing of the bytes."""
        for name, tensor in found.items():
            self.assertEqual((tensor.dtype, tensor.shape), (tensors[name].dtype, tensors[name].shape),
                             name)
            self.assertTrue(tensor.data == tensors[name].data, f"{name} differs")

    def restore(self, trtllm, name="restored"):
        out = self.folder / name
        self.succeed("export", "--model", trtllm, "--out", out, "--device", "cpu")
        return out
