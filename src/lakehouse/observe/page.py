"""The status page of a run: one HTML file that needs nothing else, for a screen or a phone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined

from lakehouse.observe.outcome import LedgerCounts, Outcome


@dataclass(frozen=True)
class Status:
    """All that the page shows. ``verdicts`` are those of the run, ``ages`` in seconds by table, ``waiting`` rows by
    (table, reason), ``trend`` days with verdicts by outcome, ``costs`` in USD by job, ``logs`` where logs lie by
    job; ``graph`` is SVG of our own."""

    run_id: str
    environment: str
    made_at: datetime
    outcomes: Sequence[Outcome]
    verdicts: Sequence[Mapping[str, Any]] = ()
    trend: Sequence[tuple[str, Mapping[str, int]]] = ()
    ages: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, Decimal | None] = field(default_factory=dict)
    waiting: Mapping[tuple[str, str], int] = field(default_factory=dict)
    logs: Mapping[str, str] = field(default_factory=dict)
    graph: str = ""
    missing: Sequence[str] = ()

    @property
    def failed(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if outcome.status != "succeeded"]


def render(status: Status) -> str:
    """The page. Every value is escaped."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    begun = min((outcome.started_at for outcome in status.outcomes), default=status.made_at)
    ended = max((each.finished_at or each.started_at for each in status.outcomes), default=status.made_at)
    span = max((ended - begun).total_seconds(), 0.001)
    bars = [
        {
            "outcome": each,
            "left": round(100 * (each.started_at - begun).total_seconds() / span, 2),
            "width": max(0.5, round(100 * (each.seconds or 0) / span, 2)),
        }
        for each in status.outcomes
    ]
    ledger = [
        (table.table, table.ledger)
        for each in status.outcomes
        for table in each.tables
        if table.ledger is not None
    ]
    # What no table has is no column: a table of the run has four or five of the nine.
    counted = [
        name for name in LedgerCounts.model_fields if any(getattr(counts, name) for _, counts in ledger)
    ]
    judged = {verdict["table"] for verdict in status.verdicts}
    total = sum((usd for usd in status.costs.values() if usd is not None), Decimal(0))
    most = max((sum(counts.values()) for _, counts in status.trend), default=1)
    return environment.from_string(_PAGE).render(
        s=status,
        bars=bars,
        ledger=ledger,
        counted=counted,
        judged=judged,
        span=span,
        total=total,
        most=most,
        age=_age,
        console=_console,
    )


def _console(folder: str) -> str:
    """Where AWS's console shows a folder of S3."""
    bucket, _, key = folder.removeprefix("s3://").partition("/")
    return f"https://console.aws.amazon.com/s3/buckets/{quote(bucket)}?prefix={quote(key)}"


def _age(seconds: float) -> str:
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} minutes"
    return f"{minutes // 60} hours" if minutes < 2880 else f"{minutes // 1440} days"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ "failed" if s.failed else "ok" }}: lakehouse run {{ s.run_id[:16] }}</title>
