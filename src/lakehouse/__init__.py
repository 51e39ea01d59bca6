"""The lakehouse library: contracts, sources, gates and tables, in layers that import downward only."""
