"""A variational autoencoder of points on a ring: the reparameterized draw, a KL term in closed form, Adam."""

import numpy as np
import torch
from torch import nn, optim
from torch.nn import functional as F

random = np.random.default_rng(3)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(8, 16)
        self.fc21, self.fc22 = nn.Linear(16, 2), nn.Linear(16, 2)
        self.fc3, self.fc4 = nn.Linear(2, 16), nn.Linear(16, 8)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = torch.as_tensor(random.normal(size=std.shape), dtype=std.dtype)
        return mu + eps * std

    def decode(self, z):
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z))))

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, 8))
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


def loss_function(recon_x, x, mu, logvar):
    BCE = F.binary_cross_entropy(recon_x, x.view(-1, 8), reduction="sum")
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return BCE + KLD


model = VAE()
for p in model.parameters():
    p.data.copy_(torch.from_numpy(random.normal(0.0, 0.4, tuple(p.shape))))
optimizer = optim.Adam(model.parameters(), lr=1e-2)
angles = random.uniform(0.0, 2 * np.pi, (32, 1))
x = torch.from_numpy(0.5 + 0.45 * np.cos(angles + np.arange(8) * 0.7)).float()

model.train()
for step in range(40):
    optimizer.zero_grad()
    recon, mu, logvar = model(x)
    loss = loss_function(recon, x, mu, logvar)
    loss.backward()
    optimizer.step()
    if step % 10 == 0:
        print(f"step {step}: {loss.item() / len(x):.4f}")

normal = torch.distributions.Normal
posterior, prior = normal(mu, torch.exp(0.5 * logvar)), normal(torch.zeros(2), torch.ones(2))
kl = torch.distributions.kl_divergence(posterior, prior).sum()
print(torch.allclose(kl, -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()), rtol=1e-4))
with torch.no_grad():
    sample = model.decode(torch.tensor([[0.0, 0.0], [1.0, -1.0]]))
    print(tuple(sample.shape), [f"{v:.3f}" for v in sample.mean(1).tolist()], sample.requires_grad)
