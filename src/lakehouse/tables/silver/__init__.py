"""Silver: one module per table, each with two steps.

``transform(*bronze)`` turns every Bronze row into a row of the Silver table (row by row, nothing dropped).
``resolve(source, stored)`` decides what becomes of each of them, given the stored rows that share the
columns SCOPE with the source. It returns the Silver columns and

* ``_class``: inserted, updated (to be written), duplicate, superseded, conflict (counted only);
* ``_generated``: true for a row that no Bronze row stands behind (only silver.fx_rates makes such rows).

Every module states TABLE, INPUTS (the Bronze tables in the order of transform's arguments), KEY, ORDER (its
total order, see lakehouse.tables.order), BUSINESS (the columns behind ``_payload_hash``) and SCOPE.
"""
