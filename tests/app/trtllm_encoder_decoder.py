"""The same for the two checkpoints of T5 and Whisper."""
from checkpoints import Tensor
from trtllm_layout import SIZES, Gatherer, cat_rows


class Stack:
    """Names of the encoder or the decoder of T5 or Whisper in the unified checkpoint."""

    def __init__(self, config, unified, decoder):
        self.t5 = config["model_type"] == "t5"
        stack = "decoder" if decoder else "encoder"
        self.decoder = decoder
        self.prefix = f"{stack}." if self.t5 else f"model.{stack}."
        self.final = self.prefix + ("final_layer_norm" if self.t5 else "layer_norm")
        if self.t5:
            self.layers = config.get("num_decoder_layers", config["num_layers"]) if decoder else \
                config["num_layers"]
            self.heads, self.head_size = config["num_heads"], config["d_kv"]
            self.projections = ("q", "k", "v", "o")
            self.gated = any(name.endswith(".wi_1.weight") for name in unified)
        else:
            self.layers = config[f"{stack}_layers"]
            self.heads = config[f"{stack}_attention_heads"]
            self.head_size = config["d_model"] // self.heads
            self.projections = ("q_proj", "k_proj", "v_proj", "out_proj")
            self.gated = False

    def modules(self, layer):
        """There -> here: attentions, MLP, norms."""
        here = "self_attention" if self.decoder else "attention"
        if self.t5:
            block = f"{self.prefix}block.{layer}.layer."
            mlp = f"{block}{2 if self.decoder else 1}"
            attentions = {here: f"{block}0.SelfAttention"}
            norms = {f"{here}_layernorm": f"{block}0.layer_norm", "mlp_layernorm": f"{mlp}.layer_norm"}
            if self.decoder:
                attentions["cross_attention"] = f"{block}1.EncDecAttention"
                norms["cross_attention_layernorm"] = f"{block}1.layer_norm"
            dense = f"{mlp}.DenseReluDense."
            mlps = {"fc": dense + ("wi_0" if self.gated else "wi"), "gate": dense + "wi_1",
                    "proj": dense + "wo"}
            return attentions, mlps, norms
        block = f"{self.prefix}layers.{layer}."
        attentions = {here: f"{block}self_attn"}
        norms = {f"{here}_layernorm": f"{block}self_attn_layer_norm",
                 "mlp_layernorm": f"{block}final_layer_norm"}
        if self.decoder:
            attentions["cross_attention"] = f"{block}encoder_attn"
            norms["cross_attention_layernorm"] = f"{block}encoder_attn_layer_norm"
        return attentions, {"fc": f"{block}fc1", "proj": f"{block}fc2"}, norms


class EncoderDecoderShape:
    adds_one = False

    def __init__(self, config, unified):
        self.config, self.unified = config, unified
        self.int4 = any(tensor.dtype == "U8" for tensor in unified.values())
        self.embedding = next(name for name in ("shared.weight", "model.decoder.embed_tokens.weight")
                              if name in unified)
        self.vocabulary = unified[self.embedding].shape[0]

    @staticmethod
    def order(_, count):
        return range(count)


class EncoderDecoderGatherer(Gatherer):
    """`parts`: the rank files of the encoder and of the decoder."""

    def __init__(self, parts, model):
        super().__init__(None, model)
        self.parts, self.int4 = parts, model.int4

    def gather(self):
        for part, ranks in self.parts.items():
            self.ranks, self.pieces = ranks, {}
            self.stack(Stack(self.model.config, self.model.unified, part == "decoder"))
            for target, pieces in self.pieces.items():
                self.set(target, cat_rows(pieces))
            assert not any(ranks.left), f"nobody knows {sorted(set().union(*ranks.left))}"
        return self.found

    def stack(self, stack):
        ranks, unified = self.ranks, self.model.unified
        if stack.t5 or stack.decoder:
            self.set(self.model.embedding, self.vocabulary(0, "transformer.vocab_embedding.weight",
                                                           self.model.vocabulary))
        if not stack.t5:
            positions = f"{stack.prefix}embed_positions.weight"
            self.set(positions, self.vocabulary(0, "transformer.position_embedding.weight",
                                                unified[positions].shape[0]))
        if not stack.t5 and not stack.decoder:
            for name in ("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"):
                tensor = ranks.replicated(0, f"transformer.{name}")
                if name.endswith("weight"):
                    assert tensor.shape.pop() == 1
                self.set(stack.prefix + name, tensor)
        for layer in range(stack.layers):
            per_stage = stack.layers // ranks.pp
            self.stack_layer(stack, layer // per_stage,
                             f"transformer.layers.{layer % per_stage}.", layer)
        for suffix in ("weight", "bias"):
            if ranks.has(ranks.pp - 1, f"transformer.ln_f.{suffix}"):
                self.norm(ranks.pp - 1, f"transformer.ln_f.{suffix}", f"{stack.final}.{suffix}")
        if stack.decoder:
            head = self.vocabulary(ranks.pp - 1, "lm_head.weight", self.model.vocabulary)
            own = "lm_head.weight" in unified
            self.set("lm_head.weight" if own else self.model.embedding, head)

    def stack_layer(self, stack, stage, here, layer):
        attentions, mlps, norms = stack.modules(layer)
        rows = stack.heads // self.ranks.tp * stack.head_size
        for there, module in attentions.items():
            q, k, v, o = (f"{module}.{name}" for name in stack.projections)
            self.column(stage, f"{here}{there}.qkv", [(q, rows, 1), (k, rows, 1), (v, rows, 1)])
            self.row(stage, f"{here}{there}.dense", o)
        inner = self.ranks.files[stage * self.ranks.tp][f"{here}mlp.fc.weight"].shape[0]
        inner *= 2 if self.int4 else 1
        for there in ("fc", "gate") if stack.gated else ("fc",):
            self.column(stage, f"{here}mlp.{there}", [(mlps[there], inner, 1)])
        self.row(stage, here + "mlp.proj", mlps["proj"])
        for there, module in norms.items():
            for suffix in ("weight",) if stack.t5 else ("weight", "bias"):
                self.norm(stage, f"{here}{there}.{suffix}", f"{module}.{suffix}")
        if stack.t5:
            self.relative_table(stack, stage, here + next(iter(attentions)) + ".rel_attn_table")
            if here == "transformer.layers.0.":
                self.relative_table(stack, stage, "rel_attn_table")

    def relative_table(self, stack, stage, name):
        """[heads, buckets] of [buckets, heads]."""
        whole = cat_rows(self.ranks.take(stage, name))
        heads, buckets = whole.shape
        size = SIZES[whole.dtype]
        data = b"".join(whole.data[(h * buckets + b) * size:(h * buckets + b + 1) * size]
                        for b in range(buckets) for h in range(heads))
        self.set(f"{stack.prefix}block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                 Tensor(whole.dtype, [buckets, heads], data))
