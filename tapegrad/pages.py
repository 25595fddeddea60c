"""Where the pages say more of an error: what its message ends with."""

ERRORS = "docs/pages/errors.md"  # its headings are the anchors

IN_PLACE, SWEPT_TWICE, NAN, JITTED, THREADS, NUMPY = (
    f"\n  See {ERRORS}#{anchor}"
    for anchor in (
        "written-in-place",
        "swept-twice",
        "nan-in-a-gradient",
        "not-differentiable",
        "another-threads-tape",
        "numpy-would-lose-the-derivative",
    )
)
