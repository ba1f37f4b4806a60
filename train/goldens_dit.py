"""Golden files of the transformers: dit/testdata/dit.safetensors and mmdit.safetensors, by diffusers in float64.

    python train/goldens_dit.py [dit|mmdit]

Z-Image's: square and wide pictures, with and without padding and QK-norm, a batch of two texts of different lengths. FLUX.2's: with and
without a guidance embedding, square and wide, with reference pictures. FLUX.1's and Stable Diffusion 3's likewise, with and without
QK-norm and a second attention. Of each kind of layer one by itself.
"""
import sys

import torch
from diffusers import Flux2Transformer2DModel, FluxPipeline, FluxTransformer2DModel, SD3Transformer2DModel, ZImageTransformer2DModel
from diffusers.pipelines.flux2.pipeline_flux2_klein import Flux2KleinPipeline

from goldens_nets import Golden, draw, make_up, weight

ZIMAGE = {
    "zimage": dict(in_channels=4, dim=32, n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=12, axes_dims=[4, 6, 6], axes_lens=[128, 32, 32]),
    "zimage-wide": dict(in_channels=3, dim=60, n_layers=1, n_refiner_layers=2, n_heads=3, n_kv_heads=3, cap_feat_dim=8, axes_dims=[8, 6, 6], axes_lens=[96, 16, 64],
                        norm_eps=1e-4, t_scale=1000.0, rope_theta=100.0),
    "zimage-plain": dict(in_channels=2, dim=16, n_layers=1, n_refiner_layers=1, n_heads=1, n_kv_heads=1, cap_feat_dim=8, axes_dims=[4, 6, 6], axes_lens=[128, 32, 32], t_scale=100.0,
                         qk_norm=False),
}
FLUX2 = {
    "flux2": dict(in_channels=8, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=12,
                  timestep_guidance_channels=16, axes_dims_rope=[4, 4, 4, 4], guidance_embeds=False),
    "flux2-guided": dict(in_channels=12, num_layers=1, num_single_layers=1, attention_head_dim=20, num_attention_heads=1, joint_attention_dim=10, mlp_ratio=2.5,
                         timestep_guidance_channels=32, axes_dims_rope=[2, 6, 8, 4], rope_theta=500, guidance_embeds=True, eps=1e-5),
}


def kept(golden, name, call, model, paths, inputs):
    """Keeps what layers read, by the names of their arguments, and give."""
    handles = []
    for path in paths:
        def keep(module, args, kwargs, out, path=path):
            given = dict(zip(inputs, args)) | kwargs
            for key in (k for k in inputs if k != "_"):
                if isinstance(given.get(key), torch.Tensor):
                    golden.value(name, call, f"{path}@{key}", given[key])
            for i, t in enumerate(out if isinstance(out, tuple) else (out,)):
                if t is not None:  # a stream that nobody reads
                    golden.value(name, call, f"{path}@out{i or ''}", t)
        handles.append(model.get_submodule(path).register_forward_hook(keep, with_kwargs=True))
    return handles


