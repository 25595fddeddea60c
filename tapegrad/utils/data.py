"""Data sets, and batches of them, as in `torch.utils.data`; batches are made by the process itself, without workers."""

from __future__ import annotations

import bisect
import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tapegrad import creation, namesakes
from tapegrad.dtypes import FLOAT64
from tapegrad.functions.shaping import functions as shaping
from tapegrad.tensor import Tensor

_stack: Any = shaping["stack"]


class Dataset:
    """A data set: a subclass has `__getitem__`, and `__len__`.

    >>> import tapegrad as tg
    >>> class Squares(tg.utils.data.Dataset):
    ...     def __len__(self):
    ...         return 4
    ...     def __getitem__(self, index):
    ...         return tg.tensor([float(index), float(index**2)])
    >>> next(iter(tg.utils.data.DataLoader(Squares(), batch_size=2)))
    tensor([[0., 0.],
            [1., 1.]])
    """

    def __class_getitem__(cls, _: Any) -> Any:
        return cls

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError("Subclasses of Dataset should implement __getitem__.")

    def __add__(self, other: Any) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset):
    """A data set that is iterated over: a subclass has `__iter__`.

    >>> import tapegrad as tg
    >>> class Squares(tg.utils.data.IterableDataset):
    ...     def __iter__(self):
    ...         return (tg.tensor(float(i * i)) for i in range(4))
    >>> list(tg.utils.data.DataLoader(Squares(), batch_size=2))
    [tensor([0., 1.]), tensor([4., 9.])]
    """

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError("Subclasses of IterableDataset should implement __iter__.")


class TensorDataset(Dataset):
    """Rows of tensors of one length.

    >>> import tapegrad as tg
    >>> data = tg.utils.data.TensorDataset(tg.arange(4), tg.arange(4) * 10)
    >>> len(data), data[2]
    (4, (tensor(2), tensor(20)))
    """

    def __init__(self, *tensors: Tensor) -> None:
        if any(len(t) != len(tensors[0]) for t in tensors):
            raise AssertionError("Size mismatch between tensors")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        return tuple(t[index] for t in self.tensors)

    def __len__(self) -> int:
        return len(self.tensors[0])


class StackDataset(Dataset):
    """Samples of several data sets together: tuples, or dictionaries.

    >>> import tapegrad as tg
    >>> data = tg.utils.data.StackDataset(image=tg.eye(2), label=[7, 8])
    >>> data[1]
    {'image': tensor([0., 1.]), 'label': 8}
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if bool(args) == bool(kwargs):
            raise ValueError("Supported either ``tuple``- (via ``args``) or``dict``- (via ``kwargs``) like input")
        self.datasets: Any = args or kwargs
        parts = list(args or kwargs.values())
        if any(len(d) != len(parts[0]) for d in parts):
            raise ValueError("Size mismatch between datasets")
        self._length = len(parts[0])

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self.datasets, dict):
            return {name: d[index] for name, d in self.datasets.items()}
        return tuple(d[index] for d in self.datasets)

    def __len__(self) -> int:
        return self._length


class ConcatDataset(Dataset):
    """Data sets one after the other.

    >>> import tapegrad as tg
    >>> data = tg.utils.data.ConcatDataset([[1, 2], [3, 4, 5]])
    >>> len(data), data[3]
    (5, 4)
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise AssertionError("datasets should not be an empty iterable")
        self.cumulative_sizes = list(itertools.accumulate(len(d) for d in self.datasets))

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> Any:
        if index < 0:
            if -index > len(self):
                raise ValueError("absolute value of index should not exceed dataset length")
            index += len(self)
        at = bisect.bisect_right(self.cumulative_sizes, index)
        return self.datasets[at][index - (self.cumulative_sizes[at - 1] if at else 0)]


