"""Writes checkpoint/testdata/adapters: adapters of every kind for the small models of testdata/single, and the weights that
they make of them, merged by hand in float64.

    python train/goldens_single.py && python train/goldens_adapters.py
"""

import json
import pathlib
import re
import shutil
import sys

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from train import single_names  # noqa: E402

DATA = pathlib.Path(__file__).resolve().parent.parent / "checkpoint" / "testdata"
OUT = DATA / "adapters"
EINSUM = "i j k l, i p, j q -> p q k l"  # a Tucker core between two ranks


def folder(name):
    """The small model as {part.name: float64}, from the names that its golden file has in diffusers' layout."""
    whole = load_file(DATA / "single" / f"{name}.safetensors")
    parts = {}
    up = {i: any(f"output_blocks.{3 * i}.1.norm" in k for k in whole) for i in range(2)}
    ldm = {k.removeprefix("model.diffusion_model."): v for k, v in whole.items() if k.startswith("model.diffusion_model.")}
    shape = UNETS[name]
    for k in UNet2DConditionModel(**shape).state_dict():
        parts["unet." + k] = ldm[single_names.unet(k, lambda i: up[i])].double()
    for part, prefix in {"text_encoder": ("cond_stage_model.transformer.", "conditioner.embedders.0.transformer.")}.items():
        for k, v in whole.items():
            for p in prefix:
                if k.startswith(p) and "position_ids" not in k:
                    parts[f"{part}.{k.removeprefix(p)}"] = v.double()
    g = "conditioner.embedders.1.model.transformer.resblocks."
    for k, v in whole.items():
        if k.startswith(g) and "c_fc.weight" in k:
            parts[f"text_encoder_2.text_model.encoder.layers.{k.removeprefix(g).split('.')[0]}.mlp.fc1.weight"] = v.double()
    return parts


