"""The core: compiled code that plans what a sweep needs, and sweeps it.

From the top:

    sweeps      forward computes values, reverse accumulates adjoints: region by region
    blocks      runs a region block by block, and shares its chunks out to threads (`workers`)
    scalars     sweeps graphs of one-element rows, row by row
    programs    makes a program of a region: of `registers` and instructions, in reverse with `partials`
    walks       goes through memory of other layouts
    schedule    which rows are needed, and in which regions
    storage     memory for values and adjoints; `guards` guard it in a debug mode

All of it is functions of int64, which read the arrays of a tape at the addresses in its header.
"""
