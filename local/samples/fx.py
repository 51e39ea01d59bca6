"""Euro reference rates in the ECB's own wide form: one row per working day, newest first."""

from __future__ import annotations

from datetime import date, timedelta

from local.samples.base import Flaws, Spec

NO_QUOTE = "N/A"

# The columns of eurofxref-hist.csv in their order.
COLUMNS = (
    "USD", "JPY", "BGN", "CYP", "CZK", "DKK", "EEK", "GBP", "HUF", "LTL", "LVL", "MTL", "PLN", "ROL", "RON", "SEK",
    "SIT", "SKK", "CHF", "ISK", "NOK", "HRK", "RUB", "TRL", "TRY", "AUD", "BRL", "CAD", "CNY", "HKD", "IDR", "ILS",
    "INR", "KRW", "MXN", "MYR", "NZD", "PHP", "SGD", "THB", "ZAR",
)  # fmt: skip

# Currencies that joined the euro or are no longer quoted keep their column and say N/A.
LAST_QUOTE = {
    "CYP": date(2007, 12, 31),
    "EEK": date(2010, 12, 31),
    "LTL": date(2014, 12, 31),
    "LVL": date(2013, 12, 31),
    "MTL": date(2007, 12, 31),
    "ROL": date(2005, 6, 30),
    "SIT": date(2006, 12, 29),
    "SKK": date(2008, 12, 31),
    "HRK": date(2022, 12, 30),
    "RUB": date(2022, 3, 1),
    "TRL": date(2004, 12, 31),
    "BGN": date(2025, 12, 31),
}

# Level and decimals of each quoted currency: units for one euro.
LEVELS: dict[str, tuple[float, int]] = {
    "USD": (1.1, 4), "JPY": (163.0, 2), "BGN": (1.9558, 4), "CZK": (24.9, 3), "DKK": (7.46, 4), "GBP": (0.85, 5),
    "HUF": (398.0, 2), "PLN": (4.28, 4), "RON": (5.05, 4), "SEK": (11.2, 4), "CHF": (0.945, 4), "ISK": (146.0, 1),
    "NOK": (11.7, 4), "TRY": (44.0, 4), "AUD": (1.72, 4), "BRL": (6.2, 4), "CAD": (1.56, 4), "CNY": (8.0, 4),
    "HKD": (8.7, 4), "IDR": (18200.0, 2), "ILS": (3.9, 4), "INR": (97.0, 4), "KRW": (1580.0, 2), "MXN": (21.3, 4),
    "MYR": (4.8, 4), "NZD": (1.9, 4), "PHP": (64.0, 3), "SGD": (1.47, 4), "THB": (37.5, 3), "ZAR": (20.1, 4),
}  # fmt: skip

# How much a sample quotes before the first order, so that every order has an earlier quote.
LEAD_DAYS = 40


def easter_sunday(year: int) -> date:
    """Gregorian Easter (the anonymous algorithm)."""
    a, b, c = year % 19, year // 100, year % 100
    d, e = divmod(b, 4)
    g = (8 * b + 13) // 25
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    weekday = (32 + 2 * e + 2 * i - h - k) % 7
    m = (a + 11 * h + 22 * weekday) // 451
    month, day = divmod(h + weekday - 7 * m + 114, 31)
    return date(year, month, day + 1)


def target_holidays(year: int) -> frozenset[date]:
    """Days on which TARGET is closed and the ECB publishes no rates."""
    easter = easter_sunday(year)
    return frozenset(
        {
            date(year, 1, 1),
            easter - timedelta(days=2),
            easter + timedelta(days=1),
            date(year, 5, 1),
            date(year, 12, 25),
            date(year, 12, 26),
        }
    )


def business_days(first: date, last: date) -> list[date]:
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return [day for day in days if day.weekday() < 5 and day not in target_holidays(day.year)]


def rates(spec: Spec, last: date) -> list[tuple[date, dict[str, str]]]:
    """Quotes of all working days up to and including `last`, oldest first.

    The walk starts at a fixed day and takes its steps in order, so a longer history only adds days.
    """
    first = spec.until - timedelta(days=730 + LEAD_DAYS)
    rng = spec.rng("fx")
    level = {ccy: start for ccy, (start, _) in LEVELS.items()}
    table: list[tuple[date, dict[str, str]]] = []
    for day in business_days(first, last):
        quotes: dict[str, str] = {}
        for ccy in COLUMNS:
            if ccy not in LEVELS:
                quotes[ccy] = NO_QUOTE
                continue
            if ccy != "BGN":  # pegged
                level[ccy] *= 1 + rng.gauss(0, 0.0005 if ccy == "DKK" else 0.0035)
            gone = ccy in LAST_QUOTE and day > LAST_QUOTE[ccy]
            quotes[ccy] = NO_QUOTE if gone else f"{level[ccy]:.{LEVELS[ccy][1]}f}"
        table.append((day, quotes))
    return table


def history_rows(spec: Spec, flaws: Flaws, last: date) -> list[list[str]]:
    """The table with its gaps, newest day first, with the ECB's trailing empty column."""
    table = rates(spec, last)
    gaps = []
    if spec.flaws != "none":
        rng = spec.rng("fx gaps")
        for index in sorted(rng.sample(range(20, len(table) - 20), 6)):
            day, quotes = table[index]
            ccy = rng.choice(("NOK", "CZK", "AUD"))
            if day < spec.until:
                quotes[ccy] = NO_QUOTE
                gaps.append(f"{day.isoformat()} {ccy}")
    flaws.declare("bronze.fx_rates", "missing_quote", "keep", gaps)
    header = ["Date", *COLUMNS, ""]
    return [
        header,
        *([day.isoformat(), *(quotes[c] for c in COLUMNS), ""] for day, quotes in reversed(table)),
    ]