class ChainDataset(IterableDataset):
    """Iterable data sets one after the other.

    >>> import tapegrad as tg
    >>> class Numbers(tg.utils.data.IterableDataset):
    ...     def __iter__(self):
    ...         return iter([1, 2])
    >>> list(tg.utils.data.ChainDataset([Numbers(), Numbers()]))
    [1, 2, 1, 2]
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = datasets

    def __iter__(self) -> Iterator[Any]:
        return itertools.chain.from_iterable(self.datasets)


class Subset(Dataset):
    """Some samples of a data set.

    >>> import tapegrad as tg
    >>> list(tg.utils.data.Subset("abcde", [4, 0, 2]))
    ['e', 'a', 'c']
    """

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """Several samples."""
        places = [self.indices[i] for i in indices]
        together = getattr(self.dataset, "__getitems__", None)
        return together(places) if callable(together) else [self.dataset[i] for i in places]

    def __len__(self) -> int:
        return len(self.indices)


def random_split(dataset: Any, lengths: Sequence[float], generator: Any = None) -> list[Subset]:
    """Share a data set out by chance: by lengths, or by parts of one.

    >>> import tapegrad as tg
    >>> parts = tg.utils.data.random_split(range(10), [0.7, 0.3])
    >>> [len(part) for part in parts]
    [7, 3]
    """
    n, total = len(dataset), sum(lengths)
    if math.isclose(total, 1) and total <= 1 + 1e-9:
        sizes = [math.floor(n * part) for part in lengths]
        for i in range(n - sum(sizes)):
            sizes[i % len(sizes)] += 1
        for i, size in enumerate(sizes):
            if size == 0:
                warnings.warn(
                    f"Length of split at index {i} is 0. This might result in an empty dataset.", stacklevel=2
                )
    else:
        sizes = [int(size) for size in lengths]
    if sum(sizes) != n:
        raise ValueError("Sum of input lengths does not equal the length of the input dataset!")
    order = creation.random(generator).permutation(n).tolist()
    ends = list(itertools.accumulate(sizes))
    return [Subset(dataset, order[end - size : end]) for end, size in zip(ends, sizes, strict=True)]


# --- the order of samples ---------------------------------------------------------------------------------------------


class Sampler:
    """An order of samples: a subclass has `__iter__`.

    >>> import tapegrad as tg
    >>> class Even(tg.utils.data.Sampler):
    ...     def __iter__(self):
    ...         return iter(range(0, 6, 2))
    >>> [batch.tolist() for batch in tg.utils.data.DataLoader(tg.arange(6), batch_size=2, sampler=Even())]
    [[0, 2], [4]]
    """

    def __init__(self, data_source: Any = None) -> None:
        self.data_source = data_source

    def __class_getitem__(cls, _: Any) -> Any:
        return cls

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError


class SequentialSampler(Sampler):
    """One after the other.

    >>> import tapegrad as tg
    >>> list(tg.utils.data.SequentialSampler("abc"))
    [0, 1, 2]
    """

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler):
    """By chance; with `replacement`, some several times.

    >>> import tapegrad as tg
    >>> sorted(tg.utils.data.RandomSampler("abc"))
    [0, 1, 2]
    """

    def __init__(
        self, data_source: Any, replacement: bool = False, num_samples: int | None = None, generator: Any = None
    ) -> None:
        super().__init__(data_source)
        self.replacement, self.generator = replacement, generator
        self.num_samples = len(data_source) if num_samples is None else num_samples
        if self.num_samples <= 0:
            raise ValueError(f"num_samples should be a positive integer value, but got num_samples={self.num_samples}")

    def __iter__(self) -> Iterator[int]:
        rng, n = creation.random(self.generator), len(self.data_source)
        if self.replacement:
            return iter(rng.integers(0, n, self.num_samples).tolist())
        rounds = [rng.permutation(n) for _ in range(-(-self.num_samples // n))]
        return iter(np.concatenate(rounds)[: self.num_samples].tolist())

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler):
    """Some, by chance.

    >>> import tapegrad as tg
    >>> sorted(tg.utils.data.SubsetRandomSampler([7, 2, 5]))
    [2, 5, 7]
    """

    def __init__(self, indices: Sequence[int], generator: Any = None) -> None:
        super().__init__()
        self.indices, self.generator = indices, generator

    def __iter__(self) -> Iterator[int]:
        return iter([self.indices[i] for i in creation.random(self.generator).permutation(len(self.indices))])

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler):
    """By chance, with weights.

    >>> import tapegrad as tg
    >>> list(tg.utils.data.WeightedRandomSampler([0.0, 1.0, 0.0], num_samples=3))
    [1, 1, 1]
    """

    def __init__(self, weights: Any, num_samples: int, replacement: bool = True, generator: Any = None) -> None:
        super().__init__()
        given = weights.tolist() if isinstance(weights, Tensor) else list(weights)
        if num_samples.__class__ is not int or num_samples <= 0:
            raise ValueError(f"num_samples should be a positive integer value, but got num_samples={num_samples}")
        self.weights, self.num_samples = np.asarray(given, np.float64), num_samples
        self.replacement, self.generator = replacement, generator

    def __iter__(self) -> Iterator[int]:
        parts = self.weights / self.weights.sum()
        rng = creation.random(self.generator)
        return iter(rng.choice(len(parts), self.num_samples, self.replacement, parts).tolist())

    def __len__(self) -> int:
        return self.num_samples


class DistributedSampler(Sampler):
    """The share of one of several processes in a set of samples: every so many, in an order that all have.

    Shares are of one length: some samples come twice, or with `drop_last` some are left out.

    Parameters
    ----------
    dataset : sized
        What is shared out.
    num_replicas : int
        How many processes there are.
    rank : int
        Which of them this is.
    shuffle : bool
        Whether the order is by chance: of `seed`, and of the epoch, which `set_epoch` says.
    drop_last : bool
        Whether what is more than equal shares is left out.

    Raises
    ------
    ValueError
        Where there is no process of this rank, or one is not given.

    >>> import tapegrad as tg
    >>> [list(tg.utils.data.DistributedSampler(range(5), 2, rank, shuffle=False)) for rank in (0, 1)]
    [[0, 2, 4], [1, 3, 0]]
    """

    def __init__(
        self, dataset: Any, num_replicas: int | None = None, rank: int | None = None, shuffle: bool = True,
        seed: int = 0, drop_last: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if num_replicas is None or rank is None:
            raise ValueError(
                "Default process group has not been initialized, please make sure to call init_process_group: there "
                "are no such groups here, so DistributedSampler is told num_replicas and rank"
            )
        if rank >= num_replicas or rank < 0:
            raise ValueError(f"Invalid rank {rank}, rank should be in the interval [0, {num_replicas - 1}]")
        self.dataset, self.num_replicas, self.rank = dataset, num_replicas, rank
        self.shuffle, self.seed, self.drop_last, self.epoch = shuffle, seed, drop_last, 0
        n = len(dataset)
        self.num_samples = n // num_replicas if drop_last else -(-n // num_replicas)
        self.total_size = self.num_samples * num_replicas

    def __iter__(self) -> Iterator[int]:
        n = len(self.dataset)
        order = list(range(n))
        if self.shuffle:
            order = np.random.default_rng(self.seed + self.epoch).permutation(n).tolist()
        return itertools.islice(itertools.cycle(order), self.rank, self.total_size, self.num_replicas)

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Have another order, the same in all processes."""
        self.epoch = epoch


