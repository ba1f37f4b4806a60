"""The three networks, as diffusers and transformers define them, and the noise schedule.

Pictures of 256 x 256 become latents of 16 x 16 x 16. Sizes: autoencoder 1.7 M weights, U-Net 15.2 M, text encoder 3.0 M, together 40 MB in half precision.
"""

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

TOKENS = 24          # longest prompt, with its two markers
TEXT_WIDTH = 256
LATENT_CHANNELS = 16
SIDE = 256           # pixels
LATENT_SIDE = 16     # SIDE / 16

# v-prediction with a last step of pure noise (Lin et al. 2024, "Common diffusion noise schedules and
# sample steps are flawed"): without it a plain background never comes out truly white or black.
SCHEDULE = dict(
    num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
    prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing",
    clip_sample=False, set_alpha_to_one=False, steps_offset=1)


def build_autoencoder():
    widths = (16, 16, 32, 64, 96)
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=LATENT_CHANNELS, sample_size=SIDE,
        block_out_channels=widths, layers_per_block=1, norm_num_groups=8, mid_block_add_attention=False,
        down_block_types=["DownEncoderBlock2D"] * len(widths),
        up_block_types=["UpDecoderBlock2D"] * len(widths), scaling_factor=1.0)


def build_unet():
    return UNet2DConditionModel(
        sample_size=LATENT_SIDE, in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS,
        block_out_channels=(48, 96, 256), layers_per_block=1, cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4, norm_num_groups=16, use_linear_projection=True,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"))


def build_text_encoder(tokenizer):
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=TEXT_WIDTH, intermediate_size=3 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH, num_hidden_layers=3, num_attention_heads=4, max_position_embeddings=TOKENS,
        hidden_act="quick_gelu", bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id, attn_implementation="sdpa"))


def build_scheduler():
    return DDIMScheduler(**SCHEDULE)


def parameters(module):
    return sum(p.numel() for p in module.parameters())
