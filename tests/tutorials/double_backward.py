"""Double backward through Functions: saved inputs, saved outputs, saved intermediaries."""

import torch


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, grad_out):
        (x,) = ctx.saved_tensors
        return grad_out * 2 * x


class Exp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        result = torch.exp(x)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx, grad_out):
        (result,) = ctx.saved_tensors
        return result * grad_out


class Sinh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        expx = torch.exp(x)
        expnegx = torch.exp(-x)
        ctx.save_for_backward(expx, expnegx)
        return (expx - expnegx) / 2, expx, expnegx

    @staticmethod
    def backward(ctx, grad_out, _grad_out_exp, _grad_out_negexp):
        expx, expnegx = ctx.saved_tensors
        grad_input = grad_out * (expx + expnegx) / 2
        grad_input += _grad_out_exp * expx
        grad_input -= _grad_out_negexp * expnegx
        return grad_input


def sinh(x):
    return Sinh.apply(x)[0]


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return x**3, 3 * x**2

    @staticmethod
    def setup_context(ctx, inputs, output):
        (x,) = inputs
        _, dx = output
        ctx.save_for_backward(x, dx)

    @staticmethod
    def backward(ctx, grad_output, grad_dx):
        x, dx = ctx.saved_tensors
        return grad_output * dx + grad_dx * 6 * x


class Lossy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * 5

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output):
        return grad_output * 5


x = torch.rand(3, 3, requires_grad=True, dtype=torch.double)
for function in (Square.apply, Exp.apply, sinh, lambda x: Cube.apply(x)[0]):
    print(torch.autograd.gradcheck(function, x), torch.autograd.gradgradcheck(function, x))

y = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
for name, function in {
    "square": Square.apply,
    "exp": Exp.apply,
    "sinh": sinh,
    "cube": lambda x: Cube.apply(x)[0],
}.items():
    out = function(y)
    orders = []
    for _ in range(3):
        (out,) = torch.autograd.grad(out, y, create_graph=True, allow_unused=True)
        orders.append(f"{out.item():.6f}")
        if not out.requires_grad:
            break
    print(name, orders)

(g,) = torch.autograd.grad(Lossy.apply(y) ** 2, y, create_graph=True)
print(f"{g.item():.6f}", g.requires_grad)
try:
    g.backward()
except RuntimeError as error:
    print(str(error).split("\n")[0])
