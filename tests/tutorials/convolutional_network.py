"""Bars that lie or stand, told apart by a small convolutional network with batch normalization and SGD."""

import numpy as np
import torch
from torch import nn, optim

random = np.random.default_rng(1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, kernel_size=3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 8, 3, stride=2)
        self.pool = nn.MaxPool2d(2, 2)
        self.dropout = nn.Dropout(p=0.0)
        self.fc = nn.Linear(8, 2)

    def forward(self, x):
        x = self.pool(nn.functional.relu(self.bn(self.conv1(x))))
        x = torch.tanh(self.conv2(x))
        x = nn.functional.adaptive_avg_pool2d(x, 1)
        return self.fc(self.dropout(torch.flatten(x, 1)))


def batch(count):
    labels = random.integers(0, 2, count)
    pictures = random.normal(0.0, 0.2, (count, 1, 12, 12))
    for picture, label in zip(pictures, labels, strict=True):
        line = random.integers(2, 10)
        if label:
            picture[0, line, :] += 1.0
        else:
            picture[0, :, line] += 1.0
    return torch.tensor(pictures, dtype=torch.float32), torch.tensor(labels)


net = Net()
for name, parameter in net.named_parameters():
    if parameter.dim() > 1:
        parameter.data = torch.tensor(random.normal(0.0, 0.3, parameter.shape), dtype=torch.float32)
    else:
        nn.init.constant_(parameter, 1.0 if name == "bn.weight" else 0.0)
    print(name, tuple(parameter.shape))

activations = {}
handle = net.conv2.register_forward_hook(lambda module, args, output: activations.update(conv2=output.detach()))
criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True)
for step in range(12):
    inputs, labels = batch(16)
    optimizer.zero_grad(set_to_none=True)
    outputs = net(inputs)
    loss = criterion(outputs, labels)
    loss.backward()
    optimizer.step()
    if step % 3 == 2:
        print(f"[{step + 1}] loss: {loss.item():.4f}", tuple(activations["conv2"].shape))
handle.remove()

net.eval()
with torch.inference_mode():
    inputs, labels = batch(64)
    _, predicted = torch.max(net(inputs), 1)
    print("correct", (predicted == labels).sum().item(), "of", labels.size(0))
print([f"{v:.4f}" for v in net.bn.running_mean.tolist()], net.bn.num_batches_tracked)
image = inputs[:1].clone().requires_grad_()
net(image)[0, 1].backward()
print("saliency", f"{image.grad.abs().max():.4f}", image.grad.abs().sum(dim=(0, 1, 3)).argmax().item())
