"""Train a small network to tell stripes from rings, on whatever this machine computes with."""

import torch
from torch import nn
from torchvision.transforms import functional as images

SIZE = 32


def device() -> torch.device:
    """The GPU that this build of PyTorch can use, else the CPU."""
    for name in ("cuda", "xpu", "mps"):  # ROCm's builds call themselves cuda
        backend = getattr(torch, name, None)
        if backend is not None and backend.is_available():
            return torch.device(name)
    return torch.device("cpu")


def batch(count: int, at: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Blurred, noisy pictures of stripes (0) and of rings (1), `count` x 1 x 32 x 32."""
    axis = torch.linspace(-1, 1, SIZE)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    angle = torch.rand(count, 1, 1) * torch.pi
    stripes = x * angle.cos() + y * angle.sin()
    rings = (x**2 + y**2).sqrt().expand(count, SIZE, SIZE)
    labels = torch.randint(2, (count,))
    distance = torch.where(labels.view(-1, 1, 1) == 1, rings, stripes)
    waves = torch.sin(distance * (10 + 10 * torch.rand(count, 1, 1))) + 0.5 * torch.randn(count, SIZE, SIZE)
    return images.gaussian_blur(waves.unsqueeze(1), [3, 3]).to(at), labels.to(at)


def main() -> None:
    """Train for 200 steps and say how many of 1,000 new pictures are told right."""
    torch.manual_seed(0)
    at = device()
    name = torch.cuda.get_device_name() if at.type == "cuda" else at.type
    print(f"torch {torch.__version__} on {name}")
    network = nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.LazyLinear(2),
    ).to(at)
    network(batch(1, at)[0])  # LazyLinear takes its size from what it first sees
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for step in range(1, 201):
        pictures, labels = batch(64, at)
        loss = nn.functional.cross_entropy(network(pictures), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.3f}")
    pictures, labels = batch(1000, at)
    right = (network(pictures).argmax(1) == labels).sum().item()
    print(f"{right} of 1000 right")


if __name__ == "__main__":
    main()
