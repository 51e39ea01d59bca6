"""The page of data quality: the runner's reports and the lakehouse's verdicts in one place."""
