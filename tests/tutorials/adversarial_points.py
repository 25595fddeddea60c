"""A generative adversarial network on points of the plane, with a penalty on the slope of its critic."""

import numpy as np
import torch
import torch.nn as nn

random = np.random.default_rng(4)


def draw(*shape):
    return torch.tensor(random.normal(size=shape), dtype=torch.float64)


generator = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2, inplace=True), nn.Linear(16, 2)).double()
discriminator = nn.Sequential(
    nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1)
).double()


def weights_init(m):
    classname = m.__class__.__name__
    if classname.find("Linear") != -1:
        m.weight.data = 0.5 * draw(*m.weight.shape)
        m.bias.data.fill_(0)


generator.apply(weights_init)
discriminator.apply(weights_init)
criterion = nn.BCEWithLogitsLoss()
optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=0.01, betas=(0.5, 0.999))
optimizer_g = torch.optim.RMSprop(generator.parameters(), lr=0.01)
real_label, fake_label = 1.0, 0.0
shift = torch.tensor([2.0, -1.0], dtype=torch.float64)

for step in range(30):
    discriminator.zero_grad()
    real = 0.3 * draw(16, 2) + shift
    label = torch.full((16,), real_label, dtype=torch.float64)
    output = discriminator(real).view(-1)
    real_error = criterion(output, label)
    real_error.backward()
    D_x = output.sigmoid().mean().item()

    fake = generator(draw(16, 2))
    label.fill_(fake_label)
    output = discriminator(fake.detach()).view(-1)
    fake_error = criterion(output, label)
    fake_error.backward()

    alpha = torch.from_numpy(random.uniform(size=(16, 1)))
    between = (alpha * real + (1 - alpha) * fake.detach()).requires_grad_(True)
    scores = discriminator(between)
    (slope,) = torch.autograd.grad(scores, between, grad_outputs=torch.ones_like(scores), create_graph=True)
    penalty = 0.1 * ((slope.norm(2, dim=1) - 1) ** 2).mean()
    penalty.backward()
    optimizer_d.step()

    generator.zero_grad()
    label.fill_(real_label)
    g_error = criterion(discriminator(fake).view(-1), label)
    g_error.backward()
    optimizer_g.step()
    if step % 6 == 5:
        d_error = real_error + fake_error
        losses = f"Loss_D: {d_error.item():.4f} Loss_G: {g_error.item():.4f}"
        print(f"[{step + 1}] {losses} D(x): {D_x:.4f} GP: {penalty.item():.4f}")

mean = generator(draw(64, 2)).mean(0)
print([f"{v:.4f}" for v in mean.tolist()], mean.grad_fn is not None)
