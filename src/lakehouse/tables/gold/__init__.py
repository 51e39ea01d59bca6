"""Gold: one module per table, each a function of certified Silver (and, for frozen prices, of the published Gold)."""
