"""The ResNet-20 of cifar10_pruning.py, pruned by torch-pruning under the same terms.

Runs in an environment of its own, Python 3.8 or later:

    pip install torch==2.13.0 torch-pruning==1.6.1 numpy
    python -m tests.benchmarks.torch_pruning_cifar10 \\
        --arrays=FILE --work_dir=WORK_DIR --seed=1

FILE is what `python -m tests.benchmarks.cifar10_npz` wrote: the same weights, moving
averages and pixels. Before anything is pruned the logits are compared with
TensorFlow's. Equal to cifar10_pruning.py: architecture (TensorFlow's SAME padding and
batch norm constants included), augmentation, batch, optimizer, weight decay, learning
rates, steps, the steps of the ten trials and the MACs after each.

torch-pruning as its examples use it: GroupTaylorImportance with its defaults, global,
gradients summed over 20 training batches before each trial (ec's moving average has a
memory of 20 steps, too), then steps of 1/400 of the channels until the MACs are there.
The optimizer starts afresh after each trial, because its parameters are new objects.
"""
import argparse
import json
import math
import os
import platform

import numpy as np
import torch
import torch.nn.functional as F
import torch_pruning
from torch import nn

from tests.benchmarks.torch_resnet20 import ResNet20, count_macs, count_params

BATCH = 128
MEAN, DEVIATION = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)
WEIGHT_DECAY = 1e-4
RATIO = 0.5
TRIALS = 10
GRADIENT_BATCHES = 20


class Images:
    """Augmented training batches without end, and the test images."""

    def __init__(self, arrays, seed):
        pad = [(0, 0), (4, 4), (4, 4), (0, 0)]
        self._train = np.pad(arrays["train_images"], pad, constant_values=120)
        self._labels = arrays["train_labels"].astype(np.int64)
        self._test = arrays["test_images"]
        self._test_labels = arrays["test_labels"].astype(np.int64)
        self._random = np.random.RandomState(seed)
        self._queue = np.zeros(0, np.int64)

    def next_batch(self):
        if len(self._queue) < BATCH:
            order = self._random.permutation(len(self._train))
            self._queue = np.concatenate([self._queue, order])
        chosen, self._queue = self._queue[:BATCH], self._queue[BATCH:]
        offsets = self._random.randint(0, 9, (BATCH, 2))
        images = np.stack(
            [
                self._train[i, y : y + 32, x : x + 32]
                for i, (y, x) in zip(chosen, offsets)
            ]
        )
        flipped = self._random.randint(2, size=BATCH) == 1
        images[flipped] = images[flipped, :, ::-1]
        return _tensor(images), torch.from_numpy(self._labels[chosen])

    def test_logits(self, model):
        model.eval()
        with torch.no_grad():
            return np.concatenate(
                [
                    model(_tensor(self._test[start : start + 500])).numpy()
                    for start in range(0, len(self._test), 500)
                ]
            )

    def accuracy(self, model):
        classes = self.test_logits(model).argmax(1)
        return round(float(np.mean(classes == self._test_labels)), 4)


def _tensor(images):
    """uint8 NHWC -> normalized float32 NCHW."""
    images = (images.astype(np.float32) - np.float32(MEAN)) / np.float32(DEVIATION)
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def make_optimizer(model):
    kernels = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() == 1]
    groups = [
        {"params": kernels, "weight_decay": WEIGHT_DECAY},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=0.0, momentum=0.9, nesterov=True)


def learning_rate(highest, step, steps):
    """As networks.py: a warm-up over 15 % of the steps, then a cosine to zero."""
    done = step / steps
    return highest * min(done / 0.15, 0.5 * (1 + math.cos(math.pi * done)))


def train(model, images, highest, steps, before_step=None):
    """Trains in place.

    Args:
      before_step: callable(number of the step, from 1) -> whether parameters are new.
    """
    optimizer = make_optimizer(model)
    for step in range(steps):
        if before_step is not None and before_step(step + 1):
            optimizer = make_optimizer(model)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(highest, step, steps)
        model.train()
        optimizer.zero_grad()
        inputs, labels = images.next_batch()
        F.cross_entropy(model(inputs), labels).backward()
        optimizer.step()


class Trials:
    """torch-pruning at ten steps of the training, with the package's cubic ramp."""

    def __init__(self, model, images, interval):
        self._model, self._images, self._interval = model, images, interval
        self._whole = count_macs(model)
        self._pruner = torch_pruning.pruner.BasePruner(
            model,
            torch.zeros(1, 3, 32, 32),
            importance=torch_pruning.importance.GroupTaylorImportance(),
            global_pruning=True,
            pruning_ratio=1.0,
            iterative_steps=400,
            ignored_layers=[model.dense],
        )

    def __call__(self, step):
        trial, rest = divmod(step, self._interval)
        if rest or not 1 <= trial <= TRIALS:
            return False
        self._sum_gradients()
        goal = 1 - RATIO * (1 - (1 - trial / TRIALS) ** 3)
        while count_macs(self._model) / self._whole > goal:
            self._pruner.step()
        print(
            f"trial {trial}: MACs {count_macs(self._model) / self._whole:.4f}",
            flush=True,
        )
        return True

    def _sum_gradients(self):
        self._model.train()
        self._model.zero_grad()
        for _ in range(GRADIENT_BATCHES):
            inputs, labels = self._images.next_batch()
            F.cross_entropy(self._model(inputs), labels).backward()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--arrays", required=True)
    parser.add_argument("--work_dir", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--learning_rate", type=float, default=0.05)
    parser.add_argument("--prune_epochs", type=float, default=2)
    parser.add_argument("--finetune_epochs", type=float, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    with np.load(args.arrays, allow_pickle=False) as file:
        arrays = dict(file)
    images, model = Images(arrays, args.seed), ResNet20()
    model.load(arrays)
    difference = np.abs(images.test_logits(model) - arrays["test_logits"]).max()
    if difference > 1e-3:
        raise ValueError(f"logits differ from TensorFlow's by {difference}")
    macs, params, start = count_macs(model), count_params(model), images.accuracy(model)
    print(f"start: {start}, logits differ by {difference:.1e}", flush=True)

    steps = int(args.prune_epochs * 50000 / BATCH)
    trials = Trials(model, images, steps // TRIALS)
    train(model, images, args.learning_rate, steps, trials)
    pruned = images.accuracy(model)
    print(f"pruned: {pruned}, MACs {count_macs(model) / macs:.4f}", flush=True)
    steps = int(args.finetune_epochs * 50000 / BATCH)
    train(model, images, args.learning_rate, steps)
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    figures = {
        "method": "torch_pruning",
        "seed": args.seed,
        "accuracy_after_pruning": pruned,
        "accuracy_after_finetuning": images.accuracy(model),
        "macs": [macs, count_macs(model)],
        "params": [params, count_params(model)],
        "widths": {
            f"conv2d_{i}/kernel" if i else "conv2d/kernel": conv.out_channels
            for i, conv in enumerate(convolutions)
        },
        "accuracy_at_start": start,
        "largest_difference_of_logits": float(difference),
        "versions": {
            "torch": torch.__version__,
            "torch_pruning": "1.6.1",
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    print(figures)
    os.makedirs(args.work_dir, exist_ok=True)
    path = os.path.join(args.work_dir, f"torch_pruning_seed{args.seed}.json")
    with open(path, "w") as file:
        json.dump(figures, file)


if __name__ == "__main__":
    main()
