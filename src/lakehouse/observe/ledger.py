"""The ledger: every row read or generated ends in exactly one place, or the run fails."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from lakehouse.errors import LedgerImbalance, Violation


@dataclass(frozen=True)
class Ledger:
    """Rows of one target table in one run.

    ``read`` came from the driving input, ``generated`` were made by the transform (the EUR row of a day's rates).
    ``duplicates`` repeat a row that is there with the same payload, ``superseded`` are older than the row that
    stays, ``conflicts`` have its key and time but another payload, ``unchanged`` were recomputed to the same value.
    """

    read: int
    generated: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    quarantined: int = 0
    duplicates: int = 0
    superseded: int = 0
    conflicts: int = 0

    @property
    def accounted(self) -> int:
        """Rows that ended somewhere."""
        return (
            self.inserted
            + self.updated
            + self.unchanged
            + self.quarantined
            + self.duplicates
            + self.superseded
            + self.conflicts
        )

    def require_balance(self, table: str) -> Ledger:
        """Return self, or raise LedgerImbalance."""
        if self.read + self.generated != self.accounted:
            raise LedgerImbalance(
                f"{table}: rows do not balance",
                violations=(
                    Violation(
                        table,
                        f"{self.read} read + {self.generated} generated",
                        f"{self.accounted} accounted for",
                    ),
                ),
                hint=f"nothing downstream has run; the counts were {asdict(self)}. Rerun the task; if it repeats, "
                "compare the landing manifest with the table for this run id",
            )
        return self
