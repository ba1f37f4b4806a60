"""Golden file of the upscalers: esrgan/testdata/upscalers.safetensors, by the PyTorch forward passes below in float64.

    python train/goldens_upscalers.py

The two networks of Real-ESRGAN as its paper and checkpoints have them, tiny: RRDBNet that doubles twice, with pixels put together
first so that the result is as large or twice as large as the input, and with other numbers of doublings; SRVGGNetCompact.
"""
import torch
import torch.nn.functional as F
from torch import nn

from goldens_nets import Golden, draw, make_up


class Dense(nn.Module):
    def __init__(self, f, grow):
        super().__init__()
        for i in range(5):
            self.add_module(f"conv{i + 1}", nn.Conv2d(f + i * grow, f if i == 4 else grow, 3, padding=1))

    def forward(self, x):
        parts = [x]
        for i in range(4):
            parts.append(F.leaky_relu(getattr(self, f"conv{i + 1}")(torch.cat(parts, 1)), 0.2))
        return x + 0.2 * self.conv5(torch.cat(parts, 1))


class RRDB(nn.Module):
    def __init__(self, f, grow):
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = Dense(f, grow), Dense(f, grow), Dense(f, grow)

    def forward(self, x):
        return x + 0.2 * self.rdb3(self.rdb2(self.rdb1(x)))


class RRDBNet(nn.Module):
    def __init__(self, features, grow, blocks, ups, unshuffle):
        super().__init__()
        self.unshuffle, self.ups = unshuffle, ups
        conv = lambda i, o: nn.Conv2d(i, o, 3, padding=1)
        self.conv_first = conv(3 * unshuffle**2, features)
        self.body = nn.Sequential(*[RRDB(features, grow) for _ in range(blocks)])
        self.conv_body = conv(features, features)
        for i in range(ups):
            self.add_module(f"conv_up{i + 1}", conv(features, features))
        self.conv_hr, self.conv_last = conv(features, features), conv(features, 3)

    def forward(self, x):
        x = self.conv_first(F.pixel_unshuffle(x, self.unshuffle))
        x = x + self.conv_body(self.body(x))
        for i in range(self.ups):
            x = F.leaky_relu(getattr(self, f"conv_up{i + 1}")(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        return self.conv_last(F.leaky_relu(self.conv_hr(x), 0.2))


class Compact(nn.Module):
    def __init__(self, features, blocks, scale):
        super().__init__()
        self.scale = scale
        layers = [nn.Conv2d(3, features, 3, padding=1), nn.PReLU(features)]
        for _ in range(blocks):
            layers += [nn.Conv2d(features, features, 3, padding=1), nn.PReLU(features)]
        self.body = nn.ModuleList(layers + [nn.Conv2d(features, 3 * scale**2, 3, padding=1)])

    def forward(self, x):
        y = x
        for layer in self.body:
            y = layer(y)
        return F.pixel_shuffle(y, self.scale) + F.interpolate(x, scale_factor=self.scale, mode="nearest")


MODELS = {
    "x4": (RRDBNet, dict(features=8, grow=4, blocks=2, ups=2, unshuffle=1)),
    "x2": (RRDBNet, dict(features=8, grow=4, blocks=1, ups=2, unshuffle=2)),
    "x1": (RRDBNet, dict(features=6, grow=3, blocks=1, ups=2, unshuffle=4)),
    "x8": (RRDBNet, dict(features=4, grow=2, blocks=1, ups=3, unshuffle=1)),
    "x1-plain": (RRDBNet, dict(features=4, grow=2, blocks=1, ups=0, unshuffle=1)),
    "compact-x4": (Compact, dict(features=8, blocks=3, scale=4)),
    "compact-x3": (Compact, dict(features=8, blocks=1, scale=3)),
}


def main():
    golden = Golden()
    for i, (name, (kind, config)) in enumerate(MODELS.items()):
        net = make_up(kind(**config))
        golden.network(name, net, dict(scale=2 ** config["ups"] // config["unshuffle"] if "ups" in config else config["scale"]))
        image = draw(80 + i, 2, 3, 4, 8).abs().clamp(max=1)
        with torch.no_grad():
            out = net(image)
        golden.value(name, "up", "in", image)
        golden.value(name, "up", "image", out)
        print(f"  {name}: {tuple(out.shape)}, std {out.std():.2f}")
    golden.save("esrgan/testdata/upscalers.safetensors")


if __name__ == "__main__":
    main()
