"""utils.data: batches as PyTorch's, where chance has no part."""

import pytest

import tapegrad

from .oracle import agree, refuse_alike

PROGRAMS = """
_s = _D.TensorDataset(tg.arange(7), tg.arange(14.0).reshape(7, 2)); n = len(_s); item = list(_s[3])
batches = [list(_b) for _b in _D.DataLoader(_s, batch_size=3)]; m = len(_D.DataLoader(_s, 3))
last = [list(_b) for _b in _D.DataLoader(_s, batch_size=3, drop_last=True)]
k = len(_D.DataLoader(_s, 3, drop_last=True))

class _S(_D.Dataset):
    def __len__(self): return 5
    def __getitem__(self, i):
        return {"x": np.full(2, i), "y": float(i), "n": i, "s": str(i), "l": [tg.tensor(i), (i, 2.5)]}
batches = list(_D.DataLoader(_S(), batch_size=2)); one = list(_D.DataLoader(_S(), batch_size=None))[0]["n"]

class _I(_D.IterableDataset):
    def __iter__(self): return iter(range(5))
batches = list(_D.DataLoader(_I(), batch_size=2))

_c = _D.ConcatDataset([range(3), range(10, 14)]); items = [_c[i] for i in (0, 2, 3, 6, -1)]; n = len(_c)

_s = _D.Subset(range(10, 20), [1, 5]); items = [_s[0], _s[1]]; n = len(_s)

n = [len(_p) for _p in _D.random_split(range(11), [0.5, 0.5])]
m = [len(_p) for _p in _D.random_split(range(5), [2, 3])]
_p = _D.random_split(range(6), [3, 3]); all = sorted([*_p[0], *_p[1]])

_l = _D.DataLoader(range(6), batch_size=4, shuffle=True); all = sorted(i for _b in _l for i in _b.tolist()); n = len(_l)

_l = _D.DataLoader(range(6), batch_size=2, collate_fn=sum); sums = list(_l)

_l = _D.DataLoader(range(6), sampler=[4, 1, 2], batch_size=2); batches = list(_l)

_l = _D.DataLoader(range(6), batch_sampler=[[4, 1], [2]]); batches = list(_l)

_b = list(_D.BatchSampler(_D.SequentialSampler(range(5)), 2, False)); n = len(_D.BatchSampler(range(5), 2, True))

_s = sorted(_D.RandomSampler(range(5))); n = len(list(_D.RandomSampler(range(5), True, 9)))
w = set(_D.WeightedRandomSampler([0.0, 1.0, 1.0], 50)) <= {1, 2}; w = list(_D.SubsetRandomSampler([3])) + [int(w)]
""".strip().split("\n\n")

HEAD = "_D = __import__(tg.__name__ + '.utils.data', fromlist='x')\n"


@pytest.mark.parametrize("program", PROGRAMS)
def test_data(program):
    agree(HEAD + program)


REFUSED = [
    ("_D.TensorDataset(tg.ones(2), tg.ones(3))", "Size mismatch between tensors"),
    ("_D.random_split(range(5), [2, 2])", "Sum of input lengths does not equal the length of the input dataset!"),
    ("_D.DataLoader(range(3), sampler=[0], shuffle=True)", "sampler option is mutually exclusive with shuffle"),
    ("_D.DataLoader(range(3), batch_size=0)", "batch_size should be a positive integer value, but got batch_size=0"),
    ("list(_D.DataLoader([object()]))", "batch must contain tensors, numpy arrays, numbers, dicts or lists; found"),
    ("_D.DataLoader(range(3), num_workers=-1)", "num_workers option should be non-negative"),
]


@pytest.mark.parametrize(("program", "phrase"), REFUSED)
def test_refusals(program, phrase):
    refuse_alike(HEAD + program, phrase)


def test_chance_is_repeated_with_its_generator():
    tg = tapegrad
    loader = tg.utils.data.DataLoader(range(20), batch_size=20, shuffle=True, generator=tg.Generator())
    first = next(iter(loader)).tolist()
    loader.generator.manual_seed(67280421310721)
    assert next(iter(loader)).tolist() == first
    assert first != list(range(20))
