"""The exported checkpoint against those that NVIDIA Model Optimizer 0.47 wrote for the same model."""
import hashlib
import json
import struct

from checkpoints import read_checkpoint_tensors
from halftone_cli import DATA, CliTest, main, read_json

CALIBRATION = ("--calib", DATA / "goldens" / "calib_ids.jsonl", "--calib-samples", 64,
               "--calib-length", 256)


class Golden(CliTest):
    def check_format(self, name):
        golden = read_json(DATA / "goldens" / "nano-llama" / f"{name}.json")
        out = self.quantize(name, "--format", name, *CALIBRATION)
        self.check_tensors(read_checkpoint_tensors(out), golden["tensors"])
        # As texts: the order of the keys counts.
        self.assertEqual(json.dumps(read_json(out / "hf_quant_config.json"), indent=1),
                         json.dumps(golden["hf_quant_config"], indent=1))
        self.assertEqual(json.dumps(read_json(out / "config.json")["quantization_config"], indent=1),
                         json.dumps(golden["config_json_quantization_config"], indent=1))

    def check_tensors(self, tensors, golden):
        self.assertEqual(sorted(tensors), sorted(golden))
        for name, expected in golden.items():
            found = tensors[name]
            self.assertEqual((found.dtype, found.shape), (expected["dtype"], expected["shape"]), name)
            if name.endswith(".input_scale"):
                # Depends on the last bits of the forward pass.
                scale, = struct.unpack("<f", found.data)
                self.assert_close(scale, expected["values"], 0.01, name)
            else:
                self.assertEqual(hashlib.sha256(found.data).hexdigest(), expected["sha256"], name)

    def test_fp8(self):
        self.check_format("fp8")

    def test_nvfp4(self):
        self.check_format("nvfp4")


if __name__ == "__main__":
    main()
