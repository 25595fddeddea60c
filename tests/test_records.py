"""Records: what a declaration says, compiled code, plain Python and Python's indices have alike."""

import functools
from typing import Any

import numpy as np
import pytest

from tapegrad.core.tables import Instruction, Program
from tapegrad.kernels import digests, native, records
from tapegrad.kinds import address_of
from tapegrad.memory import Record, array, at, index_of, inside, over, part1, word
from tapegrad.tape import ROW, H, Header, Row

PAIR = np.dtype([("small", "i2"), ("flag", "u1"), ("unused", "u1"), ("x", "f4"), ("three", "i4", (3,))])


class Pair(Record, dtype=PAIR):
    bits = over("x", np.int32)


class Within(Record):
    count = word()
    ones = array(np.uint8, "n")  # a length of the record around it


class Sample(Record):
    n = word()
    pairs = array(Pair, "n")
    next = at("Sample")
    total = word()
    few = inside(np.int64, 3)
    second = over("few", i=1)
    within = inside(Within)
    last = inside(Pair, 2)


def work(sample: Sample):
    """Reads and writes fields of every form."""
    for i in range(sample.n):
        pair = sample.pairs[i]
        sample.total += pair.small + pair.three[1]
        pair.small, pair.x = -pair.small, pair.x + 0.5
        sample.within.count += sample.within.ones[i]
    sample.few[0], sample.few[2] = sample.next.total, sample.last[1].bits
    sample.second = sample.few[2] + 1
    sample.last[0].flag = 255
    return sample.total_at - sample.n_at + Sample(sample.next_at).total


def made() -> tuple[np.ndarray, tuple[Any, ...]]:
    """A record, and the arrays that it refers to."""
    words, index, other = np.zeros(Sample.nbytes // 8 + 1, np.int64), index_of(Sample), np.zeros(40, np.int64)
    pairs, ones = np.zeros(4, PAIR), np.arange(4, dtype=np.uint8)
    pairs["small"], pairs["x"], pairs["three"] = [-3, 5, 7, 1000], [1, 2, 3, 4], 70_000
    words[[index.n, index.pairs, index.next, index.ones]] = 4, address_of(pairs), address_of(other), address_of(ones)
    other[index.total] = -9
    last = words.view(np.uint8)[Sample.fields["last"][0] :][: 2 * PAIR.itemsize].view(PAIR)
    last["x"] = 1.0, 2.0
    return words, (index, other, pairs, ones, last)


@pytest.mark.nojit
def test_a_field_is_the_same_in_compiled_code_and_in_plain_python():
    words, (index, _, pairs, _, last) = made()
    build = functools.partial(native.rebind, work)
    entry = native.callable_at(native.link("test_records", 1, build, (work,), returns=True), 1)
    assert entry(address_of(words)) == 8 * (index.total - index.n) - 9
    assert words[index.total] == -3 + 5 + 7 + 1000 + 4 * 70_000
    assert (words[index.count], words[index.few], words[index.second]) == (6, -9, 1 + (2 << 29))
    assert pairs["small"].tolist() == [3, -5, -7, -1000]
    assert pairs["x"].tolist() == [1.5, 2.5, 3.5, 4.5]
    assert last["flag"].tolist() == [255, 0]
    assert words[-1] == 0


@pytest.mark.nojit
def test_plain_records_know_their_bounds():
    words, _ = made()
    view = records.View(Sample, address_of(words))
    assert view.pairs[3].small == 1000
    assert view.within.ones.tolist() == [0, 1, 2, 3]
    with pytest.raises(IndexError):
        view.pairs[4]


def test_python_has_an_index_for_each_word_of_a_tape():
    assert (H.end, H.synced) == (0, 1)
    assert max(H) == Header.nbytes // 8 - 1
    assert len(set(H)) == len(H) == Header.nbytes // 8
    assert H.n_planned * 8 == Header.fields["plan"][0] + Header.fields["plan"][1].of.fields["n_planned"][0]


def test_fields_lie_where_numpy_has_them_or_one_behind_the_other():
    for name in ROW.names:
        assert Row.fields[name][0] == ROW.fields[name][1]
    assert Row.fields["immediate"][0] == ROW.fields["b"][1]
    for record in (Instruction, Program, Header):
        ends = {offset + field.nbytes for offset, field in record.fields.values()}
        assert max(ends) == record.nbytes
        assert all(offset == 0 or offset in ends for offset, _ in record.fields.values())


def test_a_digest_knows_the_layout_of_records():
    def of(record: type[Record]) -> str:
        def function(sample):
            return part1(sample.n, 0)

        function.__annotations__["sample"] = record
        return digests.of(function)

    class Other(Record):
        n = word()

    before = of(Other)

    class Other(Record):  # type: ignore[no-redef]
        before = word()
        n = word()

    assert of(Other) != before != of(Sample)
