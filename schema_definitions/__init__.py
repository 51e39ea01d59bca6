"""One ODCS contract per table, found as package data so that a zip on the path works like a checkout."""