class BatchSampler(Sampler):
    """Lists of `batch_size` from another sampler.

    >>> import tapegrad as tg
    >>> list(tg.utils.data.BatchSampler(range(5), batch_size=2, drop_last=False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[Any], batch_size: int, drop_last: bool) -> None:
        super().__init__()
        if batch_size <= 0:
            raise ValueError(f"batch_size should be a positive integer value, but got batch_size={batch_size}")
        if not isinstance(drop_last, bool):
            raise ValueError(f"drop_last should be a boolean value, but got drop_last={drop_last}")
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def __iter__(self) -> Iterator[list[Any]]:
        samples = iter(self.sampler)
        while batch := list(itertools.islice(samples, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __len__(self) -> int:
        n = len(self.sampler)  # type: ignore[arg-type]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)


# --- batches ----------------------------------------------------------------------------------------------------------


def default_collate(batch: Sequence[Any]) -> Any:
    """A batch of samples: tensors, arrays and numbers stacked, in the form of the samples.

    >>> import tapegrad as tg
    >>> tg.utils.data.default_collate([(tg.ones(2), 3), (tg.zeros(2), 4)])
    [tensor([[1., 1.],
            [0., 0.]]), tensor([3, 4])]
    """
    first = batch[0]
    if isinstance(first, Tensor):
        return _stack(list(batch))
    if isinstance(first, (np.ndarray, np.generic)):
        return creation.tensor(np.stack([np.asarray(x) for x in batch]))
    if isinstance(first, float):
        return creation.tensor(list(batch), dtype=FLOAT64)
    if isinstance(first, int):
        return creation.tensor(list(batch))
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        return {name: default_collate([sample[name] for sample in batch]) for name in first}
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(default_collate(parts) for parts in zip(*batch, strict=True)))
    if isinstance(first, Sequence):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        return [default_collate(parts) for parts in zip(*batch, strict=True)]
    raise TypeError(
        f"default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {type(first)}"
    )


def default_convert(data: Any) -> Any:
    """Arrays and numbers of NumPy's as tensors, in trees too; the rest as it is.

    >>> import numpy as np
    >>> import tapegrad as tg
    >>> tg.utils.data.default_convert([np.ones(2), "a"])
    [tensor([1., 1.]), 'a']
    """
    if isinstance(data, (np.ndarray, np.generic)):
        return data if data.dtype.kind not in "biuf" else creation.tensor(data)
    if isinstance(data, Mapping):
        return {name: default_convert(part) for name, part in data.items()}
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*map(default_convert, data))
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return list(map(default_convert, data))
    return data


def get_worker_info() -> None:
    """None: batches are made in the main process, without workers.

    >>> import tapegrad as tg
    >>> print(tg.utils.data.get_worker_info())
    None
    """


_FIXED = frozenset(["batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers"])


class DataLoader:
    """Batches of a data set.

    Parameters
    ----------
    dataset : Dataset
        What has `__getitem__` and `__len__`, or is iterated over.
    batch_size : int, optional
        None: samples one by one.
    shuffle, sampler, batch_sampler
        In which order: by chance, or as a sampler says.
    collate_fn : callable, optional
        What makes a batch of a list of samples: `default_collate`.
    drop_last : bool
        Whether the last batch is left out where it is shorter.
    generator : Generator, optional
        Where chance comes from.
    num_workers, pin_memory, timeout
        PyTorch's, as the others: they change nothing, since batches are made here.

    >>> import tapegrad as tg
    >>> loader = tg.utils.data.DataLoader(tg.utils.data.TensorDataset(tg.arange(5)), batch_size=2)
    >>> [batch.tolist() for (batch,) in loader]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self, dataset: Any, batch_size: int | None = 1, shuffle: bool | None = None, sampler: Any = None,
        batch_sampler: Any = None, num_workers: int = 0, collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False, drop_last: bool = False, timeout: float = 0, worker_init_fn: Any = None,
        multiprocessing_context: Any = None, generator: Any = None, *, prefetch_factor: int | None = None,
        persistent_workers: bool = False, pin_memory_device: str = "", in_order: bool = True,
    ) -> None:  # fmt: skip
        if num_workers < 0:
            raise ValueError("num_workers option should be non-negative; use num_workers=0 to disable multiprocessing.")
        if timeout < 0:
            raise ValueError("timeout option should be non-negative")
        if not num_workers and prefetch_factor is not None:
            raise ValueError(
                "prefetch_factor option could only be specified in multiprocessing. let num_workers > 0 to enable "
                "multiprocessing, otherwise set prefetch_factor to None."
            )
        if not num_workers and persistent_workers:
            raise ValueError("persistent_workers option needs num_workers > 0")
        if not num_workers and multiprocessing_context is not None:
            raise ValueError(
                "multiprocessing_context can only be used with multi-process loading (num_workers > 0), but got "
                "num_workers=0"
            )
        self.dataset, self.generator, self.drop_last, self.num_workers = dataset, generator, drop_last, num_workers
        self.pin_memory, self.timeout, self.worker_init_fn = pin_memory, timeout, worker_init_fn
        self.prefetch_factor, self.persistent_workers = prefetch_factor, persistent_workers
        self.multiprocessing_context, self.pin_memory_device = multiprocessing_context, pin_memory_device
        self.in_order = in_order
        self._is_iterable = isinstance(dataset, IterableDataset)
        if self._is_iterable and (shuffle or sampler is not None or batch_sampler is not None):
            raise ValueError(
                f"DataLoader with IterableDataset: expected unspecified shuffle option, but got shuffle={shuffle}"
            )
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last"
                )
            batch_size, self.drop_last = None, False
        elif batch_size is None and drop_last:
            raise ValueError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last")
        if sampler is None and not self._is_iterable:
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_size is not None and not self._is_iterable:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_size, self.sampler, self.batch_sampler = batch_size, sampler, batch_sampler
        batches = batch_sampler is not None or (self._is_iterable and batch_size is not None)
        self.collate_fn = collate_fn or (default_collate if batches else lambda sample: sample)
        self._is_made = True

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and hasattr(self, "_is_made"):
            raise ValueError(
                f"{name} attribute should not be set after {type(self).__name__} is initialized: make another"
            )
        super().__setattr__(name, value)

    def __iter__(self) -> Iterator[Any]:
        if self._is_iterable:
            if self.batch_size is None:
                yield from map(self.collate_fn, self.dataset)
                return
            for batch in BatchSampler(self.dataset, self.batch_size, self.drop_last):
                yield self.collate_fn(batch)
            return
        if self.batch_sampler is None:
            for index in self.sampler:
                yield self.collate_fn(self.dataset[index])
            return
        rows = self._rows()
        of_batch = getattr(self.dataset, "__getitems__", None)
        for batch in self.batch_sampler:
            if rows:
                yield rows(batch)
            else:
                items = of_batch(batch) if of_batch else [self.dataset[index] for index in batch]
                yield self.collate_fn(items)

    def _rows(self) -> Callable[[list[int]], Any] | None:
        """Batches of a TensorDataset are taken at once: row by row would give the same."""
        if self.collate_fn is not default_collate or type(self.dataset) is not TensorDataset:
            return None
        if any(t.requires_grad for t in self.dataset.tensors):
            return None
        return lambda batch: [t[batch] for t in self.dataset.tensors]

    def __len__(self) -> int:
        if self._is_iterable:
            n = len(self.dataset)
            if self.batch_size is None:
                return n
            return n // self.batch_size if self.drop_last else -(-n // self.batch_size)
        return len(self.sampler if self.batch_sampler is None else self.batch_sampler)


__all__ = [
    "BatchSampler", "ChainDataset", "ConcatDataset", "DataLoader", "Dataset", "DistributedSampler", "IterableDataset",
    "RandomSampler",
    "Sampler", "SequentialSampler", "StackDataset", "Subset", "SubsetRandomSampler", "TensorDataset",
    "WeightedRandomSampler", "default_collate", "default_convert", "get_worker_info", "random_split",
]  # fmt: skip

namesakes.add_namesakes(__name__, "dataloader dataset distributed sampler", __name__)  # a module each, in PyTorch
