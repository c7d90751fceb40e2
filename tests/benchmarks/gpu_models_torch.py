"""The networks of the GPU benchmark in PyTorch: eager, compiled, and as one CUDA graph a step.

Each in the form that PyTorch recommends: fused optimizers, channels last, autocast to bfloat16 with
float32 weights, cuDNN choosing its algorithms by trial. In the GPT, the sum that runs past the
layers is bfloat16, too, as in the other libraries.
"""

import contextlib
import itertools

import cpu_torch
import torch
from gpu_models import Ready
from torch import nn
from torch.nn import functional as F

WARM_STEPS = 4  # before a step is captured: algorithms are chosen, the optimizer has its state

# ---------------------------------------------------------------------------------- the networks


def normalized(inputs, filters, size, stride=1):
    layer = nn.Conv2d(inputs, filters, size, stride, size // 2, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(filters))


def mlp(units):
    return cpu_torch.dense(*units)


def lstm(steps, features, units):
    return cpu_torch.LSTM(features, units)


def cnn(widths, image):
    layers = []
    for before, width in itertools.pairwise((3, *widths)):
        layers += [normalized(before, width, 3), nn.ReLU(), normalized(width, width, 3), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))


class Bottleneck(nn.Module):
    def __init__(self, inputs, filters, stride, shortcut):
        super().__init__()
        self.first = normalized(inputs, filters, 1)
        self.second = normalized(filters, filters, 3, stride)
        self.third = normalized(filters, 4 * filters, 1)
        self.shortcut = normalized(inputs, 4 * filters, 1, stride) if shortcut else nn.Identity()

    def forward(self, x):
        y = self.third(F.relu(self.second(F.relu(self.first(x)))))
        return F.relu(self.shortcut(x) + y)


def resnet(blocks, width, image, classes):
    layers, inputs = [normalized(3, width, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], width
    for stage, count in enumerate(blocks):
        filters = width << stage
        for i in range(count):
            layers.append(Bottleneck(inputs, filters, 2 if stage and not i else 1, not i))
            inputs = 4 * filters
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


class GPT(cpu_torch.GPT):
    def __init__(self, **size):
        super().__init__(**size)
        nn.init.normal_(self.tokens.weight, std=0.02)
        self.head.weight = self.tokens.weight

    def forward(self, x):
        x = self.embedded(x).to(torch.get_autocast_dtype(x.device.type))
        return self.head(self.norm(self.blocks(x)))


BUILD = {"mlp": mlp, "cnn": cnn, "lstm": lstm, "resnet": resnet, "gpt": GPT}

# -------------------------------------------------------------------------------------- training


@contextlib.contextmanager
def ready(name, network, device, quick, form="eager"):
    """Yields what trains the network, in one of the forms `eager`, `compile` and `graph`."""
    device = torch.device("cpu" if device == "emulator" else device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("PyTorch finds no GPU")
    if form == "graph" and device.type != "cuda":
        raise RuntimeError("CUDA graphs need a GPU")
    if device.type == "cpu":
        torch.set_num_threads(1)  # the networks are tiny there
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    step, model = training(name, network, device, quick, form)
    last = [None]

    def keep():
        last[0] = step()

    if form == "graph":
        launch, last[0] = captured(torch.cuda, step)
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    on_gpu = device.type == "cuda"
    yield Ready(
        count,
        launch if form == "graph" else keep,
        lambda: last[0].item(),
        torch.cuda.synchronize if on_gpu else lambda: None,
        torch.cuda.max_memory_allocated if on_gpu else lambda: None,
    )


def training(name, network, device, quick, form):
    """Returns a function that makes one step and returns the loss, and the model."""
    x, y = network.arrays(quick)
    x, y = torch.from_numpy(x).to(device), torch.from_numpy(y).to(device).long().flatten()
    model = BUILD[name](**network.sized(quick)).to(device).train()
    if x.ndim == 4:
        x = x.permute(0, 3, 1, 2)  # the same memory: it is channels last
        model = model.to(memory_format=torch.channels_last)
    parameters = [p for p in model.parameters() if p.requires_grad]
    kind, arguments = network.optimizer
    arguments = {"lr" if key == "learning_rate" else key: v for key, v in arguments.items()}
    if form == "graph" and kind != "SGD":
        arguments["capturable"] = True
    optimizer = getattr(torch.optim, kind)(parameters, fused=True, **arguments)
    run = compiled(model, device) if form == "compile" else model
    kinds = {"device_type": device.type, "dtype": torch.bfloat16, "enabled": network.mixed}

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(**kinds):
            loss = F.cross_entropy(run(x).flatten(0, -2), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step, model


def compiled(model, device):
    """`torch.compile`; without a GPU only its tracing is tried, which needs no C++ compiler."""
    return torch.compile(model, backend="inductor" if device.type == "cuda" else "eager")


def captured(cuda, step):
    """Captures a whole step; returns what launches it, and the loss that each launch writes.

    Args:
        cuda: `torch.cuda`.
        step: Makes a step and returns its loss.
    """
    stream = cuda.Stream()
    stream.wait_stream(cuda.current_stream())
    with cuda.stream(stream):
        for _ in range(WARM_STEPS):
            step()
    cuda.current_stream().wait_stream(stream)
    cuda.synchronize()
    graph = cuda.CUDAGraph()
    with cuda.graph(graph):
        loss = step()
    return graph.replay, loss
