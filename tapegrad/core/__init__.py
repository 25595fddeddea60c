"""The core: compiled code that plans what a sweep needs, and sweeps it.

From the top:

    calling     calls of compiled functions: what Python's objects hold is read, programs are run, results are made
    passes      makes the steps of a program fewer
    replaying   runs again what an observer was told of sweeps
    notes       makes steps of a program of what was noted for an observer
    sweeps      forward computes values, reverse accumulates adjoints: region by region
    blocks      runs a region block by block, and shares its chunks out to threads (`workers`)
    scalars     sweeps graphs of one-element rows, row by row
    programs    makes a program of a region (a record in `tables`): of `registers`, in reverse with `partials`
    walks       goes through memory of other layouts
    schedule    which rows are needed, and in which regions
    adjoints    where the memory of adjoints is: that of a view is a part of its base's
    readers     what is still to be read: a write in place has the memory of what is not
    reclaim     drops rows, values and slots that nothing can reach
    rows        rows and slots as compiled code sees them
    storage     memory for values and adjoints; `guards` guard it in a debug mode
    observed    tells an observer what a sweep does

All of it is functions of int64 and of records: `tape` is a tape's header (`tape.py`), with the plan and the progress of
a sweep in it. Those that are a `part` are compiled each on its own, and call each other by name (`memory.py`).
"""
