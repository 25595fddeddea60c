"""Functions on tensors. Importing this package also gives `Tensor` its methods and operators."""

from tapegrad.functions import (
    activations,
    arrays,
    contractions,
    conversions,
    copies,
    decompositions,
    distances,
    drawing,
    elementwise,
    factorizations,
    filling,
    indexing,
    inplace,
    joining,
    matrices,
    older,
    products,
    reductions,
    scattering,
    shaping,
    sorting,
    statistics,
)

__all__ = [
    "activations",
    "arrays",
    "contractions",
    "conversions",
    "copies",
    "decompositions",
    "distances",
    "drawing",
    "elementwise",
    "factorizations",
    "filling",
    "indexing",
    "inplace",
    "joining",
    "matrices",
    "older",
    "products",
    "reductions",
    "scattering",
    "shaping",
    "sorting",
    "statistics",
]
# What is made from declarations has its examples checked too.
__test__ = {
    name: function.__doc__
    for module in (arrays, elementwise, reductions, shaping)
    for name, function in module.functions.items()
    if function.__module__ == "tapegrad"
}
