"""The data-quality runner for Snowflake: finds the active tables, checks each in one scan, writes one report.

``runner`` tells the story; ``run_automatic_dq_checks`` is the Lambda's handler and ``cli`` what people type.
"""
