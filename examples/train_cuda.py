"""Train a small classifier with several processes, mixed precision and checkpoints.

    torchrun --nproc-per-node 2 examples/train_cuda.py
    python examples/train_cuda.py --epochs 2 --resume work_dirs/train_cuda/last.pth

The task is made here: pictures of one bar, to be told apart by the bar's direction.
"""

import argparse
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

SIZE = 24


class Bars(Dataset):
    """Noisy pictures, 1 x 24 x 24, of a bar that stands, lies, rises or falls."""

    def __init__(self, length, seed=0):
        self.length, self.seed = length, seed

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
        label = index % 4
        row, column = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
        at = torch.randint(6, SIZE - 6, (2,), generator=generator)
        row, column = row - at[0], column - at[1]
        distance = (column, row, row + column, row - column)[label]
        image = 0.5 * torch.randn(SIZE, SIZE, generator=generator)
        image += (distance.abs() < 2).float()
        return image[None], label


class Net(nn.Module):
    """A few convolutions with batch normalisation."""

    def __init__(self, classes=4, width=16):
        super().__init__()
        layers, channels = [], 1
        for stride in (1, 2, 2):
            layers += [
                nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            channels = width
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Dropout(0.1))
        self.classifier = nn.Linear(width, classes)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


def parse_args():
    parser = argparse.ArgumentParser(description="Train a small classifier on GPUs")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=32, help="of one process")
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work-dir", default="work_dirs/train_cuda")
    parser.add_argument("--resume", help="a checkpoint to go on from")
    parser.add_argument("--local_rank", type=int, default=int(os.environ.get("LOCAL_RANK", 0)))
    return parser.parse_args()


def average(value):
    """The mean of a number over all processes."""
    total = torch.tensor(value, device="cuda")
    dist.all_reduce(total)
    return total.item() / dist.get_world_size()


def evaluate(model, loader):
    """The share of pictures that are recognised, over all processes."""
    model.eval()
    right = torch.zeros(2).cuda()
    with torch.no_grad():
        for images, labels in loader:
            scores = model(images.cuda(non_blocking=True))
            hits = scores.argmax(1) == labels.cuda(non_blocking=True)
            right += torch.stack([hits.sum(), torch.tensor(hits.numel()).cuda()])
    dist.all_reduce(right, op=dist.ReduceOp.SUM)
    return (right[0] / right[1]).item()


def main():
    args = parse_args()
    assert torch.cuda.is_available(), "this script needs a GPU"
    torch.backends.cudnn.benchmark = True
    torch.cuda.set_device(args.local_rank)
    for name, value in {"RANK": 0, "WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1"}.items():
        os.environ.setdefault(name, str(value))
    os.environ.setdefault("MASTER_PORT", "29511")
    dist.init_process_group("nccl")
    is_main = dist.get_rank() == 0
    torch.manual_seed(0)
    torch.cuda.manual_seed_all(dist.get_rank())

    model = nn.SyncBatchNorm.convert_sync_batchnorm(Net()).cuda()
    model = DistributedDataParallel(
        model, device_ids=[args.local_rank], output_device=args.local_rank
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, nesterov=True)
    criterion = nn.CrossEntropyLoss().cuda()
    scaler = torch.cuda.amp.GradScaler()
    start = 0
    if args.resume:
        checkpoint = torch.load(args.resume, map_location=f"cuda:{args.local_rank}")
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        scaler.load_state_dict(checkpoint["scaler"])
        start = checkpoint["epoch"]

    data = Bars(args.images)
    sampler = DistributedSampler(data)
    how = {"batch_size": args.batch_size, "num_workers": args.workers, "pin_memory": True}
    loader = DataLoader(data, sampler=sampler, drop_last=True, **how)
    held_out = Bars(args.images // 4, seed=1)
    test_loader = DataLoader(held_out, sampler=DistributedSampler(held_out, shuffle=False), **how)

    for epoch in range(start, args.epochs):
        sampler.set_epoch(epoch)
        model.train()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        losses = []
        for images, labels in loader:
            images = images.cuda(non_blocking=True)
            labels = labels.cuda(non_blocking=True)
            with torch.cuda.amp.autocast():
                loss = criterion(model(images), labels)
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            scaler.step(optimizer)
            scaler.update()
            losses.append(loss.detach())
        end.record()
        torch.cuda.synchronize()
        loss = average(torch.stack(losses).mean().item())
        accuracy = evaluate(model, test_loader)
        if is_main:
            print(
                f"epoch {epoch + 1}: loss {loss:.4f}, accuracy {accuracy:.3f}, "
                f"{begin.elapsed_time(end) / len(losses):.1f} ms a step, "
                f"{torch.cuda.max_memory_allocated() / 2**20:.1f} MiB, "
                f"{dist.get_world_size()} processes on {torch.cuda.get_device_name()}",
                flush=True,
            )
            os.makedirs(args.work_dir, exist_ok=True)
            checkpoint = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scaler": scaler.state_dict(),
                "epoch": epoch + 1,
            }
            torch.save(checkpoint, os.path.join(args.work_dir, "last.pth"))
        dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
