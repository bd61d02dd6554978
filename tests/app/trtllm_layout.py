"""Puts a unified checkpoint together again from TensorRT-LLM rank files, by the rules of that layout
alone: nothing here knows how the program made them."""
import array
import struct

from checkpoints import Tensor, as_f16

SIZES = {"F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "U8": 1, "I8": 1}
# Suffixes of a quantized linear there and in the unified form.
SUFFIXES = {"weight": "weight", "bias": "bias", "weights_scaling_factor": "weight_scale",
            "per_channel_scale": "weight_scale", "weights_scaling_factor_2": "weight_scale_2",
            "activation_scaling_factor": "input_scale", "prequant_scaling_factor": "pre_quant_scale"}
INPUT_VECTOR, SCALARS = "prequant_scaling_factor", ("activation_scaling_factor",
                                                    "weights_scaling_factor_2")


def rows_of(tensor, begin, end):
    row = len(tensor.data) // tensor.shape[0]
    return Tensor(tensor.dtype, [end - begin, *tensor.shape[1:]], tensor.data[begin * row:end * row])


def cat_rows(parts):
    return Tensor(parts[0].dtype, [sum(part.shape[0] for part in parts), *parts[0].shape[1:]],
                  b"".join(part.data for part in parts))


def cat_columns(parts):
    """Of the last dimension; the parts have one number of rows."""
    rows = parts[0].shape[0]
    widths = [len(part.data) // rows for part in parts]
    data = b"".join(part.data[r * width:(r + 1) * width]
                    for r in range(rows) for part, width in zip(parts, widths))
    return Tensor(parts[0].dtype, [rows, sum(part.shape[1] for part in parts)], data)


def plus_one(tensor):
    """BF16 values and 1, rounded to nearest even."""
    out = array.array("H")
    for half in array.array("H", tensor.data):
        value = struct.unpack("<f", struct.pack("<I", half << 16))[0] + 1.0
        bits = struct.unpack("<I", struct.pack("<f", value))[0]
        out.append((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)
    return Tensor("BF16", tensor.shape, out.tobytes())


def narrow(tensor):
    """F32 that holds BF16 values."""
    words = array.array("I", tensor.data)
    assert not any(word & 0xFFFF for word in words), "a widened value has no more bits"
    return Tensor("BF16", tensor.shape, array.array("H", (word >> 16 for word in words)).tobytes())


class Ranks:
    """The rank files. Everything that was looked at is crossed out."""

    def __init__(self, files, tp, pp):
        self.files, self.tp, self.pp = files, tp, pp
        self.left = [set(file) for file in files]

    def has(self, stage, name):
        return name in self.files[stage * self.tp]

    def take(self, stage, name):
        """Of all tensor-parallel ranks of a pipeline stage."""
        tensors = []
        for rank in range(stage * self.tp, (stage + 1) * self.tp):
            self.left[rank].discard(name)
            tensors.append(self.files[rank][name])
        return tensors

    def replicated(self, stage, name):
        tensors = self.take(stage, name)
        assert all(tensor == tensors[0] for tensor in tensors), f"{name}: the ranks differ"
        return tensors[0]


class Gatherer:
    """`model`: what tensors are called and how large heads are (ModelShape)."""

    def __init__(self, ranks, model):
        self.ranks, self.model, self.found = ranks, model, {}

    def set(self, name, tensor):
        wide = self.model.unified.get(name)
        if tensor.dtype == "F16" and wide is not None and wide.dtype in ("F32", "BF16"):
            assert tensor == as_f16(wide), f"{name}: not the source rounded to F16"
            tensor = wide
        assert name not in self.found or self.found[name] == tensor, f"{name} comes twice"
        self.found[name] = tensor

    def check_ones(self, tensor, name):
        one = {"BF16": b"\x80\x3f", "F16": b"\x00\x3c", "F32": b"\x00\x00\x80\x3f"}[tensor.dtype]
        assert tensor.data == one * (len(tensor.data) // len(one)), f"{name}: expected ones"

    def suffixes(self, stage, module):
        return [suffix for suffix in SUFFIXES if self.ranks.has(stage, f"{module}.{suffix}")]

    def stored(self, tensor, suffix):
        """INT4 bytes are unsigned in the unified form."""
        packed = suffix == "weight" and tensor.dtype == "I8" and self.int4
        return Tensor("U8", tensor.shape, tensor.data) if packed else tensor

    def column(self, stage, module, parts):
        """parts: (unified module, rows of one rank, copies of each rank's rows)."""
        total = sum(rows for _, rows, _ in parts)
        for suffix in self.suffixes(stage, module):
            name = f"{module}.{suffix}"
            tensors = self.ranks.take(stage, name)
            targets = [f"{part}.{SUFFIXES[suffix]}" for part, _, _ in parts]
            if suffix == INPUT_VECTOR or suffix in SCALARS or tensors[0].shape == [1]:
                self.replicas(tensors, suffix, targets, name)
                continue
            if suffix == "bias":
                targets = [f"{part}.bias" for part, _, _ in parts]
            unit = total // tensors[0].shape[0]
            begin = 0
            for target, (_, rows, copies) in zip(targets, parts):
                slices = [rows_of(tensor, begin // unit, (begin + rows) // unit)
                          for tensor in tensors]
                begin += rows
                if suffix == "bias" and target not in self.model.unified:
                    assert not any(any(one.data) for one in slices), f"{name}: expected zeros"
                    continue
                for i, one in enumerate(slices):
                    assert one == slices[i - i % copies], f"{name}: repeated heads differ"
                self.set_part(target, self.stored(cat_rows(slices[::copies]), suffix))

    def set_part(self, target, tensor):
        """Parts of one unified tensor come in its order."""
        self.pieces.setdefault(target, []).append(tensor)

    def replicas(self, tensors, suffix, targets, name):
        assert all(tensor == tensors[0] for tensor in tensors), f"{name}: the ranks differ"
        tensor = tensors[0]
        if suffix != INPUT_VECTOR:
            tensor = Tensor(tensor.dtype, [], tensor.data)
        for target in dict.fromkeys(targets):
            if suffix == INPUT_VECTOR and target not in self.model.unified:
                self.check_ones(tensor, name)
            else:
                self.set(target, tensor)

    def row(self, stage, module, target_module):
        for suffix in self.suffixes(stage, module):
            name, target = f"{module}.{suffix}", f"{target_module}.{SUFFIXES[suffix]}"
            tensors = self.ranks.take(stage, name)
            if suffix == INPUT_VECTOR:
                tensor = cat_rows(tensors)
                if target in self.model.unified:
                    self.set(target, tensor)
                else:
                    self.check_ones(tensor, name)
            elif len(tensors[0].shape) == 2:
                self.set(target, self.stored(cat_columns(tensors), suffix))
            else:
                self.replicas(tensors, suffix, [target], name) if tensors[0].shape == [1] else \
                    self.set(target, self.same(tensors, name))

    def same(self, tensors, name):
        assert all(tensor == tensors[0] for tensor in tensors), f"{name}: the ranks differ"
        return tensors[0]

    def experts(self, stage, module, names, halves):
        """names: per expert the unified modules; halves: up before gate, or one alone."""
        count = len(names)
        for suffix in self.suffixes(stage, module):
            name = f"{module}.{suffix}"
            tensors = self.ranks.take(stage, name)
            if suffix == "activation_scaling_factor":
                self.replicas(tensors, suffix,
                              [f"{one}.input_scale" for group in names for one in group], name)
                continue
            assert all(tensor.shape[0] == count for tensor in tensors), name
            for e, group in enumerate(names):
                mine = [self.expert(tensor, e) for tensor in tensors]
                targets = [f"{one}.{SUFFIXES[suffix]}" for one in group]
                if suffix == INPUT_VECTOR and not halves:
                    mine = [cat_rows(mine)]
                if suffix == INPUT_VECTOR or mine[0].shape in ([], [1]):
                    self.replicas(mine, suffix, targets, name)
                elif halves:
                    half = mine[0].shape[0] // 2
                    for h, target in enumerate(targets):
                        part = cat_rows([rows_of(one, h * half, (h + 1) * half) for one in mine])
                        self.set(target, self.stored(part, suffix))
                else:
                    self.set(targets[0], self.stored(cat_columns(mine), suffix))

    @staticmethod
    def expert(tensor, e):
        size = len(tensor.data) // tensor.shape[0]
        return Tensor(tensor.dtype, tensor.shape[1:], tensor.data[e * size:(e + 1) * size])

    def vocabulary(self, stage, name, rows):
        """The padding is zero."""
        whole = cat_rows(self.ranks.take(stage, name))
        rest = rows_of(whole, rows, whole.shape[0])
        assert not any(rest.data), f"{name}: padding that is not zero"
        return rows_of(whole, 0, rows)

    def norm(self, stage, name, target):
        tensor = self.ranks.replicated(stage, name)
        if self.model.adds_one:
            assert tensor == plus_one(self.model.unified[target]), name
            tensor = self.model.unified[target]
        self.set(target, tensor)

    def gather(self):
        """All tensors of the unified checkpoint that rank files hold."""
        model, ranks = self.model, self.ranks
        self.int4 = model.int4
        self.pieces = {}
        self.set(f"{model.prefix}embed_tokens.weight",
                 self.vocabulary(0, "transformer.vocab_embedding.weight", model.vocabulary))
        for layer in range(model.layers):
            per_stage = model.layers // ranks.pp
            self.layer(layer // per_stage, f"transformer.layers.{layer % per_stage}.",
                       f"{model.prefix}layers.{layer}.", model.kv_heads[layer])
        last = ranks.pp - 1
        for suffix in ("weight", "bias"):
            if ranks.has(last, f"transformer.ln_f.{suffix}"):
                self.norm(last, f"transformer.ln_f.{suffix}", f"{model.prefix}norm.{suffix}")
            if ranks.has(last, f"lm_head.{suffix}"):
                head = self.vocabulary(last, f"lm_head.{suffix}", model.vocabulary)
                tied = suffix == "weight" and model.tied
                self.set(f"{model.prefix}embed_tokens.weight" if tied else f"lm_head.{suffix}", head)
        for target, pieces in self.pieces.items():
            order = model.order(target, len(pieces))
            self.set(target, cat_rows([pieces[i] for i in order]))
        assert not any(ranks.left), f"nobody knows {sorted(set().union(*ranks.left))}"
        return self.found

    def layer(self, stage, here, there, kv_heads):
        model, ranks = self.model, self.ranks
        attention, mlp = here + "attention.", here + "mlp."
        if ranks.has(stage, attention + "qkv.weight"):
            kv = max(kv_heads // ranks.tp, 1) * model.head_size
            q = model.heads // ranks.tp * model.head_size
            copies = max(ranks.tp // kv_heads, 1)
            parts = zip(model.qkv, (q, kv, kv), (1, copies, copies))
            self.column(stage, attention + "qkv",
                        [(f"{there}self_attn.{name}", rows, n) for name, rows, n in parts])
            self.row(stage, attention + "dense", f"{there}self_attn.o_proj")
            for cache in ("k", "v"):
                if ranks.has(stage, f"{attention}{cache}_cache_scaling_factor"):
                    self.cache(stage, attention, f"{there}self_attn.{cache}_proj.{cache}_scale", cache)
        for name, target in (("attn_replacing_linear", "self_attn.linear_attn"),
                             ("mlp_replacing_linear", "mlp.linear_mlp")):
            if ranks.has(stage, f"{here}{name}.weight"):
                rows = ranks.files[stage * ranks.tp][f"{here}{name}.weight"].shape[0]
                rows *= 2 if model.int4 else 1
                self.column(stage, here + name, [(there + target, rows, 1)])
        if ranks.has(stage, mlp + "router.weight"):
            self.mixture(stage, mlp, there + model.moe)
        elif ranks.has(stage, mlp + "fc.weight"):
            self.dense_mlp(stage, mlp, there + "mlp.")
        for name in [name for name in ranks.left[stage * ranks.tp] if name.startswith(here)]:
            self.plain(stage, name, here, there)

    def dense_mlp(self, stage, mlp, there):
        rows = self.ranks.files[stage * self.ranks.tp][mlp + "fc.weight"].shape[0]
        rows *= 2 if self.model.int4 else 1
        if self.ranks.has(stage, mlp + "gate.weight"):
            self.column(stage, mlp + "fc", [(there + "gate_proj", rows, 1)])
            self.column(stage, mlp + "gate", [(there + "up_proj", rows, 1)])
        else:  # up before gate; the unified form has gate before up
            self.column(stage, mlp + "fc", [(there + "gate_up_proj", rows // 2, 1)] * 2)
        self.row(stage, mlp + "proj", there + "down_proj")

    def mixture(self, stage, mlp, there):
        gate, up, down = self.model.expert_names
        router = self.ranks.replicated(stage, mlp + "router.weight")
        assert router.dtype == "F32"
        self.set(there + "gate.weight", narrow(router))
        count = router.shape[0]
        self.experts(stage, mlp + "fc", [[f"{there}experts.{e}.{up}", f"{there}experts.{e}.{gate}"]
                                         for e in range(count)], True)
        self.experts(stage, mlp + "proj", [[f"{there}experts.{e}.{down}"] for e in range(count)],
                     False)
        if not self.ranks.has(stage, mlp + "shared_expert.fc.weight"):
            return
        self.set(there + "shared_expert_gate.weight",
                 self.ranks.replicated(stage, mlp + "shared_expert_gate.weight"))
        rows = self.ranks.files[stage * self.ranks.tp][mlp + "shared_expert.fc.weight"].shape[0]
        rows *= 2 if self.model.int4 else 1
        self.column(stage, mlp + "shared_expert.fc", [(there + "shared_expert.up_proj", rows // 2, 1),
                                                      (there + "shared_expert.gate_proj", rows // 2, 1)])
        self.row(stage, mlp + "shared_expert.proj", there + "shared_expert.down_proj")

    def cache(self, stage, attention, target, which):
        """At least 1 for FP8, a sixth for NVFP4: of the unified form's amax / 448."""
        scale = self.ranks.replicated(stage, f"{attention}{which}_cache_scaling_factor")
        both = self.ranks.replicated(stage, attention + "kv_cache_scaling_factor")
        unified = struct.unpack("<f", self.model.unified[target].data)[0]
        expected = unified / 6 if self.model.nvfp4_cache else max(unified, 1.0)
        assert scale.shape == both.shape == [1] and scale.data == struct.pack("<f", expected), target
        assert struct.unpack("<f", both.data) >= struct.unpack("<f", scale.data), target
        self.set(target, self.model.unified[target])

    def plain(self, stage, name, here, there):
        module, suffix = name.removeprefix(here).rsplit(".", 1)
        target = {"input_layernorm": "input_layernorm", "post_layernorm": "post_attention_layernorm",
                  "pre_feedforward_layernorm": "pre_feedforward_layernorm",
                  "post_feedforward_layernorm": "post_feedforward_layernorm",
                  "attention.q_layernorm": "self_attn.q_norm",
                  "attention.k_layernorm": "self_attn.k_norm"}[module]
        self.norm(stage, name, f"{there}{target}.{suffix}")


class ModelShape:
    """What a unified checkpoint's config.json and names say."""

    def __init__(self, config, unified):
        text = config.get("text_config", config)
        self.unified = unified
        self.prefix = next(name for name in unified
                           if name.endswith("embed_tokens.weight")).removesuffix("embed_tokens.weight")
        self.layers = text["num_hidden_layers"]
        self.heads = text["num_attention_heads"]
        self.head_size = text.get("head_dim", text["hidden_size"] // self.heads)
        self.vocabulary = unified[f"{self.prefix}embed_tokens.weight"].shape[0]
        self.tied = "lm_head.weight" not in unified
        self.adds_one = text.get("model_type", "").startswith("gemma")
        self.fused = f"{self.prefix}layers.0.self_attn.qkv_proj.weight" in unified
        self.qkv = ("qkv_proj",) * 3 if self.fused else ("q_proj", "k_proj", "v_proj")
        self.nvfp4_cache = config["quantization_config"].get("kv_cache_scheme") == "NVFP4"
        mixtral = any(".block_sparse_moe." in name for name in unified)
        self.moe = "block_sparse_moe." if mixtral else "mlp."
        self.expert_names = ("w1", "w3", "w2") if mixtral else ("gate_proj", "up_proj", "down_proj")
        self.int4 = any(name.endswith(".weight") and tensor.dtype == "U8"
                        and unified[f"{name}_scale"].dtype == "F32"
                        for name, tensor in unified.items())
        if "block_configs" in config:
            groups = [block["attention"]["n_heads_in_group"] for block in config["block_configs"]]
            self.kv_heads = [self.heads // group if group else self.heads for group in groups]
        else:
            self.kv_heads = [text.get("num_key_value_heads", self.heads)] * self.layers

    @staticmethod
    def order(target, count):
        """Rank files have up before gate."""
        return [1, 0] if count == 2 and ".gate_up_proj." in target else range(count)