<style>
:root{color-scheme:light dark;--ink:#1f2933;--quiet:#52606d;--back:#fff;--card:#f5f7fa;--line:#cbd2d9;--good:#2f855a;
--warn:#b7791f;--bad:#c53030;--bar:#3e7cb1}
@media(prefers-color-scheme:dark){:root{--ink:#e4e7eb;--quiet:#9aa5b1;--back:#12181f;--card:#1f2933;--line:#3e4c59;
--good:#68d391;--warn:#f6ad55;--bad:#fc8181;--bar:#63a4dd}}
*{box-sizing:border-box}body{margin:0 auto;max-width:70rem;padding:1rem;font:16px/1.45 system-ui,sans-serif;
color:var(--ink);background:var(--back)}h1{font-size:1.35rem;margin:.2rem 0}h2{font-size:1.1rem;margin:1.8rem 0 .5rem}
p{margin:.3rem 0}.quiet{color:var(--quiet)}.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}
a{color:inherit}.wide svg{max-width:100%;min-width:62rem;height:auto}
code{overflow-wrap:anywhere}.wide{overflow-x:auto;-webkit-overflow-scrolling:touch}
table{border-collapse:collapse;font-size:.9rem}th,td{padding:.3rem .45rem;text-align:left;vertical-align:top;
border-bottom:1px solid var(--line);white-space:nowrap}td.words{white-space:normal;overflow-wrap:anywhere}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}tr:target{background:var(--card)}
@media(max-width:45rem){thead{display:none}table,tbody,tr,td{display:block}tr{padding:.4rem 0;
border-bottom:1px solid var(--line)}td,td.n{display:flex;gap:.6rem;justify-content:space-between;text-align:right;
white-space:normal;overflow-wrap:anywhere;padding:.05rem 0;border:0}
td:first-child{font-weight:600;text-align:left}td:empty{display:none}
td[data-of]::before{content:attr(data-of);color:var(--quiet);font-weight:400;flex:none}}
.job{margin:.7rem 0}.job p{font-size:.9rem;overflow-wrap:anywhere}.job p:first-child{font-size:1rem}
.job div{height:.6rem;background:var(--card);position:relative}
.job i{position:absolute;top:0;bottom:0;background:var(--bar)}.job.bad i{background:var(--bad)}
.error{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--card);padding:.6rem;font-size:.85rem}
.stack{display:flex;height:.8rem;background:var(--card)}.stack i{display:block}
</style></head><body>
<h1>{% if s.failed %}<span class="bad">Failed</span>{% elif s.outcomes %}<span class="good">Succeeded</span>{% else %}
No job has ended{% endif %} · {{ s.environment }}</h1>
<p class="quiet">Run <code>{{ s.run_id }}</code>, {{ s.outcomes|length }}
{{ "job" if s.outcomes|length == 1 else "jobs" }} in {{ "%.0f"|format(span) }} s;
page of {{ s.made_at.strftime("%Y-%m-%d %H:%M") }} UTC</p>
{% for each in s.missing %}<p class="warn">Not shown: {{ each }}</p>
{% endfor %}
<h2 id="jobs">Jobs</h2>
{% for bar in bars %}{% set o = bar.outcome %}
<div class="job {{ "bad" if o.status != "succeeded" }}"><p><strong>{{ o.job }}</strong>
<span class="quiet">{{ o.started_at.strftime("%H:%M:%S") }}, {{ "%.1f"|format(o.seconds or 0) }} s</span>
{% if o.status != "succeeded" %}<span class="bad">{{ o.status }}</span>{% endif %}</p>
<div><i style="left:{{ bar.left }}%;width:{{ bar.width }}%"></i></div>
{% if o.error %}<p class="error">{{ o.error.code }}: {{ o.error.message }}
What to do: {{ o.error.hint }}</p>{% endif %}
{% if o.notes|length > 3 %}<details><summary>{{ o.notes|length }} notes</summary>{% endif %}
{% for note in o.notes %}<p>{{ note }}</p>
{% endfor %}
{% if o.notes|length > 3 %}</details>{% endif %}
{% for t in o.tables|selectattr("ledger") %}{{ '<p class="quiet">wrote '|safe if loop.first }}
<a href="#rows-{{ t.table }}">{{ t.table }}</a>{{ "</p>"|safe if loop.last else ", " }}{% endfor %}
{% if o.verdicts %}<p class="quiet">judged {% for v in o.verdicts %}<a href="#verdict-{{ v.table }}">{{ v.table }}</a>{{
", " if not loop.last }}{% endfor %}</p>{% endif %}
{% if o.job in s.logs %}<p class="quiet">{% if s.environment == "local" %}log <code>{{ s.logs[o.job] }}</code>{% else %}
<a href="{{ console(s.logs[o.job]) }}">log</a>{% endif %}</p>{% endif %}</div>
{% endfor %}
<h2 id="ledger">Rows</h2>
{% if ledger %}<div class="wide"><table><thead><tr><th>table</th>{% for name in counted %}<th class="n">{{ name }}</th>
{% endfor %}</tr></thead><tbody>
{% for table, counts in ledger %}<tr id="rows-{{ table }}"><td>{% if table in judged %}<a href="#verdict-{{ table }}">{{
table }}</a>{% else %}{{ table }}{% endif %}</td>{% for name in counted %}<td class="n" data-of="{{ name }}">{{
"{:,}".format(counts[name]) if counts[name] else "" }}</td>{% endfor %}</tr>
{% endfor %}</tbody></table></div>{% else %}<p>No row was moved.</p>{% endif %}
<h2 id="verdicts">Verdicts</h2>
{% if s.verdicts %}<div class="wide"><table><thead><tr><th>table</th><th>verdict</th><th class="n">version</th>
<th>rules that do not hold</th></tr></thead><tbody>
{% for v in s.verdicts %}<tr id="verdict-{{ v.table }}"><td>{{ v.table }}</td>
<td class="{{ {"passed": "good", "warned": "warn"}.get(v.outcome, "bad") }}" data-of="verdict">{{ v.outcome }}</td>
<td class="n" data-of="version">{{ v.version if v.version is not none else "" }}</td>
<td class="words" data-of="rules">{% for r in v.rules if not r.passed %}
{{ r.name }}: {{ r.observed }}, expected {{ r.expected }}{{ "; " if not loop.last }}{% else %}
all {{ v.rules|length }} hold{% endfor %}</td></tr>
{% endfor %}</tbody></table></div>{% else %}<p>No gate has judged in this run.</p>{% endif %}
<h2 id="trend">Quality by day</h2>
{% for day, counts in s.trend %}<p><span class="quiet">{{ day }}</span> {{ counts.get("passed", 0) }} passed,
{{ counts.get("warned", 0) }} warned, {{ counts.get("failed", 0) }} failed</p>
<div class="stack">{% for name, colour in (("passed", "good"), ("warned", "warn"), ("failed", "bad")) %}
<i style="width:{{ (100 * counts.get(name, 0) / most)|round(2) }}%;background:var(--{{ colour }})"></i>
{% endfor %}</div>
{% else %}<p>No verdicts yet.</p>{% endfor %}
<h2 id="freshness">Freshness</h2>
{% if s.ages %}<div class="wide"><table><thead><tr><th>table</th><th>certified or published</th></tr></thead><tbody>
{% for table, seconds in s.ages|dictsort %}<tr><td>{{ table }}</td>
<td data-of="{{ "published" if table.startswith("gold.") else "certified" }}">{{ age(seconds) }} ago</td></tr>
{% endfor %}</tbody></table></div>{% else %}<p>Nothing is certified yet.</p>{% endif %}
<h2 id="cost">Cost</h2>
{% if s.costs %}<p>{{ "%.4f"|format(total) }} USD, of jobs whose use is known</p>
<div class="wide"><table><thead><tr><th>job</th><th class="n">USD</th></tr></thead><tbody>
{% for job, usd in s.costs|dictsort %}<tr><td>{{ job }}</td>
<td class="n" data-of="USD">{{ "not billed yet" if usd is none else
"%.6f"|format(usd) }}</td></tr>
{% endfor %}</tbody></table></div>{% else %}<p>Not recorded yet: the end of a run records it.</p>{% endif %}
<h2 id="quarantine">Refused rows awaiting a decision</h2>
{% if s.waiting %}<div class="wide"><table><thead><tr><th>table</th><th>reason</th><th class="n">rows</th></tr></thead>
<tbody>
{% for key, count in s.waiting|dictsort %}<tr><td>{{ key[0] }}</td><td data-of="reason">{{ key[1] }}</td>
<td class="n" data-of="rows">{{
"{:,}".format(count) }}</td></tr>
{% endfor %}</tbody></table></div><p class="quiet">A row counts under each of its reasons;
<code>scripts/emr_submit.sh quarantine list</code> shows more.</p>{% else %}<p>None.</p>{% endif %}
<h2 id="lineage">Lineage</h2>
{% if s.graph %}<div class="wide">{{ s.graph|safe }}</div>{% else %}<p>No table was written, or its events lie
elsewhere.</p>{% endif %}
</body></html>
"""
