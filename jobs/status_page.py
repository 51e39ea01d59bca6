"""The run as one HTML page: reports/status/<run>.html and latest.html in the lake; never fails a run."""

from lakehouse.cli import main
from lakehouse.flows.report import report

if __name__ == "__main__":
    main("status_page", report, __doc__)
