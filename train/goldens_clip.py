"""Golden file of the text encoder: clip/testdata/text.safetensors.

Hidden states of transformers' CLIPTextModel on tiny random models, with both activations, of both ways of naming the
weights, at every clip skip that diffusers' encode_prompt offers.

    python train/goldens_clip.py
"""
import json
import os

import torch
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "clip", "testdata", "text.safetensors")

# name, configuration, prefix of the weights' names (transformers below 5 wrote text_model.)
MODELS = [
    ("quick", dict(hidden_size=12, intermediate_size=20, num_hidden_layers=3, num_attention_heads=3, max_position_embeddings=9,
                   vocab_size=40, hidden_act="quick_gelu", layer_norm_eps=1e-5), ""),
    ("gelu", dict(hidden_size=16, intermediate_size=28, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=13,
                  vocab_size=31, hidden_act="gelu", layer_norm_eps=1e-3), "text_model."),
]


def main():
    torch.manual_seed(11)
    tensors, configs = {}, {}
    for name, config, prefix in MODELS:
        model = CLIPTextModel(CLIPTextConfig(**config)).eval()
        for key, p in model.named_parameters():  # the usual start, 1 and 0, would hide a norm's scale or a bias left out
            p.data = torch.randn_like(p) * 0.4 + (1.0 if "norm" in key and key.endswith("weight") else 0.0)
        for key, p in model.state_dict().items():
            tensors[f"{name}:{prefix}{key}"] = p.contiguous()
        if prefix:  # a buffer that older files hold
            tensors[f"{name}:{prefix}embeddings.position_ids"] = torch.arange(config["max_position_embeddings"])[None]
        configs[name] = json.dumps(dict(config, model_type="clip_text_model"))
        ids = torch.randint(config["vocab_size"], (2, config["max_position_embeddings"]))
        tensors[f"{name}:ids"] = ids.int()
        with torch.no_grad():
            out = model.double()(ids, output_hidden_states=True)
            tensors[f"{name}:skip0"] = out.last_hidden_state.float()
            for skip in range(1, config["num_hidden_layers"]):
                tensors[f"{name}:skip{skip}"] = model.final_layer_norm(out.hidden_states[-(skip + 1)]).float()
    save_file(tensors, OUT, metadata=configs)
    print(os.path.getsize(OUT), "bytes")


main()
