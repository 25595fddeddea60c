"""Steps in time."""

from typing import Any

import jax
import jax.numpy as jnp

from jitted_peers import formulas


def stepped(step: Any, state: Any, n: int) -> Any:
    """A state after `n` steps."""
    return jax.lax.scan(lambda state, _: (step(state), None), state, None, length=n)[0]


def runge_kutta(p: Any, n: int, h: float) -> Any:
    x, y = stepped(lambda state: formulas.runge_kutta_step(*state, p, h), (p[4], p[5]), n)
    return x + y


def heston(p: Any, z: Any, strike: float, maturity: float) -> Any:
    def step(state: Any, zj: Any) -> Any:
        return formulas.heston_step(jnp, *state, zj[0], zj[1], p, maturity / z.shape[1]), None

    start = (jnp.full(z.shape[0], jnp.log(p[0])), jnp.full(z.shape[0], p[1]))
    (log_s, _), _ = jax.lax.scan(step, start, z.transpose(1, 2, 0))
    return jnp.exp(-p[6] * maturity) * jnp.mean(jnp.maximum(jnp.exp(log_s) - strike, 0.0))


def ode(x: Any, steps: int) -> Any:
    y = stepped(lambda y: formulas.chain_step(jnp, y, x, 1.0 / steps), jnp.zeros_like(x), steps)
    return y[0] + y[1]


def swing(state: Any, h: float, p: Any) -> Any:
    """A step of a damped pendulum, by the leapfrog scheme."""
    angle, speed = state
    speed = speed + 0.5 * h * (-p[0] * jnp.sin(angle) - p[1] * speed)
    angle = angle + h * speed
    return angle, speed + 0.5 * h * (-p[0] * jnp.sin(angle) - p[1] * speed)


def pendulum(p: Any, n: int, h: float) -> Any:
    angle, speed = stepped(lambda state: swing(state, h, p), (p[2], p[3]), n)
    return angle + speed


def checkpointed_pendulum(p: Any, n: int, h: float) -> Any:
    some = round(n**0.5)

    @jax.checkpoint
    def steps(state: Any) -> Any:
        return stepped(lambda state: swing(state, h, p), state, some)

    state = stepped(steps, (p[2], p[3]), n // some)
    angle, speed = stepped(lambda state: swing(state, h, p), state, n - n // some * some)
    return angle + speed


def gravitation(x: Any, v: Any, m: Any, n: int, h: float) -> Any:
    start = (x, v, formulas.accelerations(x, m))
    _, v, _ = stepped(lambda state: formulas.leapfrog(*state, m, h), start, n)
    return 0.5 * jnp.sum(m[:, None] * v**2)
