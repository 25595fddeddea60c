"""Gradients of jitted functions beside jax: that they agree, and gradient over primal time of each.

    python asv_benchmarks/compare_jitted.py

Libraries are timed in processes of their own. Without jax, its columns are empty.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from benchmarks.jitted_works import works


def best(run: Any, rounds: int = 15) -> float:
    """The shortest time in seconds."""
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)


def ours() -> dict[str, Any]:
    """Name: compile time, primal time, gradient time, gradient."""
    from tapegrad import func

    found = {}
    for name, (function, args, _) in works().items():
        function(*args)
        gradient = func.grad(function)
        begin = time.perf_counter()
        value = gradient(*args)
        first = time.perf_counter() - begin
        found[name] = (
            first, best(lambda f=function, a=args: f(*a)), best(lambda g=gradient, a=args: g(*a)), value.tolist()
        )  # fmt: skip
    return found


def jaxs() -> dict[str, Any]:
    """The same of jax, for what it can express."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def field(x: Any, y: Any, p: Any) -> Any:
        return p[0] * x - p[1] * x * y, p[3] * x * y - p[2] * y

    def runge_kutta(p: Any, n: int, h: float) -> Any:
        def step(state: Any, _: Any) -> Any:
            x, y = state
            k1 = field(x, y, p)
            k2 = field(x + 0.5 * h * k1[0], y + 0.5 * h * k1[1], p)
            k3 = field(x + 0.5 * h * k2[0], y + 0.5 * h * k2[1], p)
            k4 = field(x + h * k3[0], y + h * k3[1], p)
            new = [u + h / 6 * (a + 2 * b + 2 * c + d) for u, a, b, c, d in zip(state, k1, k2, k3, k4, strict=True)]
            return tuple(new), None

        (x, y), _ = jax.lax.scan(step, (p[4], p[5]), None, length=n)
        return x + y

    def heston(p: Any, z: Any, strike: float, maturity: float) -> Any:
        s0, v0, kappa, theta, xi, rho, r = p
        dt = maturity / z.shape[1]

        def step(state: Any, zj: Any) -> Any:
            log_s, v = state
            plus = jnp.maximum(v, 0.0)
            sigma = jnp.sqrt(plus + 1e-12)
            z2 = rho * zj[0] + jnp.sqrt(1.0 - rho * rho) * zj[1]
            log_s = log_s + (r - 0.5 * plus) * dt + sigma * dt**0.5 * zj[0]
            return (log_s, v + kappa * (theta - plus) * dt + xi * sigma * dt**0.5 * z2), None

        start = (jnp.full(z.shape[0], jnp.log(s0)), jnp.full(z.shape[0], v0))
        (log_s, _), _ = jax.lax.scan(step, start, jnp.asarray(z).transpose(1, 2, 0))
        return jnp.exp(-r * maturity) * jnp.mean(jnp.maximum(jnp.exp(log_s) - strike, 0.0))

    def n_body(x: Any, m: Any) -> Any:
        i, j = np.triu_indices(len(x), 1)
        d = x[i] - x[j]
        return -jnp.sum(m[i] * m[j] / jnp.sqrt((d * d).sum(1) + 1e-9))

    known = {"Lotka": (runge_kutta, (1, 2)), "Heston": (heston, (2, 3)), "N-body": (n_body, ())}
    found = {}
    for name, (_, args, _) in works().items():
        for start, (function, static) in known.items():
            if name.startswith(start):
                primal, gradient = (
                    jax.jit(function, static_argnums=static),
                    jax.jit(jax.grad(function), static_argnums=static),
                )
                begin = time.perf_counter()
                value = jax.block_until_ready(gradient(*args))
                first = time.perf_counter() - begin
                primal(*args)
                found[name] = (
                    first, best(lambda f=primal, a=args: jax.block_until_ready(f(*a)), 7),
                    best(lambda g=gradient, a=args: jax.block_until_ready(g(*a)), 7), np.asarray(value).tolist(),
                )  # fmt: skip
    return found


def main() -> None:
    """Print the table."""
    if len(sys.argv) > 1:
        print(json.dumps({"ours": ours, "jax": jaxs}[sys.argv[1]]()))
        return
    results: dict[str, Any] = {}
    for library in ("ours", "jax"):
        child = subprocess.run([sys.executable, __file__, library], capture_output=True, text=True, check=False)
        results[library] = json.loads(child.stdout.splitlines()[-1]) if child.returncode == 0 else {}
    print("| work | primal, us | gradient, us | ratio (goal) | first gradient, s | jax: gradient, us | agrees to |")
    print("|---|---|---|---|---|---|---|")
    for name, (_, _, goal) in works().items():
        first, primal, gradient, value = results["ours"][name]
        line = (
            f"| {name} | {primal * 1e6:.0f} | {gradient * 1e6:.0f} | {gradient / primal:.1f} ({goal}) | {first:.2f} |"
        )
        if name in results["jax"]:
            _, _, theirs, other = results["jax"][name]
            error = np.abs(np.array(value) - other).max() / np.abs(other).max()
            assert error < 1e-8, f"{name}: the gradients differ by {error}"
            line += f" {theirs * 1e6:.0f} | {error:.0e} |"
        else:
            line += " | |"
        print(line)


if __name__ == "__main__":
    main()
