"""The PyTorch side of benchmarks/fit.py: the same U-net, person filters, rank loss and Adam, as PyTorch users write them.

The generic weights are transplanted from the JAX parameters and every step looks at the same rows, so that both sides
compute the same thing. Images are [.., C, H, W] here. A `task` is what benchmarks/fit.py calls a Task.
"""

import itertools
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.utils.flop_counter import FlopCounterMode

THREADS = torch.get_num_threads()


class Block(nn.Module):
    """Two 3x3 convolutions, each with group normalisation and leaky ReLU."""

    def __init__(self, inputs: int, channels: int, groups: int):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c, channels, 3, padding=1, bias=False) for c in (inputs, channels))
        self.norms = nn.ModuleList(nn.GroupNorm(groups, channels) for _ in range(2))

    def forward(self, h):
        for conv, norm in zip(self.convs, self.norms):
            h = F.leaky_relu(norm(conv(h)), 0.1)
        return h


class PersonFilter(nn.Module):
    """h + A * h with A zero at the start.

    A convolution, or for 1x1 filters a matrix product where `product` is set: under vmap a convolution with everybody's
    own kernel becomes a grouped one.
    """

    def __init__(self, kind: str, channels: int, product: bool):
        super().__init__()
        self.side, self.groups = (1 if kind == "pointwise" else 3), (channels if kind == "depthwise" else 1)
        self.product = product and kind == "pointwise"
        self.weight = nn.Parameter(torch.zeros(channels, channels // self.groups, self.side, self.side))

    def forward(self, h):
        if self.product:
            return h + torch.einsum("bchw,dc->bdhw", h, self.weight[:, :, 0, 0])
        return h + F.conv2d(h, self.weight, padding=self.side // 2, groups=self.groups)


class UNet(nn.Module):
    """facedyn.core.unet.UNet with person filters at `sites`: frames [B, C, H, W] in [0, 1] -> [B, maps, C, H, W]."""

    def __init__(self, like, sites, kind: str, product: bool):
        super().__init__()
        channels, self.maps = like.channels, like.maps
        groups = [next(g for g in range(min(like.groups, c), 0, -1) if c % g == 0) for c in channels]
        inputs = (like.image_channels, *channels[:-1])
        self.encoder = nn.ModuleList(Block(i, c, g) for i, c, g in zip(inputs, channels, groups))
        self.decoder = nn.ModuleList(Block(2 * c, c, g) for c, g in zip(channels[:-1], groups))
        self.narrow = nn.ModuleList(nn.Conv2d(deep, c, 1, bias=False) for deep, c in zip(channels[1:], channels))
        self.head = nn.Conv2d(channels[0], like.maps * like.image_channels, 1)
        self.requires_grad_(False)
        self.filters = nn.ModuleDict({site.name: PersonFilter(kind, site.channels, product) for site in sites})

    def person(self, site, h):
        return self.filters[site](h) if site in self.filters else h

    def forward(self, frames):
        h, features = frames - 0.5, []
        for level, block in enumerate(self.encoder):
            h = block(F.avg_pool2d(h, 2) if level else h)
            features.append(h)
        h = self.person("bottleneck", features[-1])
        for level in reversed(range(len(self.decoder))):
            up = F.interpolate(self.narrow[level](h), scale_factor=2, mode="nearest")
            h = self.decoder[level](torch.cat([up, self.person(f"skip{level}", features[level])], 1))
            h = self.person(f"decoder{level}", h)
        return self.head(h).unflatten(1, (self.maps, -1))

    def transplant(self, params):
        """Takes the generic weights from the JAX parameters (kernels HWIO there, OIHW here)."""

        def put(parameter, array):
            array = torch.tensor(array)
            parameter.data.copy_(array.permute(3, 2, 0, 1) if array.ndim == 4 else array)

        with torch.no_grad():
            for name in ("encoder", "decoder"):
                for level, block in enumerate(getattr(self, name)):
                    theirs = params[f"{name}_{level}"]
                    for i, (conv, norm) in enumerate(zip(block.convs, block.norms)):
                        put(conv.weight, theirs[f"Conv_{i}"]["kernel"])
                        put(norm.weight, theirs[f"GroupNorm_{i}"]["gain"])
                        put(norm.bias, theirs[f"GroupNorm_{i}"]["bias"])
            for level, conv in enumerate(self.narrow):
                put(conv.weight, params[f"narrow_{level}"]["kernel"])
            put(self.head.weight, params["head"]["kernel"])
            put(self.head.bias, params["head"]["bias"])


def rank_loss(maps, windows, settings):
    """Mean hinge rank loss of two maps: maps [B, 2, C, H, W], windows [B, 2n+1, C, H, W] in [0, 1] -> scalar."""
    n = settings.half_length
    v = torch.stack([windows[:, :n], windows[:, n + 1 :]], 1).flatten(3)  # [B, 2, n, C*H*W]
    v = v - v.mean(2, keepdim=True)
    v = v * torch.rsqrt(v.square().sum(-1, keepdim=True) + 1e-10)
    scores = torch.einsum("bmd,bmkd->bmk", maps.flatten(2), v) * v.shape[-1] ** -0.5
    i, j = torch.triu_indices(n, n, 1, device=maps.device)
    penalty = F.relu(settings.margin - (scores[..., j] - scores[..., i])).mean()
    return penalty + settings.l2 * maps.square().mean()


class Peer:
    """What both PyTorch peers share; a call fits everybody for some steps."""

    def __init__(self, task, product: bool = False, autocast: bool = False, compiled: bool = False):
        s = task.settings
        if (s.direction, s.kind, s.frame_features, s.normalise) != ("two_maps", "hinge", "centred", True):
            raise ValueError("The PyTorch peers know only the default rank loss.")
        self.task, self.autocast = task, autocast
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")  # TF32 on a GPU, as JAX does by default
        self.model = UNet(task.model, task.sites, task.kind, product).to(self.device)
        self.model.transplant(task.params["params"])
        self.network = torch.compile(self.model) if compiled else self.model
        self.rows = torch.tensor(task.rows, device=self.device).long()
        self._choose()

    def _choose(self):
        """Keeps the fastest of both memory layouts and, on CPU, of one thread and all.

        The threads of an operation wait for each other: where others use the machine too, one may be several times faster.
        """
        threads = {1, THREADS} if self.device.type == "cpu" else {THREADS}
        seconds = {}
        for setting in itertools.product((torch.contiguous_format, torch.channels_last), sorted(threads)):
            self._set(*setting)
            self(1, people=4)
            seconds[setting] = min(self(1, people=4)[2] for _ in range(2))
        self._set(*min(seconds, key=seconds.get))
        self.note = f"{self.layout}, {self.threads} threads, of " + ", ".join(
            f"{layout} x {n}: {1e3 * s:.0f} ms" for (layout, n), s in seconds.items()
        )

    def _set(self, layout, threads: int):
        self.layout, self.threads = layout, threads
        self.model.to(memory_format=layout)

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def load(self, windows):
        """uint8 numpy [..., H, W, C] -> tensor [..., C, H, W] on the device."""
        return torch.tensor(windows, device=self.device).movedim(-1, -3).contiguous()

    def batch(self, windows):
        """(centre frames, windows) in [0, 1] of windows [B, 2n+1, C, H, W] uint8."""
        windows = windows.float() / 255
        return windows[:, self.task.settings.half_length].contiguous(memory_format=self.layout), windows

    def precision(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast)

    def loss(self, network, frames, windows):
        """Mean rank loss of a person's batch."""
        with self.precision():
            maps = network(frames)
        return rank_loss(maps.float(), windows, self.task.settings)

    def optimiser(self, parameters):
        adam = torch.optim.Adam(parameters, lr=self.task.learning_rate)
        return adam, torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=self.task.steps)

    def as_ours(self, filters) -> dict:
        """{site: [P, O, I, k, k]} -> facedyn's shapes as numpy: [P, I, O], [P, 3, 3, C] or [P, 3, 3, I, O]."""
        hwio = {site: w.detach().cpu().permute(0, 3, 4, 2, 1).numpy() for site, w in filters.items()}
        pick = {"pointwise": np.s_[:, 0, 0], "depthwise": np.s_[:, :, :, 0], "full": np.s_[:]}[self.task.kind]
        return {site: w[pick] for site, w in hwio.items()}

    def flops(self) -> tuple[float, float]:
        """Of a person's step, and before it: convolutions and matrix products, as torch's own counter sees them."""
        frames, windows = self.batch(self.load(self.task.clips[0][self.task.windows])[self.rows[0]])
        with FlopCounterMode(display=False) as counter:
            self.loss(self.model, frames, windows).backward()
        return float(counter.get_total_flops()), 0.0


class Loop(Peer):
    """One person after the other: the network forward and backward at every step, generic weights frozen."""

    def __call__(self, steps: int, people: int | None = None):
        """(filters in facedyn's shapes, seconds before the first step, seconds of the steps), over all (or so many) people."""
        torch.set_num_threads(self.threads)
        setup = stepping = 0.0
        fitted = {site: [] for site in self.model.filters}
        for own in self.task.clips[:people, self.task.windows]:
            started = self.now()
            windows = self.load(own)
            for parameter in self.model.filters.parameters():
                nn.init.zeros_(parameter)
            adam, schedule = self.optimiser(self.model.filters.parameters())
            ready = self.now()
            for step in range(steps):
                adam.zero_grad()
                self.loss(self.network, *self.batch(windows[self.rows[step]])).backward()
                adam.step()
                schedule.step()
            done = self.now()
            setup, stepping = setup + ready - started, stepping + done - ready
            for site, person_filter in self.model.filters.items():
                fitted[site].append(person_filter.weight.detach().clone())
        return self.as_ours({site: torch.stack(own) for site, own in fitted.items()}), setup, stepping


class Vmap(Peer):
    """Everybody at once by torch.func: vmap over people of the gradient of one person's loss."""

    def __init__(self, task, at_once: int, **options):
        def loss(filters, frames, windows):
            weights = {f"filters.{site}.weight": w for site, w in filters.items()}
            return self.loss(lambda x: functional_call(self.model, weights, (x,)), frames, windows)

        self.gradient, self.at_once = vmap(grad(loss)), at_once
        super().__init__(task, product=True, **options)

    def __call__(self, steps: int, people: int | None = None):
        """As of Loop."""
        torch.set_num_threads(self.threads)
        setup = stepping = 0.0
        fitted = {site: [] for site in self.model.filters}
        everyone = self.task.clips[:people, self.task.windows]
        for first in range(0, len(everyone), self.at_once):
            started = self.now()
            windows = self.load(everyone[first : first + self.at_once])
            shapes = {site: (len(windows), *f.weight.shape) for site, f in self.model.filters.items()}
            filters = {site: nn.Parameter(torch.zeros(shape, device=self.device)) for site, shape in shapes.items()}
            adam, schedule = self.optimiser(filters.values())
            ready = self.now()
            for step in range(steps):
                flat = self.batch(windows[:, self.rows[step]].flatten(0, 1))
                frames, chosen = (x.unflatten(0, (len(windows), -1)) for x in flat)
                gradients = self.gradient({site: f.detach() for site, f in filters.items()}, frames, chosen)
                for site, parameter in filters.items():
                    parameter.grad = gradients[site]
                adam.step()
                schedule.step()
            done = self.now()
            setup, stepping = setup + ready - started, stepping + done - ready
            for site, parameter in filters.items():
                fitted[site].append(parameter)
        return self.as_ours({site: torch.cat(own) for site, own in fitted.items()}), setup, stepping


def matmul_peak(size: int) -> float:
    """FLOP/s of a square matrix product, float32 on CPU, bfloat16 on a GPU."""
    cuda = torch.cuda.is_available()
    torch.set_num_threads(THREADS)
    matrix = torch.randn(size, size, device="cuda" if cuda else "cpu", dtype=torch.bfloat16 if cuda else torch.float32)
    seconds = []
    for _ in range(6):
        started = time.perf_counter()
        matrix @ matrix
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds)
