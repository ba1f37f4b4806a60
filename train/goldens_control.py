"""Golden file of controlled U-Nets: control/testdata/control.safetensors, by diffusers in float64.

    python train/goldens_control.py

The networks "NAME" (the U-Net), "NAME-net", "NAME-net2" (ControlNets), and the U-Net's prediction with one and with two nets
on it, at strengths that differ by row, also in guess mode; "NAME-ip" is an image prompt (IP-Adapter) for it.
"""
import torch
from diffusers import ControlNetModel, ControlNetUnionModel, T2IAdapter, UNet2DConditionModel

from goldens_nets import Golden, draw, make_up, weight

SD1 = dict(block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=12, attention_head_dim=2, norm_num_groups=4,
           down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"))
XL = dict(block_out_channels=(8, 16), layers_per_block=2, cross_attention_dim=12, attention_head_dim=[1, 2], norm_num_groups=4,
          use_linear_projection=True, transformer_layers_per_block=[1, 2], addition_embed_type="text_time", addition_time_embed_dim=8,
          projection_class_embeddings_input_dim=10 + 6 * 8, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"))
MODELS = {
    "sd1": (SD1, ("UpBlock2D", "CrossAttnUpBlock2D")),
    "xl": (XL, ("CrossAttnUpBlock2D", "UpBlock2D")),
}


class ImagePrompt(torch.nn.Module):
    """The weights of an IP-Adapter by the names of its files."""

    def __init__(self, unet, embedding, tokens):
        super().__init__()
        width = unet.config.cross_attention_dim
        self.image_proj = torch.nn.Module()
        self.image_proj.proj = torch.nn.Linear(embedding, tokens * width)
        self.image_proj.norm = torch.nn.LayerNorm(width)
        self.ip_adapter = torch.nn.Module()
        for i, key in enumerate(unet.attn_processors):
            if "attn2" in key:
                layer = torch.nn.Module()
                inner = unet.get_submodule(key.removesuffix(".processor")).to_k.out_features
                layer.to_k_ip, layer.to_v_ip = torch.nn.Linear(width, inner, bias=False), torch.nn.Linear(width, inner, bias=False)
                self.ip_adapter.add_module(str(i), layer)
        make_up(self)

    def as_diffusers(self):
        state = self.state_dict()
        return {part: {k.removeprefix(part + "."): v for k, v in state.items() if k.startswith(part)} for part in ("image_proj", "ip_adapter")}


def features(golden, name, net, hint):
    with torch.no_grad():
        out = net(hint)
    golden.value(name, "features", "hint", hint)
    for i, f in enumerate(out):
        golden.value(name, "features", f"feature{i}", f)
    return out


def adapter_calls(golden, name, unet, t, values, given):
    """A T2I-Adapter, and the U-Net that reads its features."""
    kind, factor = ("full_adapter", 8) if name == "sd1" else ("full_adapter_xl", 16)
    hint = draw(9, 2, 3, 32, 64).abs()  # for latents of 4x8, whose halves agree
    net = make_up(T2IAdapter(channels=(8, 16), num_res_blocks=2, downscale_factor=factor, adapter_type=kind))
    golden.network(name + "-adapter", net, net.config)
    out = features(golden, name + "-adapter", net, hint)
    sample = draw(10, 2, 4, 4, 8)
    strength = torch.tensor([[0.8], [0.3]]).double()
    with torch.no_grad():
        # The U-Net adds in place: give it copies.
        weighted = [f * strength[..., None, None] for f in out]
        prediction = unet(sample, t, values["text"], down_intrablock_additional_residuals=[f.clone() for f in weighted], **given).sample
        plain = unet(sample, t, values["text"], **given).sample
    for key in ("time", "text", "pooled", "time_ids"):
        if key in values:
            golden.value(name, "adapter", key, values[key])
    for i, f in enumerate(out):
        golden.value(name, "adapter", f"feature{i}", f)
    for key, v in dict(sample=sample, adapter_strength=strength, prediction=prediction).items():
        golden.value(name, "adapter", key, v)
    print(f"  {name} adapter: without it is off by {(prediction - plain).std():.2f}")


class Named(dict):
    """Weights that belong to no module."""

    def named_parameters(self):
        return self.items()


def plus(golden, unet):
    """The tokens of a "plus" adapter, of which diffusers reads four layers and heads of 64."""
    shapes = {"latents": (1, 3, 10), "proj_in.weight": (10, 14), "proj_in.bias": (10,), "proj_out.weight": (12, 10), "proj_out.bias": (12,),
              "norm_out.weight": (12,), "norm_out.bias": (12,)}
    for i in range(4):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            shapes[f"layers.{i}.{norm}.weight"] = shapes[f"layers.{i}.{norm}.bias"] = (10,)
        shapes |= {f"layers.{i}.0.to_q.weight": (128, 10), f"layers.{i}.0.to_kv.weight": (256, 10), f"layers.{i}.0.to_out.weight": (10, 128),
                   f"layers.{i}.1.1.weight": (40, 10), f"layers.{i}.1.3.weight": (10, 40)}
    state = Named({"image_proj." + k: weight("image_proj." + k, s) for k, s in shapes.items()})
    golden.network("plus", state, {})
    net = unet._convert_ip_adapter_image_proj_to_diffusers({k.removeprefix("image_proj."): v for k, v in state.items()}).double()
    hidden = draw(7, 2, 6, 14)
    with torch.no_grad():
        golden.value("plus", "project", "hidden", hidden)
        golden.value("plus", "project", "image", net(hidden))


def union_calls(golden, name, unet, net, t, values, ids):
    """One row alone: a Union's attention runs across the batch."""
    golden.network(name + "-union", net, net.config)
    given = dict(added_cond_kwargs=dict(text_embeds=values["pooled"], time_ids=ids))
    values = values | dict(strength=torch.tensor([[0.7]]).double(), strength2=torch.tensor([[1.2]]).double())
    for call, types in (("union-one", [2]), ("union-two", [0, 3])):
        flags = torch.zeros(1, 4)
        flags[0, types] = 1
        values["control_type"] = net.control_type_proj(flags.flatten()).reshape(1, -1).double()
        hints, strengths = [values["hint"], values["hint2"]][:len(types)], [values["strength"].item(), values["strength2"].item()][:len(types)]
        with torch.no_grad():
            down, mid = net(values["sample"], t, values["text"], controlnet_cond=hints, control_type=flags, control_type_idx=types, conditioning_scale=strengths,
                            return_dict=False, **given)
            out = unet(values["sample"], t, values["text"], down_block_additional_residuals=down, mid_block_additional_residual=mid, **given).sample
            plain = unet(values["sample"], t, values["text"], **given).sample
        for key, v in values.items():
            golden.value(name, call, key, v)
        golden.value(name, call, "prediction", out)
        print(f"  {name} {call}: without control it is off by {(out - plain).std():.2f}")


def main():
    golden = Golden()
    for name, (config, up) in MODELS.items():
        unet = make_up(UNet2DConditionModel(sample_size=8, up_block_types=up, **config))
        golden.network(name, unet, unet.config)
        nets = []
        for suffix, widths in (("-net", (4, 6, 8, 12)), ("-net2", (4, 8, 4, 4))):
            net = make_up(ControlNetModel(conditioning_embedding_out_channels=widths, **config))
            golden.network(name + suffix, net, net.config)
            nets.append(net)
        n, h, w = 2, 2, 3
        t = torch.tensor([981.0, 7.0])
        values = dict(sample=draw(1, n, 4, h, w), text=draw(2, n, 5, 12), hint=draw(3, n, 3, 8 * h, 8 * w).abs(), hint2=draw(4, n, 3, 8 * h, 8 * w).abs(),
                      strength=torch.tensor([[0.8], [0.3]]).double(), strength2=torch.tensor([[0.0], [1.5]]).double())
        values["time"] = unet.time_proj(t).double()
        given = {}
        if "addition_embed_type" in config:
            ids = torch.tensor([[1024.0, 768, 0, 16, 1024, 768], [512, 640, 8, 0, 6, 900]])
            values["pooled"], values["time_ids"] = draw(5, n, 10), unet.add_time_proj(ids.flatten()).reshape(n, -1).double()
            given["added_cond_kwargs"] = dict(text_embeds=values["pooled"], time_ids=ids)
        for call, which, guess in (("one", nets[:1], False), ("two", nets, False), ("guess", nets[:1], True)):
            with torch.no_grad():
                down = mid = None
                for i, net in enumerate(which):
                    hint, strength = values["hint2" if i else "hint"], values["strength2" if i else "strength"]
                    d, m = net(values["sample"], t, values["text"], hint, guess_mode=guess, return_dict=False, **given)
                    d, m = [x * strength[..., None, None] for x in d], m * strength[..., None, None]
                    down, mid = (d, m) if down is None else ([a + b for a, b in zip(down, d)], mid + m)
                out = unet(values["sample"], t, values["text"], down_block_additional_residuals=down, mid_block_additional_residual=mid, **given).sample
                plain = unet(values["sample"], t, values["text"], **given).sample
            for key, v in values.items():
                golden.value(name, call, key, v)
            golden.value(name, call, "prediction", out)
            print(f"  {name} {call}: prediction's std {out.std():.2f}, without control it is off by {(out - plain).std():.2f}")
        if name == "xl":
            union_calls(golden, name, unet, make_up(ControlNetUnionModel(conditioning_embedding_out_channels=(4, 6, 8, 12), num_control_type=4, num_trans_channel=8,
                                                                         num_trans_head=2, num_trans_layer=2, num_proj_channel=8, **config)), t[:1],
                        {k: v[:1] for k, v in values.items()}, ids[:1])
        adapter_calls(golden, name, unet, t, values, dict(given))
        adapter = ImagePrompt(unet, embedding=14, tokens=4)
        golden.network(name + "-ip", adapter, {})
        unet._load_ip_adapter_weights([adapter.as_diffusers()])
        unet = unet.double()
        values["embedding"] = draw(6, n, 14)
        given.setdefault("added_cond_kwargs", {})["image_embeds"] = [values["embedding"][:, None]]
        for call, strength in (("image", 0.6), ("image-full", 1.0)):
            for p in unet.attn_processors.values():
                if hasattr(p, "scale"):
                    p.scale = [strength]
            with torch.no_grad():
                tokens = unet.encoder_hid_proj([values["embedding"][:, None]])[0][:, 0]
                out = unet(values["sample"], t, values["text"], **given).sample
            for key in values:
                if not key.startswith(("hint", "strength")):
                    golden.value(name, call, key, values[key])
            golden.value(name, call, "image", tokens)
            golden.value(name, call, "image_strength", torch.full((n, 1), strength))
            golden.value(name, call, "prediction", out)
            print(f"  {name} {call}: without the image it is off by {(out - plain).std():.2f}")
        golden.value(name + "-ip", "project", "pooled", values["embedding"])
        golden.value(name + "-ip", "project", "image", tokens)
    plus(golden, unet)
    light = make_up(T2IAdapter(in_channels=1, channels=(8, 12), num_res_blocks=2, downscale_factor=4, adapter_type="light_adapter"))
    golden.network("light", light, light.config)
    features(golden, "light", light, draw(8, 2, 1, 16, 32))
    golden.save("control/testdata/control.safetensors")


if __name__ == "__main__":
    main()
