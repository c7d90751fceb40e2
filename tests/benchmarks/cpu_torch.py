"""The networks of the CPU benchmark in PyTorch: eager, its best form, and compiled."""

import itertools

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


def network(name):
    """Returns the module; its inputs are as `cpu_models` makes them, images channels first."""
    if name in ("digits", "mlp"):
        return dense(*((64, 64, 32, 10) if name == "digits" else (784, 512, 512, 10)))
    return {"lenet": lenet, "resnet": ResNet, "gpt": GPT, "lstm": LSTM}[name]()


def dense(*units):
    layers = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(units)):
        layers += [nn.ReLU()] * (i > 0) + [nn.Linear(inputs, outputs)]
    return nn.Sequential(*layers)


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 12 * 12, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


class Block(nn.Module):
    def __init__(self, inputs, filters, stride):
        super().__init__()

        def convolution(channels, size, stride):
            layer = nn.Conv2d(channels, filters, size, stride, size // 2, bias=False)
            return nn.Sequential(layer, nn.BatchNorm2d(filters))

        self.first = convolution(inputs, 3, stride)
        self.second = convolution(filters, 3, 1)
        self.shortcut = convolution(inputs, 1, stride) if stride > 1 else nn.Identity()

    def forward(self, x):
        return F.relu(self.shortcut(x) + self.second(F.relu(self.first(x))))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
        widths = [16] * 4 + [32] * 3 + [64] * 3
        pairs = itertools.pairwise(widths)
        self.body = nn.Sequential(*stem, *[Block(a, b, 1 if a == b else 2) for a, b in pairs])
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


class Decoder(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        batch, length, width = x.shape
        qkv = self.qkv(self.norm(x)).view(batch, length, 3, self.heads, width // self.heads)
        y = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4), is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.narrow(F.gelu(self.wide(self.second_norm(x))))


class GPT(nn.Module):
    def __init__(self, vocabulary=65, block=64, width=128, heads=4, depth=4):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(block, width)
        self.blocks = nn.Sequential(*[Decoder(width, heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def embedded(self, x):
        return self.tokens(x) + self.places(torch.arange(x.shape[1], device=x.device))

    def forward(self, x):
        logits = self.head(self.norm(self.blocks(self.embedded(x))))
        return logits.transpose(1, 2)  # classes second


class LSTM(nn.Module):
    def __init__(self, features=32, units=128):
        super().__init__()
        self.lstm, self.head = nn.LSTM(features, units, batch_first=True), nn.Linear(units, 10)
        nn.init.zeros_(self.lstm.bias_hh_l0)  # the other libraries have one bias
        self.lstm.bias_hh_l0.requires_grad_(False)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def contender(name, workload, data, best=False, compiled=False):
    """Returns the number of parameters and the ways to run: functions of a number of turns."""
    torch.manual_seed(0)
    torch.set_num_threads(2)
    x, y = data
    x = torch.from_numpy(np.moveaxis(x, -1, 1).copy() if x.ndim == 4 else x)
    x, y = x.int() if name == "gpt" else x, torch.from_numpy(y).long()
    model = network(name)
    if best and x.ndim == 4:
        x = x.contiguous(memory_format=torch.channels_last)
        model = model.to(memory_format=torch.channels_last)
    parameters = [p for p in model.parameters() if p.requires_grad]
    kind, arguments = workload.optimizer
    arguments = {"lr" if key == "learning_rate" else key: v for key, v in arguments.items()}
    optimizer = getattr(torch.optim, kind)(parameters, fused=best, **arguments)
    run = torch.compile(model) if compiled else model

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(run(x), y)
        loss.backward()
        optimizer.step()
        return loss

    def train(steps):
        model.train()
        for _ in range(steps):
            loss = step(x, y)
        return loss.item()

    def fit(epochs):
        model.train()
        for _ in range(epochs):
            total = 0.0
            for rows in torch.randperm(len(x)).split(workload.batch):
                total += step(x[rows], y[rows]).item() * len(rows)
        return total / len(x)

    def infer(steps):
        model.eval()
        batch = x[: workload.batch]
        with torch.inference_mode():
            for _ in range(steps):
                run(batch)

    count = sum(p.numel() for p in parameters)
    ways = {"step": train} if workload.arrays else {"fit": fit}
    return count, {**ways, "inference": infer}
