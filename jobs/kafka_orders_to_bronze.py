"""Load a bounded range of order events from Kafka into Bronze."""

from lakehouse.cli import main
from lakehouse.flows.ingest import ingest

if __name__ == "__main__":
    main("kafka_orders_to_bronze", lambda job: ingest(job, "kafka"), __doc__)
