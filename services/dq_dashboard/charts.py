"""Charts that say by form what they say by colour, and in words what they are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

AT = "Run at (UTC)"


def over_time(
    rows: Sequence[Mapping[str, Any]],
    what: str,
    words: str,
    *,
    by: str = "",
    scale: tuple[int, int] | None = None,
) -> None:
    """A line of a column over the time in ``AT``; ``by`` is the column that tells lines apart."""
    import altair as alt  # half a second, which a page without a chart does not wait for

    line = alt.Chart({"values": [_plain(row) for row in rows]}).mark_line(point=alt.OverlayMarkDef(size=60))
    domain = alt.Undefined if scale is None else alt.Scale(domain=scale)
    channels: dict[str, Any] = {
        "x": alt.X(f"{AT}:T", axis=alt.Axis(format="%d %b", title=None, tickCount="day")),
        "y": alt.Y(f"{what}:Q", scale=domain),
    }
    if by:
        legend = alt.Legend(orient="top", title=None)
        channels |= {
            "color": alt.Color(f"{by}:N", legend=legend),
            "strokeDash": alt.StrokeDash(f"{by}:N"),
            "shape": alt.Shape(f"{by}:N"),
        }
    st.altair_chart(line.encode(**channels).properties(height=260, description=words))


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: f"{said:%Y-%m-%dT%H:%M:%S}" if name == AT else said for name, said in row.items()}
