"""A third-degree polynomial in Legendre form fitted to a sine, its basis function written as a Function."""

import math

import torch


class LegendrePolynomial3(torch.autograd.Function):
    """P3(x) = (5 x^3 - 3 x) / 2, with a derivative of its own."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return 0.5 * (5 * x**3 - 3 * x)

    @staticmethod
    def backward(ctx, grad_output):
        (x,) = ctx.saved_tensors
        return grad_output * 1.5 * (5 * x**2 - 1)


dtype = torch.double
device = torch.device("cpu")
x = torch.linspace(-math.pi, math.pi, 200, device=device, dtype=dtype)
y = torch.sin(x)
a, b, c, d = (torch.full((), value, device=device, dtype=dtype, requires_grad=True) for value in (0.0, -1.0, 0.0, 0.3))

learning_rate = 5e-6
for step in range(200):
    y_pred = a + b * LegendrePolynomial3.apply(c + d * x)
    loss = (y_pred - y).pow(2).sum()
    if step % 40 == 0:
        print(step, f"{loss.item():.5f}")
    loss.backward()
    with torch.no_grad():
        for weight in (a, b, c, d):
            weight -= learning_rate * weight.grad
            weight.grad = None

print(f"y = {b.item():.6f} * P3({d.item():.6f} x)", abs(a.item()) < 1e-9, abs(c.item()) < 1e-9)
print(type(y_pred.grad_fn).__name__, y_pred.grad_fn.next_functions[1][0].next_functions[1][0].name())
print(torch.autograd.gradcheck(LegendrePolynomial3.apply, (x[:7].clone().requires_grad_(),)))
