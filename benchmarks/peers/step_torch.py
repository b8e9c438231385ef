"""The same layers in PyTorch, channels last, eager or compiled.

Synopsis::

    python benchmarks/peers/step_torch.py --network crackflow_s --image_px 128 --channels 3 --compiled 1
"""

import pathlib
import sys

sys.path.pop(0)  # this folder, whose grain.py and webdataset.py would hide the packages
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import torch
from torch import nn

from benchmarks.peers import layout, protocol


class Conv(nn.Sequential):
    def __init__(self, inputs: int, filters: int, stride: int, padded: bool) -> None:
        super().__init__(
            nn.Conv2d(inputs, filters, 3, stride, padding=int(padded), bias=False),
            nn.BatchNorm2d(filters, momentum=0.1),
            nn.ReLU(inplace=True),
        )


class Residual(nn.Module):
    def __init__(self, filters: int, padded: bool) -> None:
        super().__init__()
        self.first = Conv(filters, filters, 1, padded)
        second = nn.Conv2d(filters, filters, 3, padding=int(padded), bias=False)
        self.second, self.padded = nn.Sequential(second, nn.BatchNorm2d(filters)), padded

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.padded:
            return torch.relu(x[:, :, 2:-2, 2:-2] + self.second(self.first(x)))
        return torch.relu(x + self.second(self.first(x)))


class Family(nn.Module):
    def __init__(self, stem: int, stages: tuple, padded: bool) -> None:
        super().__init__()
        parts, channels = [Conv(3, stem, 2, padded)], stem
        for filters, blocks in stages:
            parts += [Conv(channels, filters, 2, padded), *(Residual(filters, padded) for _ in range(blocks))]
            channels = filters
        self.body, self.logit = nn.Sequential(*parts), nn.Linear(2 * channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x)
        return self.logit(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))[:, 0]


class Seed(nn.Module):
    def __init__(self, px: int) -> None:
        super().__init__()
        parts, channels = [], 1
        for number, filters in enumerate(layout.SEED):
            parts += [nn.MaxPool2d(2)] if number else []
            parts += [nn.Conv2d(channels, filters, 3), nn.ReLU(inplace=True)]
            channels = filters
            px = (px // 2 if number else px) - 2
        self.body = nn.Sequential(*parts, nn.Flatten(), nn.Linear(channels * px * px, layout.SEED_DENSE), nn.ReLU())
        self.logit = nn.Linear(layout.SEED_DENSE, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logit(self.body(x))[:, 0]


def main() -> None:
    options = protocol.step_options()
    torch.set_num_threads(protocol.WORKERS)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Seed(options.image_px) if options.network == "seed" else Family(*layout.FAMILY[options.network])
    model = model.to(device, memory_format=torch.channels_last)
    parameters = sum(weight.numel() for weight in model.parameters())
    parameters += sum(buffer.numel() for name, buffer in model.named_buffers() if "running" in name)
    run = torch.compile(model) if options.compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.02, fused=True)
    loss_of = nn.BCEWithLogitsLoss()
    pixels, label = (torch.from_numpy(array) for array in protocol.synthetic_batch(options))
    half = options.precision == "mixed_bfloat16"

    def step() -> float:
        x = pixels.to(device).permute(0, 3, 1, 2).float() / 255  # already channels last
        with torch.autocast(device, torch.bfloat16, enabled=half):
            logits = run(x)
        loss = loss_of(logits.float(), label.to(device).float())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    protocol.serve_steps(step, parameters, torch.__version__, name, options)


if __name__ == "__main__":
    main()