def zimage(golden):
    for i, (name, config) in enumerate(ZIMAGE.items()):
        model = make_up(ZImageTransformer2DModel(**config))
        golden.network(name, model, model.config)
        for k, (call, (h, w), lengths) in enumerate([("square", (8, 8), [5]), ("wide", (8, 16), [33]), ("both", (6, 10), [40, 3])]):
            if name == "zimage-plain" and call != "both":
                continue
            n = len(lengths)
            x = draw(100 + 10 * i + k, n, config["in_channels"], h, w)
            texts = [draw(200 + 10 * i + k + j, length, config["cap_feat_dim"]) for j, length in enumerate(lengths)]
            t = torch.full((n,), [0.0, 0.375, 0.953125][k], dtype=torch.float32)
            handles = kept(golden, name, call, model, ["noise_refiner.0", "context_refiner.0", "layers.0"], ["x", "_", "_", "adaln_input"]) if k == 2 and name != "zimage-plain" else []
            with torch.no_grad():
                out = model([v.unsqueeze(1) for v in x], t, texts, return_dict=False)[0]
            for handle in handles:
                handle.remove()
            most = max(-(-length // 32) * 32 for length in lengths)
            golden.value(name, call, "sample", x)
            golden.value(name, call, "timestep", 1000 - 1000 * t.double())
            golden.value(name, call, "text", torch.stack([torch.cat([v, torch.zeros(most - len(v), v.shape[1]).double()]) for v in texts]))
            golden.value(name, call, "lengths", torch.tensor(lengths))
            golden.value(name, call, "prediction", -torch.stack(out).squeeze(2))


def flux2(golden):
    for i, (name, config) in enumerate(FLUX2.items()):
        model = make_up(Flux2Transformer2DModel(**config))
        golden.network(name, model, model.config)
        for k, (call, (h, w), text, references) in enumerate([("square", (4, 4), 7, []), ("wide", (3, 7), 11, []), ("edit", (4, 3), 5, [(2, 3), (4, 2)])]):
            n, c = 2 - k % 2, config["in_channels"]
            x, states = draw(300 + 10 * i + k, n, c, h, w), draw(400 + 10 * i + k, n, text, config["joint_attention_dim"])
            t = torch.tensor([[1000.0, 431.25][j % 2] if n > 1 else 871.5 for j in range(n)])
            packed, ids = Flux2KleinPipeline._pack_latents(x), Flux2KleinPipeline._prepare_latent_ids(x)
            if references:
                others = [draw(500 + j, 1, c, *size) for j, size in enumerate(references)]
                more = torch.cat([Flux2KleinPipeline._pack_latents(o) for o in others], 1).repeat(n, 1, 1)
                golden.value(name, call, "references", more)
                packed = torch.cat([packed, more], 1)
                ids = torch.cat([ids, Flux2KleinPipeline._prepare_image_ids(others).repeat(n, 1, 1)], 1)
            guidance = torch.full((n,), 3.5) if config["guidance_embeds"] else None
            handles = kept(golden, name, call, model, ["transformer_blocks.0", "single_transformer_blocks.0"],
                           ["hidden_states", "encoder_hidden_states", "temb_mod_img", "temb_mod_txt", "temb_mod"]) if k == 1 else []
            with torch.no_grad():
                out = model(hidden_states=packed, encoder_hidden_states=states, timestep=t / 1000, img_ids=ids, txt_ids=Flux2KleinPipeline._prepare_text_ids(states),
                            guidance=guidance, return_dict=False)[0][:, : h * w]
            for handle in handles:
                handle.remove()
            golden.value(name, call, "sample", x)
            golden.value(name, call, "timestep", t.double())
            golden.value(name, call, "text", states)
            golden.value(name, call, "prediction", out.reshape(n, h, w, c).permute(0, 3, 1, 2))


FLUX1 = {
    "flux1": dict(in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=12, pooled_projection_dim=10,
                  axes_dims_rope=[4, 6, 6], guidance_embeds=True),
    "flux1-plain": dict(in_channels=12, num_layers=1, num_single_layers=1, attention_head_dim=12, num_attention_heads=1, joint_attention_dim=8, pooled_projection_dim=6,
                        axes_dims_rope=[4, 2, 6]),
}
SD3 = {
    "sd3": dict(sample_size=16, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=12, num_attention_heads=2, joint_attention_dim=12, caption_projection_dim=24,
                pooled_projection_dim=10, pos_embed_max_size=9),
    "sd3-dual": dict(sample_size=16, in_channels=3, out_channels=3, num_layers=3, attention_head_dim=8, num_attention_heads=2, joint_attention_dim=8, caption_projection_dim=16,
                     pooled_projection_dim=6, pos_embed_max_size=12, qk_norm="rms_norm", dual_attention_layers=(0, 2)),
}


def flux1(golden):
    for i, (name, config) in enumerate(FLUX1.items()):
        model = make_up(FluxTransformer2DModel(**config))
        golden.network(name, model, model.config)
        for k, (call, (h, w), text) in enumerate([("square", (4, 4), 7), ("wide", (3, 7), 11)]):
            n, c = 2 - k % 2, config["in_channels"] // 4
            x, states, pooled = draw(600 + 10 * i + k, n, c, 2 * h, 2 * w), draw(700 + 10 * i + k, n, text, config["joint_attention_dim"]), draw(800 + k, n, config["pooled_projection_dim"])
            t = torch.tensor([[1000.0, 431.25][j % 2] if n > 1 else 871.5 for j in range(n)])
            packed, ids = FluxPipeline._pack_latents(x, n, c, 2 * h, 2 * w), FluxPipeline._prepare_latent_image_ids(1, h, w, "cpu", torch.float64)
            guidance = torch.full((n,), 3.5) if config.get("guidance_embeds") else None
            handles = kept(golden, name, call, model, ["transformer_blocks.0", "single_transformer_blocks.0"], ["hidden_states", "encoder_hidden_states", "temb"]) if k == 1 else []
            with torch.no_grad():
                out = model(hidden_states=packed, encoder_hidden_states=states, pooled_projections=pooled, timestep=t / 1000, img_ids=ids, txt_ids=torch.zeros(text, 3),
                            guidance=guidance, return_dict=False)[0]
            for handle in handles:
                handle.remove()
            for key, v in [("sample", x), ("timestep", t.double()), ("text", states), ("pooled", pooled), ("prediction", FluxPipeline._unpack_latents(out, 2 * h, 2 * w, 1))]:
                golden.value(name, call, key, v)


def sd3(golden):
    for i, (name, config) in enumerate(SD3.items()):
        model = SD3Transformer2DModel(**config)
        model = make_up(model)
        places = weight("pos_embed.pos_embed", tuple(model.pos_embed.pos_embed.shape))
        del model.pos_embed.pos_embed
        model.pos_embed.pos_embed = torch.nn.Parameter(places)  # a weight like the others
        golden.network(name, model, model.config)
        for k, (call, (h, w), text) in enumerate([("square", (4, 4), 7), ("wide", (3, 7), 11)]):
            n, c = 2 - k % 2, config["in_channels"]
            x, states, pooled = draw(600 + 10 * i + k, n, c, 2 * h, 2 * w), draw(700 + 10 * i + k, n, text, config["joint_attention_dim"]), draw(800 + k, n, config["pooled_projection_dim"])
            t = torch.tensor([[500.0, 431.25][j % 2] if n > 1 else 871.5 for j in range(n)])
            last = f"transformer_blocks.{config['num_layers'] - 1}"
            handles = kept(golden, name, call, model, ["transformer_blocks.0", last], ["hidden_states", "encoder_hidden_states", "temb"]) if k == 1 else []
            with torch.no_grad():
                out = model(hidden_states=x, encoder_hidden_states=states, pooled_projections=pooled, timestep=t, return_dict=False)[0]
            for handle in handles:
                handle.remove()
            for key, v in [("sample", x), ("timestep", t.double()), ("text", states), ("pooled", pooled), ("prediction", out)]:
                golden.value(name, call, key, v)


def main():
    only = sys.argv[1:]
    if not only or "dit" in only:
        golden = Golden()
        zimage(golden)
        flux2(golden)
        golden.save("dit/testdata/dit.safetensors")
    if not only or "mmdit" in only:
        golden = Golden()
        flux1(golden)
        sd3(golden)
        golden.save("dit/testdata/mmdit.safetensors")


if __name__ == "__main__":
    main()
