"""Other strides on the same memory: no kernel, no data moved.

The names are PyTorch's nodes. One rule serves all: the adjoint of a view is added to its base through the view's
strides.
"""

from tapegrad.ops.declare import layout

view = layout("view")
expand = layout("expand")
transpose = layout("transpose")
t = layout("t")
permute = layout("permute")
squeeze = layout("squeeze", "SqueezeBackward0")
squeeze_dim = layout("squeeze", "SqueezeBackward1")
unsqueeze = layout("unsqueeze")
select = layout("select")
slice_ = layout("slice")
alias = layout("alias")
diagonal = layout("diagonal")
detach = layout("detach")
as_strided = layout("as_strided", "AsStridedBackward0")
