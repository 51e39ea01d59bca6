"""Order events from Kafka into Bronze: the daily run's task, or with --stream the stream itself."""

from lakehouse.cli import main
from lakehouse.flows.stream import options, to_bronze

if __name__ == "__main__":
    main("kafka_orders_to_bronze", to_bronze, __doc__, options=options)
