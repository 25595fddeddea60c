"""Numba's array expressions, where scalars have derivatives.

Numba joins functions of arrays to one loop after type inference. That loop takes no scalars but Numba's own, of which
Numba makes sure for operators, but not for calls (`np.hypot(x, x[0])`): these then stay loops of their own.
"""

from __future__ import annotations

from typing import Any

from numba.core import postproc
from numba.core.compiler_machinery import register_pass
from numba.core.rewrites.registry import RewriteRegistry, rewrite_registry
from numba.np.ufunc.array_exprs import RewriteArrayExprs

from tapegrad.jitted.inner import Pass

_KIND = "after-inference"


class _OfNumbasOwn(RewriteArrayExprs):  # type: ignore[misc]
    def _match_array_expr(self, instr: Any, expr: Any, target_name: str) -> None:
        if expr.op != "call" or all(self.typemap[variable.name].is_internal for variable in expr.args):
            super()._match_array_expr(instr, expr, target_name)


@register_pass(mutates_CFG=True, analysis_only=False)
class Rewrites(Pass):
    """As Numba's own pass, `NopythonRewrites`."""

    _name = "tapegrad_rewrites"

    def run_pass(self, state: Any) -> bool:
        """Rewrite what type inference has found."""
        processor = postproc.PostProcessor(state.func_ir)
        processor.run(True)
        registry = RewriteRegistry()
        for known in rewrite_registry.rewrites[_KIND]:
            registry.register(_KIND)(_OfNumbasOwn if known is RewriteArrayExprs else known)
        registry.apply(_KIND, state)
        processor.remove_dels()
        return True
