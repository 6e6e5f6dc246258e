"""Whole tables of cross-validations: planned from a file, run on many processes or machines, resumable, printed.

`spec` reads a sweep file, `grid` expands it into the table's cells, `plan` joins the cells with what the store holds,
`driver` runs what is missing on an engine (`processes` or `ray_engine`), `ledger` (with `serfuse.claims`) is the folder
on disk, `execution` is all of it in one call, `table` and `render` show the result in the layout of the paper.
"""
