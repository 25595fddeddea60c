"""Modules on several devices, as scripts name them: there is one device, so that nothing is divided."""

from __future__ import annotations

from typing import Any

from tapegrad.devices import check_device
from tapegrad.nn.module import Module


class DataParallel(Module):
    """A module whose batches are divided among devices: there is one, and it has all of a batch.

    Parameters
    ----------
    module : Module
        What is called; parameters have the paths "module. ...".
    device_ids, output_device, dim
        PyTorch's, for devices that are not there: they must be None and 0, or empty.

    >>> import tapegrad as tg
    >>> model = tg.nn.DataParallel(tg.nn.Linear(2, 1))
    >>> list(model.state_dict())
    ['module.weight', 'module.bias']
    """

    def __init__(self, module: Module, device_ids: Any = None, output_device: Any = None, dim: int = 0) -> None:
        super().__init__()
        for device in (*(device_ids or ()), output_device):
            check_device(f"cuda:{device}" if isinstance(device, int) else device)
        self.module, self.device_ids, self.dim = module, list[Any](), dim

    def forward(self, *inputs: Any, **facts: Any) -> Any:
        """What the module gives."""
        return self.module(*inputs, **facts)


class DistributedDataParallel(Module):
    """A module whose gradients are averaged among processes: refused, as where no group of them was made.

    Raises
    ------
    ValueError
        Always.
    """

    def __init__(self, module: Module, *args: Any, **facts: Any) -> None:
        del module, args, facts
        raise ValueError(
            "Default process group has not been initialized, please make sure to call init_process_group: "
            "tapegrad.distributed.PartitionedSum sums losses over partitions of data, on processes too"
        )


def data_parallel(
    module: Any, inputs: Any, device_ids: Any = None, output_device: Any = None, dim: int = 0, module_kwargs: Any = None
) -> Any:
    """Call a module as `DataParallel` does."""
    given = inputs if isinstance(inputs, tuple) else (inputs,)
    return DataParallel(module, device_ids, output_device, dim)(*given, **(module_kwargs or {}))


__all__ = ["DataParallel", "DistributedDataParallel", "data_parallel"]
