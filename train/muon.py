"""Muon (Jordan et al. 2024) for the weight matrices, Adam for everything else.

Muon replaces the momentum M of a matrix by the nearest semi-orthogonal one, U V^T of its singular value
decomposition, found by a few Newton-Schulz steps. Convolutions count as matrices of out x (in k k).
Per sample and per minute it beats AdamW clearly on these networks.
"""

import torch
import torch.distributed as dist

from .runtime import bf16_is_faster


def orthogonalise(matrix, steps=4, half=False):
    """U V^T of a matrix or a stack of matrices, roughly: four steps of this iteration bring singular values
    of a hundredth of the largest to 0.26, and larger ones to between 0.4 and 1.2.

    The iteration X <- (a + b A + c A^2) X with A = X X^T multiplies X by polynomials of the first A, which
    commute, so it runs on the small square A alone and X is multiplied once, at the end: for a convolution
    of 256 x 4608 a third of the work. ``half`` does that last product in bf16.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if tall else matrix
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    gram = x @ x.mT
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    product = identity
    for k in range(steps):
        factor = a * identity + b * gram + c * (gram @ gram)
        product = factor @ product if k else factor
        if k + 1 < steps:
            gram = factor @ gram @ factor
    if half:  # no later step repeats its rounding
        x = (product.bfloat16() @ x.bfloat16()).float()
    else:
        x = product @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Groups come from ``groups``. With several processes the gradients must be the same in all; each then
    orthogonalises its share of the matrices and the updates are summed. With ``every`` above 1 the directions are
    found anew only every so many steps, for small batches, where finding them takes as long as the gradients:
    the momentum's direction changes slowly."""

    def __init__(self, groups, momentum=0.95, betas=(0.9, 0.98), weight_decay=0.01, every=1):
        super().__init__(groups, dict(lr=1e-3, muon=False, momentum=momentum, betas=betas,
                                      weight_decay=weight_decay))
        self.every, self.steps, self.directions = every, 0, None

    @torch.no_grad()
    def step(self):
        self.steps += 1
        for group in self.param_groups:
            (self._muon if group["muon"] else self._adam)(group)

    def _muon(self, group):
        if self.every > 1 and (self.steps - 1) % self.every and self.directions is not None:
            for p in group["params"]:
                if p.grad is not None:
                    self.state[p]["momentum"].lerp_(p.grad, 1 - group["momentum"])
        else:
            self.directions = self._directions(group)
        for p, update in self.directions:
            rows, columns = update.shape
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.add_(update.reshape(p.shape), alpha=-group["lr"] * max(1, rows / columns) ** 0.5)

    def _directions(self, group):
        """List of (parameter, its orthogonalised momentum as a matrix)."""
        world, rank = (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)
        by_shape = {}
        for p in group["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            if not state:
                state["momentum"] = torch.zeros_like(p)
            state["momentum"].lerp_(p.grad, 1 - group["momentum"])
            nesterov = p.grad.lerp(state["momentum"], group["momentum"])
            rows = p.shape[0]
            by_shape.setdefault((rows, p.numel() // rows), []).append((p, nesterov.reshape(rows, -1)))
        pairs, load = [], [0.0] * world
        for (rows, columns), entries in sorted(by_shape.items(), key=lambda kv: -kv[0][0] * kv[0][1]):
            cost = min(rows, columns) ** 2 * max(rows, columns)
            for p, update in entries:
                owner = load.index(min(load))
                load[owner] += cost
                pairs.append((p, update, owner))
        self._orthogonalise_own(pairs, rank)
        if world > 1:
            flat = torch.cat([u.flatten() if owner == rank else torch.zeros(u.numel()) for _, u, owner in pairs])
            dist.all_reduce(flat)
            parts = flat.split([u.numel() for _, u, _ in pairs])
            pairs = [(p, part.view_as(u), owner) for (p, u, owner), part in zip(pairs, parts)]
        return [(p, update) for p, update, _ in pairs]

    @staticmethod
    def _orthogonalise_own(pairs, rank):
        stacks = {}
        for k, (_, update, owner) in enumerate(pairs):
            if owner == rank:
                stacks.setdefault(update.shape, []).append(k)
        for members in stacks.values():
            stack = torch.stack([pairs[k][1] for k in members])
            for k, update in zip(members, orthogonalise(stack, half=bf16_is_faster())):
                pairs[k] = (pairs[k][0], update, rank)

    def _adam(self, group):
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            return
        for p in params:
            if not self.state[p]:
                self.state[p].update(m=torch.zeros_like(p), v=torch.zeros_like(p), t=torch.tensor(0.0))
        states = [self.state[p] for p in params]
        for state in states:
            state["t"] += 1
        t, (b1, b2) = states[0]["t"].item(), group["betas"]
        m, v, grads = [s["m"] for s in states], [s["v"] for s in states], [p.grad for p in params]
        torch._foreach_lerp_(m, grads, 1 - b1)
        torch._foreach_mul_(v, b2)
        torch._foreach_addcmul_(v, grads, grads, 1 - b2)
        root = torch._foreach_sqrt(torch._foreach_div(v, 1 - b2 ** t))
        torch._foreach_add_(root, 1e-8)
        torch._foreach_addcdiv_(params, m, root, value=-group["lr"] / (1 - b1 ** t))


def groups(module, muon_lr, adam_lr, adam_for=()):
    """Parameter groups: matrices to Muon, vectors and whatever has a name containing one of adam_for to Adam.
    ``base`` is the learning rate before the schedule."""
    matrices, others = [], []
    for name, p in module.named_parameters():
        if p.requires_grad:
            is_matrix = p.dim() >= 2 and not any(word in name for word in adam_for)
            (matrices if is_matrix else others).append(p)
    return [dict(params=matrices, muon=True, lr=muon_lr, base=muon_lr),
            dict(params=others, muon=False, lr=adam_lr, base=adam_lr)]


def set_rate(optimiser, factor):
    for group in optimiser.param_groups:
        group["lr"] = group["base"] * factor


def set_average(average, module, updates, decay=0.995):
    """Move the averaged weights towards the module's after an update; the first of them count more."""
    decay = min(decay, (updates + 1) / (updates + 12))
    now = module.state_dict()
    names = list(average)
    torch._foreach_lerp_([average[k] for k in names], [now[k] for k in names], 1 - decay)
