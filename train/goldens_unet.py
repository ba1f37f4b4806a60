"""Golden files of the U-Net: unet/testdata/*.safetensors, by diffusers' UNet2DConditionModel in float64.

    python train/goldens_unet.py

blocks.safetensors has, besides the prediction, what every kind of block inside reads and gives; variants.safetensors
has the prediction of each structure that a config.json can describe.
"""
import torch
from diffusers import LatentConsistencyModelPipeline, UNet2DConditionModel

from goldens_nets import Golden, draw, make_up, seamless

XL = dict(block_out_channels=(8, 8, 16), layers_per_block=2, cross_attention_dim=12, attention_head_dim=[1, 2, 4], norm_num_groups=4,
          use_linear_projection=True, transformer_layers_per_block=[1, 2, 3], addition_embed_type="text_time", addition_time_embed_dim=8,
          projection_class_embeddings_input_dim=10 + 6 * 8,
          down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
          up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"))
SMALL = dict(block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=12, attention_head_dim=2, norm_num_groups=4,
             down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))

BLOCKS = {
    "sd1": dict(block_out_channels=(8, 16, 16), layers_per_block=2, cross_attention_dim=12, attention_head_dim=2, norm_num_groups=4,
                down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")),
    "odd": dict(block_out_channels=(12, 18), layers_per_block=(1, 2), cross_attention_dim=20, attention_head_dim=(2, 3), norm_num_groups=3,
                in_channels=6, out_channels=6, transformer_layers_per_block=(2, 1), only_cross_attention=(True, False), downsample_padding=0,
                flip_sin_to_cos=False, freq_shift=1, time_embedding_dim=20, norm_eps=1e-4, conv_in_kernel=1, conv_out_kernel=5,
                mid_block_type="UNetMidBlock2D", act_fn="swish", use_linear_projection=True,
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")),
}

VARIANTS = {
    "xl": XL,
    # The refiner's crop and score: 5 ids.
    "refiner": XL | dict(projection_class_embeddings_input_dim=10 + 5 * 8, transformer_layers_per_block=1,
                         down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
                         up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")),
    # Segmind's SSD-1B: depths by layer, other ones on the way up, no attention in the middle.
    "ssd": XL | dict(transformer_layers_per_block=[1, [2, 2], [1, 3]], reverse_transformer_layers_per_block=[[3, 1, 2], [2, 1, 1], 1],
                     mid_block_type="UNetMidBlock2D"),
    # Vega, KOALA: one layer a level, depths of 0 among them.
    "koala": XL | dict(layers_per_block=1, transformer_layers_per_block=[0, 2, 1], mid_block_type="UNetMidBlock2DCrossAttn"),
    # tiny-sd: no middle at all.
    "tiny": SMALL | dict(mid_block_type=None),
    "lcm": SMALL | dict(time_cond_proj_dim=16),
    "inpaint": SMALL | dict(in_channels=9),
    "depth": SMALL | dict(in_channels=5, use_linear_projection=True, attention_head_dim=[1, 2]),
    # unCLIP (SD 2.1): the image's embedding beside the time's; Kandinsky and others.
    "unclip": SMALL | dict(class_embed_type="projection", projection_class_embeddings_input_dim=14),
    "class-time": SMALL | dict(class_embed_type="timestep"),
    "class-linear": SMALL | dict(class_embed_type="simple_projection", projection_class_embeddings_input_dim=14),
    # The 4x upscaler: the level of the noise that was added to its input.
    "class-table": SMALL | dict(num_class_embeds=20, in_channels=7),
    "class-given": SMALL | dict(class_embed_type="identity"),
}


def sinusoid(net, values):
    """What a host writes for numbers: diffusers' Timesteps, [N, 1 or more] to [N, width or more of it]."""
    return net.time_proj(values.flatten().float()).reshape(values.shape[0], -1).double()


def call(golden, name, net, call, n, h, w, tokens, seed):
    c = net.config
    t = torch.tensor([981.0, 7.0, 440.5][:n])
    values = dict(sample=draw(seed, n, c.in_channels, h, w), text=draw(seed + 1, n, tokens, c.cross_attention_dim), timestep=t)
    given = {}
    values["time"] = sinusoid(net, t)
    if c.time_cond_proj_dim:
        values["cfg"] = torch.tensor([7.5, 1.25])[:n]
        embed = LatentConsistencyModelPipeline.get_guidance_scale_embedding
        values["guidance"] = given["timestep_cond"] = embed(None, values["cfg"] - 1, c.time_cond_proj_dim).double()
    if c.addition_embed_type:
        pooled = draw(seed + 3, n, 10)
        ids = (c.projection_class_embeddings_input_dim - 10) // c.addition_time_embed_dim
        time_ids = torch.tensor([[1024.0, 768, 0, 16, 1024, 768], [512, 640, 8, 0, 6, 900], [1, 2, 3, 4, 5, 6]])[:n, :ids]
        given["added_cond_kwargs"] = dict(text_embeds=pooled, time_ids=time_ids)
        values["pooled"], values["ids"] = pooled, time_ids
        values["time_ids"] = net.add_time_proj(time_ids.flatten()).reshape(n, -1).double()
    if c.class_embed_type == "timestep":
        labels = torch.tensor([3.0, 0, 250])[:n]
        given["class_labels"], values["class"] = labels, sinusoid(net, labels)
    elif c.num_class_embeds:
        given["class_labels"] = torch.tensor([3, 19])[:n]
        values["class"] = given["class_labels"][:, None]
    elif c.class_embed_type:
        width = c.projection_class_embeddings_input_dim or 4 * c.block_out_channels[0]
        given["class_labels"] = values["class"] = draw(seed + 4, n, width)
    with torch.no_grad():
        out = net(values["sample"], t, values["text"], **given).sample
    for key, v in values.items():
        golden.value(name, call, key, v)
    golden.value(name, call, "prediction", out)
    print(f"  {name} {call}: {sum(p.numel() for p in net.parameters())} weights, prediction's std {out.std():.2f}, largest {out.abs().max():.1f}")


def main():
    golden = Golden()
    for i, (name, config) in enumerate(BLOCKS.items()):
        net = make_up(UNet2DConditionModel(sample_size=8, **config))
        golden.network(name, net, net.config)
        paths = [k for k, m in net.named_modules() if type(m).__name__ in (
            "ResnetBlock2D", "Transformer2DModel", "BasicTransformerBlock", "Attention", "FeedForward", "Downsample2D", "Upsample2D",
            "DownBlock2D", "CrossAttnDownBlock2D", "UNetMidBlock2D", "UNetMidBlock2DCrossAttn", "UpBlock2D", "CrossAttnUpBlock2D")]
        handles = golden.hook(name, "small", net, paths)
        call(golden, name, net, "small", 1, 4, 6, 5, 10 * i)
        for h in handles:
            h.remove()
        call(golden, name, net, "uneven", 2, 7, 5, 9, 10 * i + 5)
        if name == "sd1":
            for axes in ("yx", "x"):
                undo = seamless(net, axes)
                call(golden, name, net, "wrap-" + axes, 1, 4, 6, 5, 10 * i + 7)
                undo()
    golden.save("unet/testdata/blocks.safetensors")
    golden = Golden()
    for i, (name, config) in enumerate(VARIANTS.items()):
        net = make_up(UNet2DConditionModel(sample_size=8, **config))
        golden.network(name, net, net.config)
        call(golden, name, net, "one", 2, 6, 4, 5, 1000 + 10 * i)
    golden.save("unet/testdata/variants.safetensors")


if __name__ == "__main__":
    main()
