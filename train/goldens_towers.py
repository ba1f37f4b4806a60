"""Golden file of CLIP's two towers: clip/testdata/towers.safetensors, by transformers in float64.

    python train/goldens_towers.py

The text encoders as SDXL reads them (the states before the last layer, the projection at the end token by both of
transformers' rules), also one of longer windows (LongCLIP); the image encoder as IP-Adapter and a judge read it.
"""
import torch
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPVisionConfig, CLIPVisionModelWithProjection

from goldens_nets import Golden, draw, make_up

TEXT = {
    "bigg": dict(hidden_size=16, intermediate_size=28, num_hidden_layers=3, num_attention_heads=2, max_position_embeddings=9, vocab_size=40,
                 hidden_act="gelu", projection_dim=10, eos_token_id=37),
    "legacy": dict(hidden_size=12, intermediate_size=20, num_hidden_layers=2, num_attention_heads=3, max_position_embeddings=9, vocab_size=40,
                   hidden_act="quick_gelu", projection_dim=12, eos_token_id=2),
    "long": dict(hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=1, max_position_embeddings=97, vocab_size=40,
                 hidden_act="quick_gelu", projection_dim=6, eos_token_id=37),
    "single": dict(hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=9, vocab_size=40,
                   hidden_act="gelu", projection_dim=4, eos_token_id=37),  # what is before its last layer are vectors of tokens
}
VISION = {
    "vit": dict(hidden_size=16, intermediate_size=28, num_hidden_layers=3, num_attention_heads=2, image_size=12, patch_size=4, hidden_act="quick_gelu", projection_dim=10),
    "vit-gelu": dict(hidden_size=12, intermediate_size=20, num_hidden_layers=1, num_attention_heads=3, image_size=10, patch_size=5, hidden_act="gelu",
                     projection_dim=12, layer_norm_eps=1e-3),
}


def saved(model):
    """config.json as save_pretrained writes it."""
    return dict(model.config.to_diff_dict(), architectures=[type(model).__name__], model_type=model.config.model_type)


def main():
    golden = Golden()
    for i, (name, config) in enumerate(TEXT.items()):
        model = make_up(CLIPTextModelWithProjection(CLIPTextConfig(bos_token_id=36, pad_token_id=0, **config)))
        golden.network(name, model, saved(model))
        n = config["max_position_embeddings"]
        ids = torch.randint(36, (3, n), generator=torch.Generator().manual_seed(60 + i))
        # The end token early and padded with 0, padded with itself, and at the very end. Two tokens beyond the end
        # token's number are what textual inversion adds: the legacy rule takes them for the end.
        ids[:, 0] = 36
        ids[0, 4], ids[0, 5:] = 37, 0
        ids[1, 6:] = 37
        ids[2, -1], ids[2, 3] = 37, 39
        with torch.no_grad():
            out = model(ids, output_hidden_states=True)
            golden.value(name, "xl", "ids", ids)
            golden.value(name, "xl", "embeds", out.text_embeds)
            for skip in range(max(config["num_hidden_layers"] - 1, 1)):
                golden.value(name, f"xl{skip}", "ids", ids)
                golden.value(name, f"xl{skip}", "hidden", out.hidden_states[-(skip + 2)])
            golden.value(name, "sd", "ids", ids)
            golden.value(name, "sd", "hidden", out.last_hidden_state)
    for i, (name, config) in enumerate(VISION.items()):
        model = make_up(CLIPVisionModelWithProjection(CLIPVisionConfig(**config)))
        golden.network(name, model, saved(model))
        pixels = draw(70 + i, 2, 3, config["image_size"], config["image_size"])
        with torch.no_grad():
            out = model(pixels, output_hidden_states=True)
        golden.value(name, "see", "pixels", pixels)
        golden.value(name, "see", "hidden", out.hidden_states[-2])
        golden.value(name, "see", "pooled", out.image_embeds)
    golden.save("clip/testdata/towers.safetensors")


if __name__ == "__main__":
    main()
