"""One module per table: DataFrames in, DataFrame out.

Nothing in here reads, writes, counts or asks for the time. The rules are written out for a reader who wants
to recompute Silver and Gold by other means in docs/transformations.md.
"""
