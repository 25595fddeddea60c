"""Calls of compiled functions from jitted code: arguments are copied in, a program is run, results are copied out.

What is known of a function is in its `Served`: for each seat the plans of its programs. A seat is a tape of its own,
with the memory of programs; who calls takes one that is free, so that several threads can be served at once. Where a
guard misses, the plan whose guard expects what was found is next. No Python is called, and none need be there.
"""

import numpy as np

from tapegrad.core.calling import CallCopy, CallNumber, computes
from tapegrad.core.registers import copy
from tapegrad.core.replaying import MISSED, differ, replay
from tapegrad.core.rows import OK
from tapegrad.memory import Record, array, at, exchange, f4, f8, i8, word
from tapegrad.tape import Header

# What is copied.
ELEMENTS, DOUBLE, SINGLE = range(3)
# What has happened.
SERVED, NO_PROGRAM, NOT_RUN = range(3)


class ServedPlan(Record):
    """A program, at a seat."""

    header = at(Header)
    group = word()  # the same for programs that go apart at guards
    n_given = word()
    given = array(np.int64, "n_given")  # where numbers of the caller's go, by their places; 0 for what is none
    n_numbers = word()
    numbers = array(CallNumber, "n_numbers")
    n_copies = word()
    copies = array(CallCopy, "n_copies")
    n_guards = word()
    guards = array(np.int64, "n_guards")  # the addresses of the steps
    n_made = word()
    made = array(CallCopy, "n_made")
    text = word()
    tables = word()


class Seat(Record):
    """A tape, and the plans there."""

    busy = word()  # the address of its word: 1 while someone has it
    n_plans = word()
    plans = array(np.int64, "n_plans")  # their addresses


class Served(Record):
    """What is known of a function."""

    n_seats = word()
    seats = array(Seat, "n_seats")


def serve(served: Served, given, made):
    """Call a function: `given` are words of arguments, numbers or addresses; `made` of results. What has happened."""
    seat = served.seats[take_seat(served)]
    status = run_served(seat, given, made)
    exchange(seat.busy, 0)
    return status


def take_seat(served):
    """A seat that nobody has."""
    i, n = 0, served.n_seats
    while exchange(served.seats[i].busy, 1):
        i = i + 1 if i + 1 < n else 0
    return i


def run_served(seat, given, made):
    """Find a plan for arguments, and run its program."""
    chosen, tries = -1, 0
    for i in range(seat.n_plans):
        if chosen < 0 and suits(ServedPlan(seat.plans[i]), given):
            chosen = i
    while chosen >= 0 and tries <= seat.n_plans:
        plan = ServedPlan(seat.plans[chosen])
        for i in range(plan.n_copies):
            copied = plan.copies[i]
            source = copied.object if copied.object else i8(given, copied.place + 1)[copied.place]
            _copy(copied.what, copied.target, source, copied.nbytes)
        status = replay(plan.header, plan.text, plan.tables)
        if status == OK:
            for i in range(plan.n_made):
                result = plan.made[i]
                if result.what == ELEMENTS:
                    copy(i8(made, result.place + 1)[result.place], result.object, result.nbytes)
                elif result.what == DOUBLE:
                    i8(made, result.place + 1)[result.place] = i8(result.object, 1)[0]
                else:
                    f8(made, result.place + 1)[result.place] = f4(result.object, 1)[0]
            return SERVED
        if status < MISSED:
            return NOT_RUN
        tries += 1
        chosen = _next(seat, chosen, status - MISSED, given)
    return NO_PROGRAM


def _copy(what, target, source, nbytes):
    if what == ELEMENTS:
        copy(target, source, nbytes)
    elif what == DOUBLE:
        i8(target, 1)[0] = i8(source, 1)[0]
    else:
        f4(target, 1)[0] = f8(source, 1)[0]


def _next(seat, missed, guard, given):
    """The plan of the group whose guard expects what was found; -1 where there is none."""
    plan, found = ServedPlan(seat.plans[missed]), -1
    step = i8(plan.guards[guard], 5)
    for i in range(seat.n_plans):
        other = ServedPlan(seat.plans[i])
        if i == missed or other.group != plan.group or other.n_guards <= guard or found >= 0:
            continue
        expected = i8(other.guards[guard], 5)
        if expected[3] == step[3] and not differ(step[1], expected[2], step[3]) and suits(other, given):
            found = i
    return found


def suits(plan, given):
    """Compute with the caller's numbers as Python would; False where they compare otherwise, or Python would raise."""
    for i in range(plan.n_given):
        if plan.given[i]:
            i8(plan.given[i], 1)[0] = i8(given, i + 1)[i]
    fit = True
    for i in range(plan.n_numbers):
        fit = computes(plan.numbers[i])
        if not fit:
            break
    return fit
