"""Golden file of U-Nets with motion modules: unet/testdata/motion.safetensors, by diffusers' UNetMotionModel in float64.

    python train/goldens_motion.py

The networks "NAME" (the U-Net) and "NAME-module" (a MotionAdapter), and the prediction for films of two rows. Frames lie in
the batch, those of a row one after the other. "sd1" also keeps what its first motion module reads and gives.
"""
import torch
from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel

from goldens_control import ImagePrompt
from goldens_nets import Golden, draw, make_up

SD1 = dict(block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=12, attention_head_dim=2, norm_num_groups=4,
           down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))
XL = dict(block_out_channels=(8, 16), layers_per_block=2, cross_attention_dim=12, attention_head_dim=[1, 2], norm_num_groups=4,
          use_linear_projection=True, transformer_layers_per_block=[1, 2], addition_embed_type="text_time", addition_time_embed_dim=8,
          projection_class_embeddings_input_dim=10 + 6 * 8, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
          up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))
MODELS = {
    # The middle has a module as in the second version of the published ones, and as in the others it has none.
    "sd1": (SD1, dict(motion_layers_per_block=1, motion_num_attention_heads=2, use_motion_mid_block=True)),
    "xl": (XL, dict(motion_layers_per_block=2, motion_num_attention_heads=(1, 4), motion_transformer_layers_per_block=(1, 2), use_motion_mid_block=False)),
}
ROWS = 2


def together(film):
    """[rows,C,frames,h,w] with the frames in the batch."""
    return film.transpose(1, 2).flatten(0, 1)


def main():
    golden = Golden()
    for name, (config, module) in MODELS.items():
        unet = make_up(UNet2DConditionModel(sample_size=8, **config))
        golden.network(name, unet, unet.config)
        adapter = make_up(MotionAdapter(block_out_channels=(8, 16), motion_norm_num_groups=4, motion_max_seq_length=6, **module))
        golden.network(name + "-module", adapter, adapter.config)
        net = UNetMotionModel.from_unet2d(unet, adapter).double().eval()
        if net.config.addition_embed_type:  # which from_unet2d leaves out
            net.add_embedding.load_state_dict(unet.add_embedding.state_dict())
        for call, frames, h, w in (("film", 5, 4, 3), ("two", 2, 2, 2)):
            t = torch.tensor([441.0] * ROWS)
            values = dict(time=unet.time_proj(t).double(), text=draw(2, ROWS, 5, 12), frame=torch.arange(frames).repeat(ROWS)[:, None])
            given = {}
            if "addition_embed_type" in config:
                ids = torch.tensor([[1024.0, 768, 0, 16, 1024, 768], [512, 640, 8, 0, 6, 900]])
                values["pooled"], values["time_ids"] = draw(5, ROWS, 10), unet.add_time_proj(ids.flatten()).reshape(ROWS, -1).double()
                given["added_cond_kwargs"] = dict(text_embeds=values["pooled"], time_ids=ids)
            film = draw(1, ROWS, 4, frames, h, w)
            path = "down_blocks.0.motion_modules.0"
            hooks = golden.hook(name + "-module", call, net, [path]) if name == "sd1" else []
            with torch.no_grad():
                out = net(film, t, values["text"].repeat_interleave(frames, 0), **given).sample
            for hook in hooks:
                hook.remove()
            with torch.no_grad():
                still = unet(together(film), t.repeat_interleave(frames), values["text"].repeat_interleave(frames, 0),
                             **({} if not given else dict(added_cond_kwargs={k: v.repeat_interleave(frames, 0) for k, v in given["added_cond_kwargs"].items()}))).sample
            golden.value(name, call, "sample", together(film))
            golden.value(name, call, "prediction", together(out))
            for key, v in values.items():
                golden.value(name, call, key, v)
            print(f"  {name} {call}: prediction's std {out.std():.2f}, without the module it is off by {(together(out) - still).std():.2f}")
            if call == "film" and name == "sd1":
                image(golden, name, unet, net, film, t, values)
    golden.save("unet/testdata/motion.safetensors")


def image(golden, name, unet, net, film, t, values):
    """The same with an image prompt."""
    adapter = ImagePrompt(unet, embedding=14, tokens=4)
    golden.network(name + "-ip", adapter, {})
    plain = net.attn_processors
    net._load_ip_adapter_weights([adapter.as_diffusers()])
    net.double()
    for p in net.attn_processors.values():
        if hasattr(p, "scale"):
            p.scale = [0.6]
    embedding = draw(6, ROWS, 14)
    with torch.no_grad():
        tokens = net.encoder_hid_proj([embedding[:, None]])[0][:, 0]
        out = net(film, t, values["text"].repeat_interleave(film.shape[2], 0), added_cond_kwargs=dict(image_embeds=[embedding[:, None]])).sample
    golden.value(name, "film-image", "sample", together(film))
    golden.value(name, "film-image", "prediction", together(out))
    golden.value(name, "film-image", "image", tokens)
    golden.value(name, "film-image", "image_strength", torch.full((ROWS, 1), 0.6))
    for key, v in values.items():
        golden.value(name, "film-image", key, v)
    net.set_attn_processor(plain)
    net.encoder_hid_proj, net.config.encoder_hid_dim_type = None, None


if __name__ == "__main__":
    main()
