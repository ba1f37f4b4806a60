"""Train the text encoder alone to tell what a picture looks like, before the U-Net is trained with it.

    python -m train.telling --minutes 5        # WORK/denoiser.pt: new weights of the text encoder

A caption, and the numbers that decide what it leaves open (captions.py), mean one picture. From the hidden state of the
caption's end marker a small network, which is not exported, tells the picture's largest principal components. That is a
plain regression and costs a tenth of a step of the denoiser, so the text encoder learns a code of each drawing from ten
times as many captions. The denoiser then has to learn one thing for all drawings: what the codes mean.
"""

import argparse
import time

import torch
from torch import nn

from .denoiser import CHECKPOINT, Latents, Networks, tokenizer, with_strange_tokens
from .muon import Muon, groups, set_average, set_rate
from .runtime import Clock, device, load, log, save_atomically, set_up, work_dir
from .teller import TOLD, ends


def train(options):
    words, path = tokenizer(), work_dir() / CHECKPOINT
    networks = Networks(words).to(device())
    saved = load(path) if path.exists() else {"model": networks.state_dict(), "average": {}, "step": 0, "minutes": 0.0, "seen": 0}
    networks.load_state_dict({**networks.state_dict(), **saved["model"]})
    latents = Latents(words, float(saved["scale"]) if "scale" in saved else None)
    x, tokens, chances = latents.validation(512)
    text, teller = networks.text, networks.teller
    if not teller.components.any():
        teller.find_components(latents.x[::max(1, len(latents.x) // 6000)])
    kept = ((x.flatten(1) - teller.centre) @ teller.components.T @ teller.components + teller.centre).view_as(x)
    log(f"telling: {TOLD} components leave an error of {(kept - x).square().mean():.3f}")
    both = nn.ModuleDict({"text": text, "teller": teller})
    optimiser = Muon(groups(both, options.muon_lr, options.adam_lr, adam_for=("embedding", "choices")))
    clock, random, shown, seen, updates = Clock(options.minutes), torch.Generator(device()).manual_seed(3), 0.0, 0, 0
    average = {k: v.clone() for k, v in both.state_dict().items() if v.is_floating_point()}
    while not clock.over():
        left = 1 - clock.spent() / options.minutes
        set_rate(optimiser, min(1, (updates + 1) / 50) * max(0.02, min(1, left / options.fall)))
        pick = torch.randint(0, len(latents.x), (options.batch,), generator=random, device=device())
        said = with_strange_tokens(latents.tokens[pick], 0.06, len(words), random)
        said = said[:, :int(ends(said).max()) + 1]  # what follows the end marker changes nothing before it
        loss = teller.error(text(said).last_hidden_state, said, latents.chances[pick], latents.x[pick])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimiser.step()
        updates, seen = updates + 1, seen + options.batch
        set_average(average, both, updates)
        if time.time() - shown > 30:
            with torch.no_grad():
                unseen = teller.error(text(tokens).last_hidden_state, tokens, chances, x)
            log(f"telling: {updates} updates, {seen} captions, minutes {clock.spent():.1f}, error {loss.item():.3f}, "
                f"unseen {unseen.item():.3f}")
            shown = time.time()
    both.load_state_dict({**both.state_dict(), **average})
    with torch.no_grad():
        log(f"telling: averaged weights, unseen {teller.error(text(tokens).last_hidden_state, tokens, chances, x).item():.3f}")
    new = {k: v for k, v in networks.state_dict().items() if k.startswith(("text.", "teller."))}
    save_atomically({**{k: v for k, v in saved.items() if k != "optimiser"}, "model": {**saved["model"], **new},
                     "average": {**saved["average"], **new}, "scale": torch.tensor(latents.scale)}, path)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--muon-lr", type=float, default=0.01)
    parser.add_argument("--adam-lr", type=float, default=3e-3)
    parser.add_argument("--fall", type=float, default=0.5, help="share of the time in which the rate falls")
    options = parser.parse_args(argv)
    set_up(options.threads, seed=4)
    train(options)


if __name__ == "__main__":
    main()
