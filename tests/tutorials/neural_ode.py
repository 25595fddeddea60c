"""A neural ODE: Runge-Kutta steps, the adjoint method as a Function, against backpropagation through the solver."""

import itertools

import numpy as np
import torch
import torch.nn as nn

random = np.random.default_rng(9)


class ODEFunc(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 10), nn.Tanh(), nn.Linear(10, 2))
        for m in self.net.modules():
            if isinstance(m, nn.Linear):
                nn.init.zeros_(m.weight)
                nn.init.constant_(m.bias, val=0)

    def forward(self, t, y):
        return self.net(y**3)


def rk4(func, t, h, y):
    k1 = func(t, y)
    k2 = func(t + h / 2, y + h * k1 / 2)
    k3 = func(t + h / 2, y + h * k2 / 2)
    k4 = func(t + h, y + h * k3)
    return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def odeint(func, y0, t):
    out = [y0]
    for start, end in itertools.pairwise(t):
        out.append(rk4(func, start, end - start, out[-1]))
    return torch.stack(out)


class OdeintAdjoint(torch.autograd.Function):
    @staticmethod
    def forward(ctx, func, y0, t, *params):
        ctx.func = func
        with torch.no_grad():
            ans = odeint(func, y0, t)
        ctx.save_for_backward(t, ans, *params)
        return ans

    @staticmethod
    def backward(ctx, *grad_output):
        t, ans, *params = ctx.saved_tensors
        func = ctx.func

        def augmented(moment, state):
            y, adj = state[0], state[1]
            with torch.set_grad_enabled(True):
                moment, y = moment.detach().requires_grad_(True), y.detach().requires_grad_(True)
                value = func(moment, y)
                grads = torch.autograd.grad(value, (moment, y, *params), -adj, allow_unused=True, retain_graph=True)
            return [
                value.detach(),
                grads[1],
                *[torch.zeros_like(p) if g is None else g for g, p in zip(grads[2:], params, strict=True)],
            ]

        class Many(list):
            def __add__(self, other):
                return Many(a + b for a, b in zip(self, other, strict=True))

            def __rmul__(self, factor):
                return Many(factor * a for a in self)

            __mul__ = __rmul__

            def __truediv__(self, factor):
                return Many(a / factor for a in self)

        state = Many([ans[-1], grad_output[0][-1], *[torch.zeros_like(p) for p in params]])
        for i in range(len(t) - 1, 0, -1):
            state = rk4(lambda moment, s: Many(augmented(moment, s)), t[i], t[i - 1] - t[i], state)
            state[0] = ans[i - 1]
            state[1] = state[1] + grad_output[0][i - 1]
        return None, state[1], None, *state[2:]


true_a = torch.tensor([[-0.1, 2.0], [-2.0, -0.1]], dtype=torch.float64)
t = torch.linspace(0.0, 1.0, 11, dtype=torch.float64)


class Lambda(nn.Module):
    def forward(self, t, y):
        return torch.mm(y**3, true_a)


with torch.no_grad():
    true_y = odeint(Lambda(), torch.tensor([[2.0, 0.0]], dtype=torch.float64) * 0.6, t)
print(tuple(true_y.shape), [f"{v:.6f}" for v in true_y[-1, 0].tolist()])

func = ODEFunc().to(torch.float64)
for p in func.parameters():
    nn.init.normal_(p, mean=0, std=0.1)
    p.data = torch.as_tensor(random.normal(0.0, 0.3, p.shape))
params = tuple(func.parameters())
y0 = true_y[0].clone().requires_grad_()

direct = torch.autograd.grad((odeint(func, y0, t) - true_y).abs().mean(), (y0, *params))
adjoint = torch.autograd.grad((OdeintAdjoint.apply(func, y0, t, *params) - true_y).abs().mean(), (y0, *params))
print([f"{g.norm().item():.6f}" for g in direct])
print(all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(direct, adjoint, strict=True)))

optimizer = torch.optim.RMSprop(func.parameters(), lr=1e-2)
for itr in range(8):
    optimizer.zero_grad()
    pred_y = OdeintAdjoint.apply(func, true_y[0], t, *params)
    loss = torch.mean(torch.abs(pred_y - true_y))
    loss.backward()
    optimizer.step()
    print(f"Iter {itr:02d} | Total Loss {loss.item():.6f}")
