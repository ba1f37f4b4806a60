"""A small network that tells a picture from the code of its caption: a help in training, which is not exported.

A caption, and the numbers that decide what it leaves open (captions.py), mean one picture. The teller is trained to
tell its largest principal components from the hidden state of the caption's end marker (telling.py, denoiser.py).
"""

import torch
from torch import nn

from .captions import CHANCES
from .models import LATENT_CHANNELS, LATENT_SIDE, TEXT_WIDTH

TOLD = 256    # principal components of a picture
WIDTH = 512   # of the code that the numbers act on


def quantiles(chances):
    """Of the normal distribution, for numbers in 0..1."""
    return torch.special.ndtri(chances.clamp(1e-4, 1 - 1e-4))


def ends(tokens):
    """Position of each caption's first end marker, with which it is padded."""
    return (tokens == tokens[:, -1:]).int().argmax(1)


class Teller(nn.Module):
    """Principal components of a picture's latents from the text's code: linear but for gains and shifts by the numbers."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(TEXT_WIDTH, WIDTH), nn.Linear(WIDTH, TOLD)
        self.choices = nn.Sequential(nn.Linear(CHANCES, 256), nn.GELU(), nn.Linear(256, 256), nn.GELU(),
                                     nn.Linear(256, 2 * WIDTH))
        self.register_buffer("components", torch.zeros(TOLD, LATENT_CHANNELS * LATENT_SIDE ** 2))
        self.register_buffer("centre", torch.zeros(LATENT_CHANNELS * LATENT_SIDE ** 2))

    def find_components(self, latents):
        """Set the components from many latents (N x C x H x W)."""
        flat = latents.flatten(1)
        self.centre.copy_(flat.mean(0))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            found = torch.pca_lowrank(flat, min(TOLD, *flat.shape), niter=3)[2].T
        self.components[:len(found)] = found  # of few latents there are few

    def error(self, hidden, tokens, chances, latents):
        """Mean squared error, for each latent value, of the components told. hidden: the text's last hidden states."""
        code = hidden[torch.arange(len(tokens), device=tokens.device), ends(tokens)].float()
        gain, shift = self.choices(quantiles(chances)).chunk(2, 1)
        told = self.last(self.first(code) * (1 + gain) + shift)
        wanted = (latents.flatten(1) - self.centre) @ self.components.T
        return (told - wanted).square().sum(1).mean() / latents[0].numel()
