"""Great Expectations: holds a gate's measures against their limits, and for audits the stored rows against the rules.

It takes about two seconds to import, once a process, and is therefore imported with its first use.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from lakehouse.contracts import Contract
from lakehouse.quality.metrics import Measure, as_row
from lakehouse.quality.verdicts import RuleResult

if TYPE_CHECKING:
    from great_expectations.core import ExpectationSuite, ExpectationSuiteValidationResult
    from great_expectations.data_context.data_context.ephemeral_data_context import EphemeralDataContext
    from pyspark.sql import DataFrame


# A context holds sources and assets by name: one validation at a time.
_LOCK = threading.Lock()


def prepare() -> None:
    """Import Great Expectations, so that the time it takes can pass while Spark works."""
    with _LOCK:
        _context()


def decide(contract: Contract, measures: Sequence[Measure]) -> tuple[RuleResult, ...]:
    """The result of each rule, in the order of the measures."""
    import pandas as pd  # type: ignore[import-untyped]  # its stubs are not among our requirements

    row = {name: None if value is None else float(value) for name, value in as_row(measures).items()}
    frame = pd.DataFrame([row], dtype="float64")
    with _LOCK:
        result = _batch("metrics", frame).validate(_suite(contract, measures), result_format="BOOLEAN_ONLY")
    passed = _by_rule(result)
    return tuple(
        RuleResult(
            name=each.rule,
            severity=each.severity,
            passed=passed[each.rule],
            observed=each.observed,
            expected=each.expected,
            message=each.message,
        )
        for each in measures
    )


def audit(frame: DataFrame, contract: Contract, run_time: datetime | None = None) -> tuple[RuleResult, ...]:
    """The contract's rules as Great Expectations itself finds them on stored rows, in place of our one pass.

    Rules that stored rows cannot answer (shares of a run, partners in other tables) are left out.
    """
    from lakehouse.contracts.gx import suite

    result = _batch("rows", frame).validate(
        suite(contract, run_time), result_format={"result_format": "BASIC"}
    )
    _by_rule(result)  # raises where an expectation could not be evaluated
    results: list[RuleResult] = []
    for each in result.results:
        config: Any = each.expectation_config
        broken = each.result.get("unexpected_count")
        observed = each.result.get("observed_value") if broken is None else f"{broken} rows break it"
        results.append(
            RuleResult(
                name=_rule(config),
                severity=config.severity.value,
                passed=bool(each.success),
                observed=str(observed),
                expected="it to hold on every row",
                message=config.meta["message"],
            )
        )
    return tuple(results)


def _rule(expectation: Any) -> str:
    """The contract rule that an expectation, or its configuration, stands for."""
    return str(expectation.meta["rule"])


def _suite(contract: Contract, measures: Sequence[Measure]) -> ExpectationSuite:
    """The contract's suite for measures, without rules that were not measured, and with what the gate adds."""
    from great_expectations.core import ExpectationSuite
    from great_expectations.expectations import (  # type: ignore[attr-defined]  # re-exported without __all__
        ExpectColumnValuesToBeBetween,
    )

    from lakehouse.contracts.gx import metrics_suite

    declared = {_rule(each): each for each in metrics_suite(contract).expectations}
    expectations: list[Any] = []
    for each in measures:
        limits: dict[str, Any] = {
            "min_value": each.low,
            "max_value": each.high,
            "severity": each.severity,
            "meta": {"rule": each.rule, "kind": each.kind, "message": each.message},
        }
        known = declared.get(each.rule)
        expectations.append(known or ExpectColumnValuesToBeBetween(column=each.rule, **limits))
    return ExpectationSuite(name=f"{contract.name}.gate", expectations=expectations)


def _by_rule(result: ExpectationSuiteValidationResult) -> dict[str, bool]:
    """Whether each rule held. An expectation that could not be evaluated is an error, not an answer."""
    passed: dict[str, bool] = {}
    for each in result.results:
        name = _rule(each.expectation_config)
        if (each.exception_info or {}).get("raised_exception"):
            raise RuntimeError(f"the rule {name} could not be evaluated: {each.exception_info}")
        passed[name] = bool(each.success)
    return passed


def _batch(kind: str, frame: Any) -> Any:
    context = _context()
    source: Any
    if kind == "metrics":
        source = context.data_sources.add_or_update_pandas(name=kind)
    else:
        source = context.data_sources.add_or_update_spark(name=kind, persist=False)
    asset = source.add_dataframe_asset(name=kind)
    return asset.add_batch_definition_whole_dataframe(name=kind).get_batch({"dataframe": frame})


@cache
def _context() -> EphemeralDataContext:
    """One context a process, in memory: it reports to nobody, writes no documentation and draws no progress bars."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with warnings.catch_warnings():
        # Its own use of modules that Python renamed is nothing that a reader of a job's log can change.
        warnings.simplefilter("ignore", DeprecationWarning)
        import great_expectations
        from great_expectations.data_context.types.base import (
            DataContextConfig,
            InMemoryStoreBackendDefaults,
            ProgressBarsConfig,
        )

        logging.getLogger("great_expectations").setLevel(logging.WARNING)
        config = DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
            progress_bars=ProgressBarsConfig(globally=False, metric_calculations=False),
            analytics_enabled=False,
        )
        return great_expectations.get_context(mode="ephemeral", project_config=config)
