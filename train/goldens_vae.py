"""Golden file of the autoencoder: vae/testdata/vae.safetensors, by diffusers' AutoencoderKL in float64.

    python train/goldens_vae.py

What decoder and encoder make of random inputs, and every block inside; the small autoencoder (TAESD) as a whole.
"""
import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from goldens_nets import Golden, draw, make_up, seamless

MODELS = {
    "sd": dict(block_out_channels=(8, 8, 16), layers_per_block=1, latent_channels=4, norm_num_groups=4),
    # Newer families: more latent channels, no quantisation convolutions; here also no attention.
    "wide": dict(block_out_channels=(6, 12), layers_per_block=2, latent_channels=8, norm_num_groups=3, mid_block_add_attention=False,
                 use_quant_conv=False, use_post_quant_conv=False, scaling_factor=1.5, shift_factor=0.2),
}
TINY = {
    "tiny": dict(encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8), num_encoder_blocks=(1, 2, 1), num_decoder_blocks=(2, 1, 1),
                 latent_channels=4),
    "tiny-wide": dict(encoder_block_out_channels=(4, 4), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1),
                      latent_channels=16),
}


def main():
    golden = Golden()
    for i, (name, config) in enumerate(MODELS.items()):
        levels = len(config["block_out_channels"])
        net = make_up(AutoencoderKL(down_block_types=["DownEncoderBlock2D"] * levels, up_block_types=["UpDecoderBlock2D"] * levels, sample_size=32, **config))
        golden.network(name, net, net.config)
        paths = [k for k, m in net.named_modules() if type(m).__name__ in (
            "DownEncoderBlock2D", "UpDecoderBlock2D", "UNetMidBlock2D", "ResnetBlock2D", "Attention", "Downsample2D", "Upsample2D")]
        f = 2 ** (levels - 1)
        for call, n, h, w in (("small", 1, 2, 3), ("two", 2, 3, 5)):
            z, image = draw(40 + i, n, config["latent_channels"], h, w), draw(50 + i, n, 3, f * h, f * w)
            with torch.no_grad():
                handles = golden.hook(name, "decode-" + call, net, [p for p in paths if call == "small" and p.startswith("decoder")])
                handles += golden.hook(name, "encode-" + call, net, [p for p in paths if call == "small" and p.startswith("encoder")])
                out = net.decode(z).sample
                moments = net.encode(image).latent_dist.parameters
            for key, v in {"decode-*/latent": z, "decode-*/image": out, "encode-*/image": image, "encode-*/moments": moments}.items():
                golden.value(name, *key.replace("*", call).split("/"), v)
            for handle in handles:
                handle.remove()
            if name == "sd" and call == "two":
                undo = seamless(net, "y")
                with torch.no_grad():
                    golden.value(name, "decode-wrap", "latent", z)
                    golden.value(name, "decode-wrap", "image", net.decode(z).sample)
                undo()
            print(f"  {name} {call}: picture's std {out.std():.2f}, moments' {moments.std():.2f}")
    for i, (name, config) in enumerate(TINY.items()):
        net = make_up(AutoencoderTiny(**config))
        golden.network(name, net, net.config)
        z, image = 3 * draw(60 + i, 2, config["latent_channels"], 3, 5), draw(65 + i, 2, 3, 3 * 2 ** (len(config["num_encoder_blocks"]) - 1), 8)
        with torch.no_grad():
            for key, v in {"decode/latent": z, "decode/image": net.decode(z).sample, "encode/image": image, "encode/latent": net.encode(image).latents}.items():
                golden.value(name, *key.split("/"), v)
    golden.save("vae/testdata/vae.safetensors")


if __name__ == "__main__":
    main()
