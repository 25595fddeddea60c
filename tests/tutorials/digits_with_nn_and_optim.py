"""Seven-segment digits under noise, told apart by two linear layers: Module, DataLoader, Adam and a schedule."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

random = np.random.default_rng(0)
SEGMENTS = ["abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg"]
PLACES = {"a": (0, slice(1, 4)), "b": (slice(1, 4), 4), "c": (slice(4, 7), 4), "d": (7, slice(1, 4))}
PLACES |= {"e": (slice(4, 7), 0), "f": (slice(1, 4), 0), "g": (4, slice(1, 4))}


def images(count):
    labels = random.integers(0, 10, count)
    drawn = random.normal(0.0, 0.3, (count, 8, 5))
    for image, label in zip(drawn, labels, strict=True):
        for segment in SEGMENTS[label]:
            image[PLACES[segment]] += 1.0
    return torch.from_numpy(drawn.astype(np.float32)), torch.from_numpy(labels)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.flatten = nn.Flatten()
        self.layers = nn.Sequential(nn.Linear(40, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, x):
        return self.layers(self.flatten(x))


model = Classifier()
with torch.no_grad():
    for parameter in model.parameters():
        parameter.copy_(torch.from_numpy(random.normal(0.0, 0.2, tuple(parameter.shape))))
print(model)
print(sum(p.numel() for p in model.parameters() if p.requires_grad), "parameters")

device = "cuda" if torch.cuda.is_available() else "cpu"
model = model.to(device)
train = DataLoader(TensorDataset(*images(256)), batch_size=64, shuffle=False)
test_x, test_y = images(200)
optimizer = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=1e-4)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
criterion = nn.CrossEntropyLoss()

for epoch in range(4):
    model.train()
    running = 0.0
    for inputs, targets in train:
        inputs, targets = inputs.to(device), targets.to(device)
        optimizer.zero_grad()
        loss = criterion(model(inputs), targets)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        running += loss.item() * inputs.size(0)
    scheduler.step()
    model.eval()
    with torch.no_grad():
        logits = model(test_x)
        accuracy = (logits.argmax(dim=1) == test_y).float().mean()
    print(f"epoch {epoch}: loss {running / 256:.4f}, norm {norm:.3f}, accuracy {accuracy:.3f}", scheduler.get_last_lr())

print(f"{F.nll_loss(F.log_softmax(logits, dim=1), test_y):.4f}", list(model.state_dict()))
restored = Classifier()
print(restored.load_state_dict(model.state_dict()), torch.equal(restored(test_x), logits))