UNETS = {
    "sd1": dict(block_out_channels=(4, 8), layers_per_block=2, cross_attention_dim=8, attention_head_dim=2, norm_num_groups=2,
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")),
    "sdxl": dict(block_out_channels=(4, 8), layers_per_block=2, cross_attention_dim=20, attention_head_dim=[1, 1], norm_num_groups=2,
                 use_linear_projection=True, transformer_layers_per_block=[1, 2], addition_embed_type="text_time", addition_time_embed_dim=4,
                 projection_class_embeddings_input_dim=36, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                 up_block_types=("CrossAttnUpBlock2D", "UpBlock2D")),
}

BLOCK = "unet.down_blocks.0.attentions.1.transformer_blocks.0"
LINEAR = [f"{BLOCK}.attn2.to_k", f"{BLOCK}.attn1.to_out.0", f"{BLOCK}.ff.net.0.proj", "unet.up_blocks.1.attentions.2.proj_in",
          "unet.time_embedding.linear_1", "text_encoder.text_model.encoder.layers.1.self_attn.q_proj"]
CONV = ["unet.down_blocks.0.resnets.1.conv1", "unet.conv_in", "unet.down_blocks.0.downsamplers.0.conv", "unet.up_blocks.0.upsamplers.0.conv"]
XL = ["unet.down_blocks.1.attentions.1.transformer_blocks.1.attn2.to_k", "unet.mid_block.attentions.0.proj_out", "unet.up_blocks.0.attentions.2.proj_in",
      "unet.up_blocks.0.resnets.1.conv_shortcut", "unet.down_blocks.1.resnets.0.time_emb_proj", "unet.add_embedding.linear_2",
      "unet.up_blocks.0.upsamplers.0.conv", "unet.mid_block.resnets.1.conv2",
      "text_encoder.text_model.encoder.layers.0.mlp.fc2", "text_encoder_2.text_model.encoder.layers.1.mlp.fc1"]


def kohya(module):
    part, rest = module.split(".", 1)
    return {"unet": "lora_unet_", "text_encoder": "lora_te_"}[part] + rest.replace(".", "_")


def kohya_xl(module):
    """LDM's names for the U-Net, as kohya's scripts write them for SDXL."""
    part, rest = module.split(".", 1)
    if part == "unet":
        rest = single_names.unet(rest + ".weight", lambda i: i == 0).removesuffix(".weight")
    return {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}[part] + rest.replace(".", "_")


def randn(*shape):
    return torch.randn(*shape) * 0.3


def up_down(weight, r):
    """down has the kernel, up is 1x1."""
    if weight.ndim == 4:
        return randn(weight.shape[0], r, 1, 1), randn(r, *weight.shape[1:])
    return randn(weight.shape[0], r), randn(r, weight.shape[1])


def product(up, down, weight):
    return (up.double().flatten(1) @ down.double().flatten(1)).reshape(weight.shape)


class Writer:
    def __init__(self):
        self.models = {name: folder(name) for name in UNETS}
        self.expected = {}

    def save(self, name, model, tensors, merged, metadata=None, strength=(1.0, 1.0), unmatched=()):
        save_file({k: v.contiguous() for k, v in tensors.items()}, OUT / f"{name}.safetensors", metadata=metadata)
        save_file({k: v.float().contiguous() for k, v in merged.items()}, OUT / f"{name}.merged.safetensors")
        self.expected[name] = {"model": model, "weight": strength[0], "text_weight": strength[1], "arrays": sorted(merged), "unmatched": list(unmatched)}

    def lora(self, name, model, modules, spell, suffixes, alpha=True, r=2, strength=(1.0, 1.0), half=False, also=None, **how):
        base, tensors, merged = self.models[model], dict(also or {}), {}
        for i, module in enumerate(modules):
            w = base[module + ".weight"]
            up, down = up_down(w, r)
            if half:
                up, down = up.half(), down.half()
            tensors[spell(module) + suffixes[0]], tensors[spell(module) + suffixes[1]] = down, up
            scale = 1.0
            if alpha:
                tensors[spell(module) + ".alpha"] = torch.tensor(float(i + 1))
                scale = (i + 1) / r
            s = strength[1] if module.startswith("text") else strength[0]
            merged[module + ".weight"] = w + s * scale * product(up, down, w)
        self.save(name, model, tensors, merged, strength=strength, **how)


KOHYA = (".lora_down.weight", ".lora_up.weight")


def spellings(w):
    w.lora("kohya-sd1", "sd1", LINEAR + CONV, kohya, KOHYA, half=True, strength=(0.7, -0.5))
    w.lora("kohya-sdxl", "sdxl", XL, kohya_xl, KOHYA, strength=(0.8, 0.3))
    w.lora("no-alpha", "sd1", LINEAR, kohya, KOHYA, alpha=False)
    w.lora("diffusers-dots", "sd1", LINEAR, lambda m: m, (".lora.down.weight", ".lora.up.weight"), alpha=False)
    w.lora("text-linear-layer", "sd1", LINEAR[-1:], lambda m: m, (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"), alpha=False)

    def processor(m):
        return re.sub(r"\.(to_\w+)(\.0)?$", r".processor.\1", m)

    w.lora("processors", "sd1", LINEAR[:2], processor, ("_lora.down.weight", "_lora.up.weight"), alpha=False)
    w.lora("peft-prefixed", "sd1", LINEAR[:-1], lambda m: "base_model.model." + m.removeprefix("unet."), (".lora_A.default.weight", ".lora_B.default.weight"),
           alpha=False)
    w.lora("lycoris-prefixed", "sd1", LINEAR[:-1], lambda m: "lycoris_" + m.removeprefix("unet.").replace(".", "_"), KOHYA)
    w.lora("omi", "sdxl", XL[:3] + XL[-2:], lambda m: m.replace("text_encoder_2.", "clip_g.").replace("text_encoder.", "clip_l."), KOHYA)
    w.lora("partly", "sd1", LINEAR[:2], kohya, KOHYA, unmatched=["lora_unet_nowhere_1_to_q"],
           also={"lora_unet_nowhere_1_to_q.lora_down.weight": randn(2, 4), "lora_unet_nowhere_1_to_q.lora_up.weight": randn(4, 2)})


def peft(w):
    """Written and, for the check of the hand-made sums, merged by diffusers and peft."""
    for name, config in {
        "peft": dict(r=2, lora_alpha=6, target_modules=["to_k", "to_out.0", "conv1", "proj_in"], alpha_pattern={"proj_in": 5}),
        "peft-dora": dict(r=2, lora_alpha=4, target_modules=["to_k", "conv1"], use_dora=True),
        "peft-rs": dict(r=4, lora_alpha=6, target_modules=["to_v"], use_rslora=True),
    }.items():
        base = w.models["sd1"]
        unet = UNet2DConditionModel(**UNETS["sd1"])
        unet.load_state_dict({k.removeprefix("unet."): v.float() for k, v in base.items() if k.startswith("unet.")})
        unet.add_adapter(LoraConfig(**config, init_lora_weights="gaussian"))
        for k, p in unet.named_parameters():
            if "lora_B" in k:
                torch.nn.init.normal_(p, std=0.3)
            if "magnitude" in k:
                p.data *= 1.5
        there = OUT / "peft"
        unet.save_lora_adapter(there)
        tensors = load_file(there / "pytorch_lora_weights.safetensors")
        with safe_open(there / "pytorch_lora_weights.safetensors", "pt") as f:
            metadata = f.metadata()
        shutil.rmtree(there)
        merged = {}
        for k in [k for k in tensors if k.endswith(".lora_A.weight")]:
            module = k.removesuffix(".lora_A.weight")
            weight = base[f"unet.{module}.weight"]
            alpha = config.get("alpha_pattern", {}).get(module.split(".")[-1], config["lora_alpha"])
            scale = alpha / (config["r"] ** 0.5 if config.get("use_rslora") else config["r"])
            new = weight + scale * product(tensors[module + ".lora_B.weight"], tensors[k], weight)
            m = tensors.get(module + ".lora_magnitude_vector")
            if m is not None:
                norm = new.flatten(1).norm(dim=1)
                new = (m.double().flatten() / norm).reshape(-1, *[1] * (weight.ndim - 1)) * new
            merged[f"unet.{module}.weight"] = new
        unet.fuse_lora()
        for k, v in unet.state_dict().items():
            at = "unet." + k.replace(".base_layer", "")
            if at in merged:
                assert torch.allclose(v.double(), merged[at], atol=1e-5), (name, k)
        w.save(name, "sd1", tensors, merged, metadata=metadata)


def peft_folders(w):
    """Folders that peft itself writes, with alphas and ranks in adapter_config.json, merged by peft in float64."""
    targets = dict(target_modules=["to_k", "to_out.0", "conv1"])
    for name, config in {
        "peft-loha": LoHaConfig(r=2, alpha=5, rank_pattern={"to_k": 3}, alpha_pattern={"conv1": 7}, **targets),
        "peft-lokr": LoKrConfig(r=1, alpha=3, decompose_both=True, decompose_factor=2, **targets),
        "peft-lokr-whole": LoKrConfig(r=64, alpha=16, rank_pattern={"conv1": 32}, **targets),
        "peft-patterns": LoraConfig(r=2, lora_alpha=6, alpha_pattern={"attn2.to_k": 4, r"down_blocks.*attn1\.to_k": 5, "to_k": 3}, **targets),
    }.items():
        base = w.models["sd1"]
        unet = UNet2DConditionModel(**UNETS["sd1"]).double()
        unet.load_state_dict({k.removeprefix("unet."): v for k, v in base.items() if k.startswith("unet.")})
        unet = get_peft_model(unet, config)
        for p in unet.parameters():
            if p.requires_grad:
                p.data = randn(*p.shape).double()
        unet.save_pretrained(OUT / name)
        tensors = load_file(OUT / name / "adapter_model.safetensors")
        merged = {f"unet.{k}": v for k, v in unet.merge_and_unload().state_dict().items() if not torch.equal(v, base[f"unet.{k}"])}
        w.save(f"{name}/adapter_model", "sd1", {k: v.float() for k, v in tensors.items()}, merged)
        (OUT / name / "README.md").unlink()


def peft_parts(w):
    """As pipelines save it: names and metadata with the part's prefix, alphas by patterns. Merged by peft."""
    base = w.models["sd1"]
    unet = UNet2DConditionModel(**UNETS["sd1"])
    unet.load_state_dict({k.removeprefix("unet."): v.float() for k, v in base.items() if k.startswith("unet.")})
    config = LoraConfig(r=2, lora_alpha=6, target_modules=["to_k", "to_q"], use_rslora=True,
                        alpha_pattern={"to_k": 3, r"down_blocks\.\d+\..*\.to_q": 5})
    unet.add_adapter(config)
    with torch.no_grad():
        for k, p in unet.named_parameters():
            if "lora_" in k:
                p.copy_(randn(*p.shape))
    there = OUT / "peft"
    StableDiffusionPipeline.save_lora_weights(there, unet_lora_layers=get_peft_model_state_dict(unet), unet_lora_adapter_metadata=config.to_dict())
    tensors = load_file(there / "pytorch_lora_weights.safetensors")
    with safe_open(there / "pytorch_lora_weights.safetensors", "pt") as f:
        metadata = {"lora_adapter_metadata": f.metadata()["lora_adapter_metadata"]}
    shutil.rmtree(there)
    unet.double().fuse_lora()
    changed = {k.removesuffix(".lora_A.weight") + ".weight" for k in tensors if k.endswith(".lora_A.weight")}
    merged = {"unet." + k.replace(".base_layer", ""): v for k, v in unet.state_dict().items()}
    w.save("peft-parts", "sd1", tensors, {k: merged[k] for k in changed}, metadata=metadata)


def relatives(w):
    base = w.models["sd1"]
    linear, conv = LINEAR[0], CONV[0]
    wl, wc = base[linear + ".weight"], base[conv + ".weight"]
    r = 2

    def both(name, make, strength=(1.0, 1.0), modules=(linear, conv)):
        tensors, merged = {}, {}
        for module in modules:
            weight = base[module + ".weight"]
            parts, new = make(weight)
            tensors |= {f"{kohya(module)}.{k}": v for k, v in parts.items()}
            merged[module + ".weight"] = new
        w.save(name, "sd1", tensors, merged, strength=strength)

    def loha(weight):
        cols = weight[0].numel()
        p = {"hada_w1_a": randn(len(weight), r), "hada_w1_b": randn(r, cols), "hada_w2_a": randn(len(weight), r), "hada_w2_b": randn(r, cols),
             "alpha": torch.tensor(1.0)}
        d = (p["hada_w1_a"].double() @ p["hada_w1_b"].double()) * (p["hada_w2_a"].double() @ p["hada_w2_b"].double())
        return p, weight + 0.6 * (1 / r) * d.reshape(weight.shape)

    both("loha", loha, strength=(0.6, 1.0))

    def loha_tucker(weight):
        out, n, k, _ = weight.shape
        p = {"hada_t1": randn(r, r, k, k), "hada_w1_a": randn(r, out), "hada_w1_b": randn(r, n),
             "hada_t2": randn(r, r, k, k), "hada_w2_a": randn(r, out), "hada_w2_b": randn(r, n), "alpha": torch.tensor(3.0)}
        q = {k: v.double() for k, v in p.items()}
        d = torch.einsum(EINSUM, q["hada_t1"], q["hada_w1_a"], q["hada_w1_b"]) * torch.einsum(EINSUM, q["hada_t2"], q["hada_w2_a"], q["hada_w2_b"])
        return p, weight + 3 / r * d

    both("loha-tucker", loha_tucker, modules=(conv,))

    def lora_tucker(weight):
        out, n, k, _ = weight.shape
        p = {"lora_up.weight": randn(out, 3, 1, 1), "lora_down.weight": randn(r, n, 1, 1), "lora_mid.weight": randn(3, r, k, k), "alpha": torch.tensor(1.0)}
        q = {k: v.double() for k, v in p.items()}
        d = torch.einsum(EINSUM, q["lora_mid.weight"], q["lora_up.weight"][:, :, 0, 0].T, q["lora_down.weight"][:, :, 0, 0])
        return p, weight + 1 / r * d

    both("lora-tucker", lora_tucker, modules=(conv,))

    def lokr(decomposed1, decomposed2, tucker=False):
        def make(weight):
            out, n = weight.shape[:2]
            a, b = 2, 2
            rest = weight.shape[2:]
            p, scale = {"alpha": torch.tensor(5.0)}, 1.0
            if decomposed1:
                p |= {"lokr_w1_a": randn(a, r), "lokr_w1_b": randn(r, b)}
                w1, scale = p["lokr_w1_a"].double() @ p["lokr_w1_b"].double(), 5 / r
            else:
                p["lokr_w1"] = randn(a, b)
                w1 = p["lokr_w1"].double()
            if tucker and rest:
                p |= {"lokr_t2": randn(r, r, *rest), "lokr_w2_a": randn(r, out // a), "lokr_w2_b": randn(r, n // b)}
                w2, scale = torch.einsum(EINSUM, *(p[x].double() for x in ("lokr_t2", "lokr_w2_a", "lokr_w2_b"))), 5 / r
            elif decomposed2:
                p |= {"lokr_w2_a": randn(out // a, r), "lokr_w2_b": randn(r, n // b * rest.numel())}
                w2, scale = (p["lokr_w2_a"].double() @ p["lokr_w2_b"].double()).reshape(out // a, n // b, *rest), 5 / r
            else:
                p["lokr_w2"] = randn(out // a, n // b, *rest)
                w2 = p["lokr_w2"].double()
            w1 = w1.reshape(a, b, *[1] * len(rest))
            return p, weight + scale * torch.kron(w1.contiguous(), w2.contiguous())
        return make

    both("lokr-whole", lokr(False, False))
    both("lokr-both", lokr(True, True))
    both("lokr-second", lokr(False, True))
    both("lokr-tucker", lokr(False, False, True), modules=(conv,))

    def dora(rows, s):
        def make(weight):
            up, down = up_down(weight, r)
            new = weight + 2 / r * product(up, down, weight)
            if rows:
                m = (randn(len(weight)).abs() + 0.5).reshape(-1, *[1] * (weight.ndim - 1))
                norm = new.flatten(1).norm(dim=1).reshape(m.shape)
            else:
                m = (randn(weight.shape[1]).abs() + 0.5).reshape(1, -1, *[1] * (weight.ndim - 2))
                norm = new.transpose(0, 1).flatten(1).norm(dim=1).reshape(m.shape)
            new = m.double() * new / norm
            return {"lora_up.weight": up, "lora_down.weight": down, "alpha": torch.tensor(2.0), "dora_scale": m}, weight + s * (new - weight)
        return make

    both("dora-rows", dora(True, 1.0))
    both("dora-columns", dora(False, 1.0))
    both("dora-half", dora(False, 0.5), strength=(0.5, 1.0))

    norm = "unet.down_blocks.0.resnets.0.norm1"
    bias = base[conv + ".bias"]
    d, db, dn, dnb, sw = randn(*wc.shape), randn(*bias.shape), randn(*base[norm + ".weight"].shape), randn(*base[norm + ".bias"].shape), randn(*wl.shape)
    w.save("full", "sd1", {kohya(conv) + ".diff": d, kohya(conv) + ".diff_b": db, kohya(norm) + ".w_norm": dn, kohya(norm) + ".b_norm": dnb,
                           kohya(linear) + ".set_weight": sw},
           {conv + ".weight": wc + 0.5 * d.double(), conv + ".bias": bias + 0.5 * db.double(), norm + ".weight": base[norm + ".weight"] + 0.5 * dn.double(),
            norm + ".bias": base[norm + ".bias"] + 0.5 * dnb.double(), linear + ".weight": sw.double()}, strength=(0.5, 1.0))
    on, off = randn(wl.shape[1]), randn(wc.shape[0], 1)
    w.save("ia3", "sd1", {kohya(linear) + ".weight": on, kohya(linear) + ".on_input": torch.tensor(True),
                          kohya(conv) + ".weight": off, kohya(conv) + ".on_input": torch.tensor(False)},
           {linear + ".weight": wl + wl * on.double(), conv + ".weight": wc + wc * off.double().reshape(-1, 1, 1, 1)})


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    torch.manual_seed(1)
    w = Writer()
    spellings(w)
    peft(w)
    relatives(w)
    peft_folders(w)
    torch.manual_seed(2)
    peft_parts(w)
    (OUT / "expected.json").write_text(json.dumps(w.expected, indent=0))


if __name__ == "__main__":
    main()
